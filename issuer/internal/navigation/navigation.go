// Package navigation reads what a browser says of how an address came to be opened (Fetch Metadata
// Request Headers, W3C; RFC 9110 §10.1.3). No page can write these headers, and no page of a
// stranger can name another site as the one that it stands on.
package navigation

import (
	"net/http"
	"net/url"
	"strings"
)

// Doubt says why a request may be something else than a person's click, or key, on a page of the
// site at this address, an https URL; empty: it is that, and the whole tab goes there. A browser
// that does not say all of it leaves doubt.
//
// Nothing says over which addresses the browser was sent on after the click: whoever is trusted
// with the click is trusted with that.
func Doubt(h http.Header, site string) string {
	for _, want := range []struct{ name, value, why string }{
		{"Sec-Fetch-Mode", "navigate", "it is no navigation"},
		// A frame, an object or an embedded document is something else.
		{"Sec-Fetch-Dest", "document", "it is not for a whole tab"},
		{"Sec-Fetch-User", "?1", "no click and no key began it"},
	} {
		if got := h.Values(want.name); len(got) != 1 || got[0] != want.value {
			if len(got) == 0 {
				return "the browser does not send " + want.name
			}
			return want.why + " (" + want.name + ")"
		}
	}
	switch where := h.Values("Sec-Fetch-Site"); {
	case len(where) != 1:
		return "the browser does not send Sec-Fetch-Site"
	case where[0] == "none":
		// It was typed in, or a program opened it: perhaps one that shows a stranger's mail.
		return "it was opened by no page (Sec-Fetch-Site)"
	}
	from := h.Values("Referer")
	if len(from) != 1 {
		return "the page that it comes from does not say its name (Referer)"
	}
	if origin := originOf(site); origin == "" || originOf(from[0]) != origin {
		return "it comes from a page of another site (Referer)"
	}
	return ""
}

// originOf is the origin of an https URL as browsers write it; empty for any other text.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	return strings.TrimSuffix(strings.ToLower(u.Host), ":443")
}
