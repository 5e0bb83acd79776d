package redirecturi

import "testing"

func TestBrowserIP(t *testing.T) {
	for _, c := range []struct {
		host, ip string // ip is "name" if DNS is asked
	}{
		{"example.com", "name"}, {"1.example", "name"}, {"0xg", "name"}, {"a.0x1g", "name"}, {"", "name"}, {"-", "name"}, {"1.2.3.4a", "name"},
		{"1", "0.0.0.1"}, {"0", "0.0.0.0"}, {"0x", "0.0.0.0"}, {"127.1", "127.0.0.1"}, {"4294967295", "255.255.255.255"}, {"1.2.3.0x4", "1.2.3.4"},
		{"256", "0.0.1.0"}, {"1.2.65535", "1.2.255.255"}, {"1.2.3.4.", "1.2.3.4"}, {"[::1]", "::1"}, {"::ffff:1.2.3.4", "1.2.3.4"},
		{"4294967296", "invalid IP"}, {"1.2.3.256", "invalid IP"}, {"1.2.65536", "invalid IP"}, {"256.1.1.1", "invalid IP"}, {"1.2.3.4.5", "invalid IP"},
		{"1.2.3.4.5.6.7", "invalid IP"}, {"08", "invalid IP"}, {"a.1", "invalid IP"}, {"1..2", "invalid IP"}, {"99999999999999999999999", "invalid IP"},
		{"::g", "invalid IP"}, {"fe80::1%eth0", "invalid IP"},
	} {
		got := "name"
		if ip, isIP := BrowserIP(c.host); isIP {
			got = ip.String()
		}
		if got != c.ip {
			t.Errorf("%q: %s, want %s", c.host, got, c.ip)
		}
	}
}
