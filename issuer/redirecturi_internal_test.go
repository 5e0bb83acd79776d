package issuer

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Whatever spelling of an address a redirect URI or an entry has, it is the address that browsers
// go to.
func TestADeniedAddressIsDeniedInEverySpelling(t *testing.T) {
	for _, c := range []struct {
		name, entry, uri string
		denied           bool
	}{
		{"as it is written", "93.184.216.34", "https://93.184.216.34/cb", true},
		{"decimal", "93.184.216.34", "https://1572395042/cb", true},
		{"hexadecimal", "93.184.216.34", "https://0x5db8d822/cb", true},
		{"hexadecimal in capitals", "93.184.216.34", "https://0X5DB8D822/cb", true},
		{"octal parts", "93.184.216.34", "https://0135.0270.0330.042/cb", true},
		{"mixed parts", "93.184.216.34", "https://0x5d.184.0330.34/cb", true},
		{"two parts", "93.184.216.34", "https://93.12113954/cb", true},
		{"three parts", "93.184.216.34", "https://93.184.55330/cb", true},
		{"leading zeros that change the number", "93.184.216.34", "https://093.184.216.34/cb", false},
		{"a trailing dot", "93.184.216.34", "https://93.184.216.34./cb", true},
		{"with a port", "93.184.216.34", "https://1572395042:8443/cb", true},
		{"a mapped address", "93.184.216.34", "https://[::ffff:93.184.216.34]/cb", true},
		{"a mapped address in hexadecimal", "93.184.216.34", "https://[::ffff:5db8:d822]/cb", true},
		{"another address", "93.184.216.34", "https://1572395043/cb", false},
		{"an entry in decimal", "1572395042", "https://93.184.216.34/cb", true},
		{"an entry that is a mapped address", "::ffff:5db8:d822", "https://93.184.216.34/cb", true},
		{"IPv6 in full", "2001:db8::1", "https://[2001:0DB8:0:0:0:0:0:1]/cb", true},
		{"an entry in full", "2001:db8:0:0:0:0:0:1", "https://[2001:db8::1]/cb", true},
		{"another IPv6 address", "2001:db8::1", "https://[2001:db8::2]/cb", false},
		{"a name that begins like a number", "93.184.216.34", "https://1572395042.example/cb", false},
		{"a name in capitals", "evil.example", "https://EVIL.example/cb", true},
		{"a name with a dot at its end", "evil.example", "https://evil.example./cb", true},
		{"a name with its default port", "evil.example", "https://evil.example:443/cb", true},
		{"a name below it", "evil.example", "https://a.b.evil.example/cb", true},
		{"a private-use scheme in capitals", "com.evil.app", "COM.evil.app:/cb", true},
		{"a private-use scheme's host in capitals", "evil.example", "com.evil.app://EVIL.example/cb", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := OpenDenyList(fmt.Sprintf(`{"v":1,"serial":1,"redirectHosts":{%q:""}}`, c.entry), nil)
			if err != nil {
				t.Fatal(err)
			}
			s := &Issuer{Config: Config{Deny: list, Now: time.Now, Log: slog.New(slog.DiscardHandler)}}
			if err := s.redirectDenied(t.Context(), c.uri); (err != nil) != c.denied {
				t.Errorf("denied %v, error %v", !c.denied, err)
			}
		})
	}
}

// The judgement of what is an address at all is the browsers': WHATWG URL, "ends in a number".
// Whoever registers hundreds of addresses makes nobody compare each with all others.
func TestARegistrationOfHundredsOfAddressesCostsLittle(t *testing.T) {
	var uris []string
	for i := range 800 {
		uris = append(uris, fmt.Sprintf("http://[::1]/%x", i))
	}
	var err error
	cost := testing.AllocsPerRun(1, func() {
		_, err = RegisterClient(nil, sealing.TenantID{}, nil, ClientMetadata{RedirectURIs: uris, TokenEndpointAuthMethod: "none"}, time.Now())
	})
	if err == nil || asError(err).Code != "invalid_redirect_uri" {
		t.Errorf("error %v", err)
	}
	if cost > 10_000 {
		t.Errorf("%.0f allocations", cost)
	}
}
