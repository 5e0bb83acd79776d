package navigation

import (
	"net/http"
	"strings"
	"testing"
)

func TestDoubtAboutWhoBeganANavigation(t *testing.T) {
	const site = "https://app.example/callback?x=y"
	good := func(changes ...string) http.Header {
		h := http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}, "Sec-Fetch-User": {"?1"}, "Sec-Fetch-Site": {"cross-site"}, "Referer": {"https://app.example/"}}
		for i := 0; i < len(changes); i += 2 {
			if h.Del(changes[i]); changes[i+1] != "" {
				h[changes[i]] = strings.Split(changes[i+1], "\n")
			}
		}
		return h
	}
	for _, c := range []struct {
		name   string
		h      http.Header
		site   string
		doubts string // part of what is said; empty: none
	}{
		{"a click on the client's page", good(), site, ""},
		{"the page's whole address", good("Referer", "https://app.example/servers?add=1"), site, ""},
		{"a client on a sibling of this host", good("Sec-Fetch-Site", "same-site"), site, ""},
		{"a client on this host", good("Sec-Fetch-Site", "same-origin"), site, ""},
		{"an address in capitals", good(), "https://APP.example:443/", ""},
		{"nothing said", http.Header{}, site, "does not send Sec-Fetch-Mode"},
		{"a script's request", good("Sec-Fetch-Mode", "cors"), site, "no navigation"},
		{"a frame's mode of older browsers", good("Sec-Fetch-Mode", "nested-navigate"), site, "no navigation"},
		{"a frame", good("Sec-Fetch-Dest", "iframe"), site, "whole tab"},
		{"an object", good("Sec-Fetch-Dest", "object"), site, "whole tab"},
		{"no destination", good("Sec-Fetch-Dest", ""), site, "does not send Sec-Fetch-Dest"},
		{"a script's navigation, without a click", good("Sec-Fetch-User", ""), site, "does not send Sec-Fetch-User"},
		{"a click that is denied", good("Sec-Fetch-User", "?0"), site, "no click"},
		{"two words on the click", good("Sec-Fetch-User", "?1\n?1"), site, "no click"},
		{"typed in, or from a mail program", good("Sec-Fetch-Site", "none", "Referer", ""), site, "no page"},
		{"the same with a page's name", good("Sec-Fetch-Site", "none"), site, "no page"},
		{"no word on the site", good("Sec-Fetch-Site", ""), site, "does not send Sec-Fetch-Site"},
		{"a page that hides its name", good("Referer", ""), site, "does not say its name"},
		{"a stranger's page", good("Referer", "https://evil.example/"), site, "another site"},
		{"a stranger's page with the client's name in its address", good("Referer", "https://evil.example/https://app.example/"), site, "another site"},
		{"a host that begins alike", good("Referer", "https://app.example.evil.example/"), site, "another site"},
		{"another port of the client's host", good("Referer", "https://app.example:8443/"), site, "another site"},
		{"plain http of the client's host", good("Referer", "http://app.example/"), site, "another site"},
		{"a name and password before the host", good("Referer", "https://app.example@evil.example/"), site, "another site"},
		{"two pages", good("Referer", "https://app.example/\nhttps://app.example/"), site, "does not say its name"},
		{"a program's own scheme", good("Referer", "com.example.app:/callback"), "com.example.app:/callback", "another site"},
		{"a loopback address", good("Referer", "http://127.0.0.1:33418/"), "http://127.0.0.1:33418/", "another site"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Doubt(c.h, c.site); (got == "") != (c.doubts == "") || !strings.Contains(got, c.doubts) {
				t.Errorf("%q, want %q", got, c.doubts)
			}
		})
	}
}
