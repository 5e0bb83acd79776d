package issuer

import (
	"crypto/rsa"
	"encoding/json"
	"math/big"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/rsabits"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
)

// FuzzDocumentURL checks of each accepted URL that the person is shown the host exactly as it
// stands there, and that this host is asked. url.Parse alone would decode a percent-encoded host.
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

// The limits are those for providers' keys (TestRSAKeyLimitsAreOurs).
func TestRSAKeyLimitsOfClients(t *testing.T) {
	if jose.MaxRSAModulusBits < rsabits.Max {
		t.Errorf("go-jose verifies with keys of at most %d bits, %d are promised", jose.MaxRSAModulusBits, rsabits.Max)
	}
	theirs := jose.MaxRSAModulusBits
	defer func() { jose.MaxRSAModulusBits = theirs }()
	jose.MaxRSAModulusBits = 1 << 20
	for _, c := range []struct {
		bits int
		want bool
	}{{2047, false}, {2048, true}, {4096, true}, {4097, false}, {4104, false}, {8192, false}} {
		n := new(big.Int).Lsh(big.NewInt(1), uint(c.bits-1))
		key := jose.JSONWebKey{Key: &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}, KeyID: "k"}
		body := must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}}))
		if set, err := parseKeys(body); (err == nil) != c.want {
			t.Errorf("a client's key of %d bits: %v, error %v", c.bits, set, err)
		}
	}
}
