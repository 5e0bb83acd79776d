package issuer

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
)

// FuzzDocumentURL: of a URL that is accepted, the host that a person is shown is the one that
// stands in it, to the letter, and is the one that is asked. url.Parse alone would decode a
// percent-encoded host.
func FuzzDocumentURL(f *testing.F) {
	for _, seed := range []string{"https://app.example/client.json", "https://app.example:8443/a?b", "https://%D1%81laude.ai/a", "https://[2001:4860::8]:8443/a", "https://a@b/c", "HTTPS://a.example/b", "https://claude.ai%E2%88%95x/a", "https://a.example/%2e/b"} {
		f.Add(seed)
	}
	plain := regexp.MustCompile(`^[a-z0-9._:\[\]-]+$`)
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := checkDocumentURL(raw); err != nil {
			return
		}
		shown := weburl.HostOf(raw)
		r, err := http.NewRequest("GET", raw, nil)
		if err != nil || r.URL.Host != shown || r.URL.String() != raw || !plain.MatchString(shown) || !strings.HasPrefix(raw, "https://"+shown+"/") {
			t.Fatalf("%q: %v, %q is shown and %q is asked", raw, err, shown, r.URL)
		}
		for _, segment := range strings.Split(r.URL.EscapedPath(), "/") {
			if segment == "." || segment == ".." || strings.EqualFold(segment, "%2e") || strings.EqualFold(segment, "%2e%2e") {
				t.Fatalf("%q has a dot segment", raw)
			}
		}
	})
}
