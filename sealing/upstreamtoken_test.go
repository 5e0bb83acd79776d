package sealing_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// hopOf is a hop header under the first key of a ring of this name, as the sidecar has opened it.
func hopOf(t testing.TB, name string) *sealing.Hop {
	t.Helper()
	r := ring(t, name)
	hop, err := r.OpenHop(sealHop(t, r.HopKey(), now, configuration), now)
	if err != nil {
		t.Fatal(err)
	}
	return hop
}

// The plugin's tests open the same values.
func TestUpstreamTokenVectors(t *testing.T) {
	opened := 0
	for _, vector := range issuertest.Vectors(t, "../plugin/testdata/upstreamtoken/*.txt", 25) {
		v := vector.Header
		token, err := sealing.OpenUpstreamToken(v["key"], v["publicURL"], v["jti"], strings.ReplaceAll(vector.Text, `\r\n`, "\r\n"))
		if v["expect"] != "ok" {
			if err != sealing.ErrNotOpened || token != "" {
				t.Errorf("%s: %q, %v", vector.File, token, err)
			}
			continue
		}
		opened++
		if err != nil || token != v["token"] {
			t.Errorf("%s: %q, %v", vector.File, token, err)
		}
		hop, err := sealing.OpenHopWith(v["key"], sealHop(t, v["key"], now, configuration), now)
		if err != nil {
			t.Fatal(err)
		}
		if again := hop.SealUpstreamToken(v["publicURL"], v["jti"], v["token"]); again != vector.Text {
			t.Errorf("%s: sealed again as %s", vector.File, again)
		}
	}
	if opened < 3 {
		t.Errorf("%d vectors open", opened)
	}
}

// The token opens for whoever has the hop key of the request that asked, in the access token for
// which it was sealed: a claim that is moved into another token, or to another public URL, is worth
// nothing there.
func TestUpstreamTokenOpensInItsAccessTokenOnly(t *testing.T) {
	const url, jti, token = "https://mcp.localhost/wiki", "0XfRpyKDu6Xb3S3qQdS6Hw", "gho_16C7e42F292c6912E7710c838347Ae178B4a"
	key := ring(t, "one").HopKey()
	sealed := hopOf(t, "one").SealUpstreamToken(url, jti, token)
	if strings.Contains(sealed, "gho_") || sealed == hopOf(t, "one").SealUpstreamToken(url, "1XfRpyKDu6Xb3S3qQdS6Hw", token) {
		t.Errorf("sealed as %s", sealed)
	}
	for _, c := range []struct {
		name, key, url, jti string
		want                error
	}{
		{"as it was sealed", key, url, jti, nil},
		{"another hop key", ring(t, "two").HopKey(), url, jti, sealing.ErrNotOpened},
		{"the master in place of the hop key", secret("one"), url, jti, sealing.ErrNotOpened},
		{"another public URL", key, url + "2", jti, sealing.ErrNotOpened},
		{"another access token", key, url, jti + "w", sealing.ErrNotOpened},
		{"lengths that were moved", key, url + jti[:1], jti[1:], sealing.ErrNotOpened},
		{"a text that is no key", "secret", url, jti, sealing.ErrHopKey},
	} {
		got, err := sealing.OpenUpstreamToken(c.key, c.url, c.jti, sealed)
		if err != c.want || (got == token) != (c.want == nil) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	for i := range len(sealed) {
		changed := []byte(sealed)
		changed[i] ^= 1
		if got, err := sealing.OpenUpstreamToken(key, url, jti, string(changed)); err == nil {
			t.Errorf("opens with character %d changed: %q", i, got)
		}
		if got, err := sealing.OpenUpstreamToken(key, url, jti, sealed[:i]); err == nil {
			t.Errorf("opens after %d characters: %q", i, got)
		}
	}
	if _, err := ring(t, "one").OpenHop("mbh1_"+sealed, now); err != sealing.ErrNotOpened {
		t.Errorf("as a hop header: %v", err)
	}
}

// FuzzUpstreamToken checks that each token opens as it was sealed, and that no other text does.
func FuzzUpstreamToken(f *testing.F) {
	f.Add("https://mcp.localhost/wiki", "jti", "gho_16C7e42F292c", "")
	f.Add("", "", "a", "AAAA")
	f.Add("https://mcp.localhost/wiki", "jti", strings.Repeat("e", sealing.MaxUpstreamToken), strings.Repeat("A", 27))
	f.Add("https://mcp.localhost/wiki", "jti", strings.Repeat("e", sealing.MaxUpstreamToken+1), "=")
	f.Add("u", "j", "a\r\nb", "\r\n")
	hop, key := hopOf(f, "one"), ring(f, "one").HopKey()
	f.Fuzz(func(t *testing.T, url, jti, token, other string) {
		url, jti = url[:min(len(url), 0xffff)], jti[:min(len(jti), 0xffff)]
		sealed := hop.SealUpstreamToken(url, jti, token)
		strange := func(c rune) bool { return c < ' ' || c > '~' }
		fits := token != "" && len(token) <= sealing.MaxUpstreamToken && !bytes.ContainsFunc([]byte(token), strange)
		got, err := sealing.OpenUpstreamToken(key, url, jti, sealed)
		if fits && (err != nil || got != token) || !fits && (err != sealing.ErrNotOpened || got != "") {
			t.Errorf("%q opens as %q, %v", token, got, err)
		}
		if got, err := sealing.OpenUpstreamToken(key, url, jti, other); err == nil && other != sealed {
			t.Errorf("%q opens as %q", other, got)
		}
		raw, err := base64.RawURLEncoding.DecodeString(sealed)
		if err != nil || len(raw) != len(token)+19 {
			t.Errorf("%d bytes of a token of %d: %v", len(raw), len(token), err)
		}
	})
}
