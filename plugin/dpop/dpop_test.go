//go:build go1.21

package dpop_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/plugin/dpop"
	"github.com/mcpbouncer/mcpbouncer/plugin/dpop/dpoptest"
)

const (
	wikiURL  = "https://mcp.localhost/wiki"
	endpoint = wikiURL + "/mcp"
	token    = "an.access.token"
	at       = int64(1800000000)
)

func hopKey(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func want() *dpop.Want {
	return &dpop.Want{Method: "POST", URL: endpoint, AccessToken: token, Nonces: dpop.NewNonces(dpop.NonceKey(hopKey(7), wikiURL)), Now: at}
}

func nonce(made int64) string { return want().Nonces.Make(made) }

// proofOf makes a proof of k, with a header parameter or a claim changed; nil removes it.
func proofOf(k *dpoptest.Key, where, name string, value any) string {
	header := k.Header()
	claims := dpoptest.Claims("POST", endpoint, token, nonce(at), at)
	changed := claims
	if where == "header" {
		changed = header
	}
	if value == nil {
		delete(changed, name)
	} else if name != "" {
		changed[name] = value
	}
	return k.Sign(header, claims)
}

func TestGoodProofsAreVerified(t *testing.T) {
	for _, alg := range []string{"ES256", "EdDSA"} {
		k := dpoptest.NewKey(alg)
		for name, proof := range map[string]string{
			"as clients make it":           proofOf(k, "", "", "x"),
			"with a kid":                   proofOf(k, "header", "kid", "mine"),
			"with a claim of its own":      proofOf(k, "claims", "x", []int{1}),
			"of a clock that is years off": proofOf(k, "claims", "iat", 1),
			"with the longest jti":         proofOf(k, "claims", "jti", strings.Repeat("j", 128)),
			"with the oldest nonce":        proofOf(k, "claims", "nonce", nonce(at-299)),
			"with the newest nonce":        proofOf(k, "claims", "nonce", nonce(at+60)),
		} {
			p, err := dpop.Verify(proof, want())
			if err != nil {
				t.Errorf("%s %s: %v", alg, name, err)
				continue
			}
			if p.Thumbprint != k.Thumbprint() || p.ID == "" {
				t.Errorf("%s %s: %+v, want the thumbprint %s", alg, name, *p, k.Thumbprint())
			}
		}
	}
	k := dpoptest.NewKey("EdDSA")
	if _, err := dpop.Verify(proofOf(k, "header", "alg", "Ed25519"), want()); err != nil {
		t.Errorf("Ed25519 (RFC 9864): %v", err)
	}
	// A token request has no access token yet.
	w := want()
	w.AccessToken = ""
	p, err := dpop.Verify(proofOf(k, "claims", "ath", nil), w)
	if err != nil || p.NonceTime != at {
		t.Errorf("without an access token: %+v %v", p, err)
	}
}

// The proof of RFC 9449 §4.1, figure 2, which somebody else made. It has no nonce, and that is the
// last that is looked at before the signature.
func TestProofOfTheRFCIsRead(t *testing.T) {
	proof := "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19" +
		".eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ" +
		".2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
	w := &dpop.Want{Method: "POST", URL: "https://server.example.com/token", Nonces: want().Nonces, Now: at}
	if _, err := dpop.Verify(proof, w); !errors.Is(err, dpop.ErrNoNonce) || !dpop.WantsNonce(err) {
		t.Errorf("%v", err)
	}
}

func TestHostileProofsAreRefused(t *testing.T) {
	k := dpoptest.NewKey("ES256")
	ed := dpoptest.NewKey("EdDSA")
	private := k.JWK()
	private["d"] = strings.Repeat("A", 43)
	offCurve := k.JWK()
	offCurve["y"] = offCurve["x"]
	sloppy := ed.JWK()
	sloppy["x"] = sloppy["x"].(string) + "="
	broken := k.JWK()
	broken["x"] = broken["x"].(string)[:9] + "\n" + broken["x"].(string)[9:]
	brokenOKP := ed.JWK()
	brokenOKP["x"] = brokenOKP["x"].(string)[:9] + "\r" + brokenOKP["x"].(string)[9:]
	otherType := k.JWK()
	otherType["kty"] = "OKP"
	edOtherType := ed.JWK()
	edOtherType["kty"] = "EC"
	edOtherCurve := ed.JWK()
	edOtherCurve["crv"] = "X25519"
	otherEnd := []byte(nonce(at)) // its last 6 bits are the end of the MAC
	if otherEnd[31]++; !bytes.ContainsAny(otherEnd[31:], "BCDEFGHIJKLMNOPQRSTUVWXYZbcdefghijklmnopqrstuvwxyz123456789") {
		otherEnd[31] = 'B'
	}
	otherCurve := k.JWK()
	otherCurve["crv"] = "P-384"
	good := proofOf(k, "", "", "x")
	parts := strings.Split(good, ".")
	foreign := dpop.NewNonces(dpop.NonceKey(hopKey(7), "https://mcp.localhost/docs")).Make(at)
	for name, c := range map[string]struct {
		proof string
		want  error
	}{
		"of another URL":                   {proofOf(k, "claims", "htu", wikiURL+"/sse"), dpop.ErrURL},
		"of another host":                  {proofOf(k, "claims", "htu", "https://evil.example/wiki/mcp"), dpop.ErrURL},
		"of the same URL without TLS":      {proofOf(k, "claims", "htu", "http://mcp.localhost/wiki/mcp"), dpop.ErrURL},
		"of no URL":                        {proofOf(k, "claims", "htu", nil), dpop.ErrURL},
		"of a list of URLs":                {proofOf(k, "claims", "htu", []string{endpoint}), dpop.ErrURL},
		"of another method":                {proofOf(k, "claims", "htm", "GET"), dpop.ErrMethod},
		"of a method in small letters":     {proofOf(k, "claims", "htm", "post"), dpop.ErrMethod},
		"of no method":                     {proofOf(k, "claims", "htm", nil), dpop.ErrMethod},
		"of another token":                 {proofOf(k, "claims", "ath", strings.Repeat("A", 43)), dpop.ErrToken},
		"of no token":                      {proofOf(k, "claims", "ath", nil), dpop.ErrToken},
		"without a jti":                    {proofOf(k, "claims", "jti", nil), dpop.ErrID},
		"with an empty jti":                {proofOf(k, "claims", "jti", ""), dpop.ErrID},
		"with a number for a jti":          {proofOf(k, "claims", "jti", 7), dpop.ErrID},
		"with a jti that is too long":      {proofOf(k, "claims", "jti", strings.Repeat("j", 129)), dpop.ErrID},
		"without iat":                      {proofOf(k, "claims", "iat", nil), dpop.ErrIssued},
		"with a text for iat":              {proofOf(k, "claims", "iat", "1800000000"), dpop.ErrIssued},
		"with an iat before time began":    {proofOf(k, "claims", "iat", -1), dpop.ErrIssued},
		"with an iat beyond all dates":     {proofOf(k, "claims", "iat", 1e18), dpop.ErrIssued},
		"without a nonce":                  {proofOf(k, "claims", "nonce", nil), dpop.ErrNoNonce},
		"with an expired nonce":            {proofOf(k, "claims", "nonce", nonce(at-300)), dpop.ErrNonceOld},
		"with a nonce of the future":       {proofOf(k, "claims", "nonce", nonce(at+61)), dpop.ErrNonceFuture},
		"with a nonce of another server":   {proofOf(k, "claims", "nonce", foreign), dpop.ErrNonce},
		"with a nonce of its own":          {proofOf(k, "claims", "nonce", strings.Repeat("A", 32)), dpop.ErrNonce},
		"with a long nonce":                {proofOf(k, "claims", "nonce", nonce(at)+"A"), dpop.ErrNonce},
		"with a break in the nonce":        {proofOf(k, "claims", "nonce", nonce(at)[:9]+"\n"+nonce(at)[9:]), dpop.ErrNonce},
		"with a nonce in another spelling": {proofOf(k, "claims", "nonce", nonce(at)[:31]+"\n"), dpop.ErrNonce},
		"of another type":                  {proofOf(k, "header", "typ", "at+jwt"), dpop.ErrType},
		"of no type":                       {proofOf(k, "header", "typ", nil), dpop.ErrType},
		"signed with nothing":              {proofOf(k, "header", "alg", "none"), dpop.ErrAlgorithm},
		"signed with a secret":             {proofOf(k, "header", "alg", "HS256"), dpop.ErrAlgorithm},
		"signed with RSA":                  {proofOf(k, "header", "alg", "RS256"), dpop.ErrAlgorithm},
		"of no algorithm":                  {proofOf(k, "header", "alg", nil), dpop.ErrAlgorithm},
		"with crit":                        {proofOf(k, "header", "crit", []string{"b64"}), dpop.ErrHeader},
		"with jku":                         {proofOf(k, "header", "jku", "https://evil.example/keys"), dpop.ErrHeader},
		"with b64":                         {proofOf(k, "header", "b64", false), dpop.ErrHeader},
		"with no key":                      {proofOf(k, "header", "jwk", nil), dpop.ErrKey},
		"with a text for a key":            {proofOf(k, "header", "jwk", "key"), dpop.ErrKey},
		"with its private key":             {proofOf(k, "header", "jwk", private), dpop.ErrPrivateKey},
		"with a point off the curve":       {proofOf(k, "header", "jwk", offCurve), dpop.ErrKey},
		"with a nonce that ends otherwise": {proofOf(k, "claims", "nonce", string(otherEnd)), dpop.ErrNonce},
		"with a key of another curve":      {proofOf(k, "header", "jwk", otherCurve), dpop.ErrKey},
		"with a key of another type":       {proofOf(k, "header", "jwk", otherType), dpop.ErrKey},
		"with an OKP key of another curve": {proofOf(ed, "header", "jwk", edOtherCurve), dpop.ErrKey},
		"with an OKP key of another type":  {proofOf(ed, "header", "jwk", edOtherType), dpop.ErrKey},
		"with a key in another spelling":   {proofOf(ed, "header", "jwk", sloppy), dpop.ErrKey},
		"with a key that holds a break":    {proofOf(k, "header", "jwk", broken), dpop.ErrKey},
		"with an OKP key and a break":      {proofOf(ed, "header", "jwk", brokenOKP), dpop.ErrKey},
		"with a key of another algorithm":  {proofOf(k, "header", "jwk", ed.JWK()), dpop.ErrKey},
		"of an algorithm of another key":   {proofOf(k, "header", "alg", "EdDSA"), dpop.ErrKey},
		"with another's key":               {proofOf(k, "header", "jwk", dpoptest.NewKey("ES256").JWK()), dpop.ErrSignature},
		"with a changed signature":         {parts[0] + "." + parts[1] + "." + strings.Repeat("A", 86), dpop.ErrSignature},
		"with half a signature":            {good[:len(good)-42], dpop.ErrSignature},
		"with no signature":                {parts[0] + "." + parts[1] + ".", dpop.ErrSignature},
		"with a zero in the signature":     {withZero(good), dpop.ErrSignature},
		"with a signature of ASN.1's":      {good + "AAAA", dpop.ErrSignature},
		"that is too long":                 {good + strings.Repeat("A", dpop.MaxProof), dpop.ErrTooLong},
		"that is no JWT":                   {"proof", dpop.ErrMalformed},
		"that is empty":                    {"", dpop.ErrMalformed},
		"of four parts":                    {good + ".x", dpop.ErrMalformed},
		"with a line break":                {good[:9] + "\n" + good[9:], dpop.ErrMalformed},
		"with padding":                     {parts[0] + "=." + parts[1] + "." + parts[2], dpop.ErrMalformed},
		"with a header that is no object":  {k.SignText(`[]`, `{}`), dpop.ErrMalformed},
		"with claims that are no object":   {k.Sign(k.Header(), nil), dpop.ErrID},
		"with claims that are no JSON":     {parts[0] + ".QUFB." + parts[2], dpop.ErrMalformed},
		"with names in capitals":           {k.SignText(strings.Replace(text(parts[0]), `"typ"`, `"TYP"`, 1), text(parts[1])), dpop.ErrType},
		"with claims in capitals":          {k.SignText(text(parts[0]), strings.Replace(text(parts[1]), `"htm"`, `"HTM"`, 1)), dpop.ErrMethod},
	} {
		p, err := dpop.Verify(c.proof, want())
		if !errors.Is(err, c.want) || p != nil {
			t.Errorf("a proof %s: %v, want %v", name, err, c.want)
		}
		asks := strings.Contains(c.want.Error(), "nonce")
		if dpop.WantsNonce(err) != asks {
			t.Errorf("a proof %s: WantsNonce is %v", name, !asks)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\"\\\r\n") {
			t.Errorf("a proof %s: %q cannot be sent", name, err.Error())
		}
	}
}

// withZero makes the signature of an ES256 proof a byte longer, and changes neither number.
func withZero(proof string) string {
	at := strings.LastIndex(proof, ".") + 1
	signature, _ := base64.RawURLEncoding.DecodeString(proof[at:])
	return proof[:at] + base64.RawURLEncoding.EncodeToString(append(append(append([]byte{}, signature[:32]...), 0), signature[32:]...))
}

func text(part string) string {
	b, _ := base64.RawURLEncoding.DecodeString(part)
	return string(b)
}

func TestNonceMayBeFurtherAheadWhereThatIsWanted(t *testing.T) {
	k := dpoptest.NewKey("ES256")
	w := want()
	w.Ahead = 300
	if _, err := dpop.Verify(proofOf(k, "claims", "nonce", nonce(at+300)), w); err != nil {
		t.Errorf("by so much: %v", err)
	}
	if _, err := dpop.Verify(proofOf(k, "claims", "nonce", nonce(at+301)), w); !errors.Is(err, dpop.ErrNonceFuture) {
		t.Errorf("by more: %v", err)
	}
}

func TestNoncesOfEachKeyAreTaken(t *testing.T) {
	k := dpoptest.NewKey("ES256")
	first := dpop.NonceKey(hopKey(1), wikiURL)
	second := dpop.NonceKey(hopKey(2), wikiURL)
	for name, c := range map[string]struct {
		nonces *dpop.Nonces
		want   error
	}{
		"a rotation that still knows the key": {dpop.NewNonces(second, first), nil},
		"a rotation that knows it no more":    {dpop.NewNonces(second), dpop.ErrNonce},
		"whoever has no key":                  {dpop.NewNonces(), dpop.ErrNonce},
	} {
		w := want()
		w.Nonces = c.nonces
		_, err := dpop.Verify(proofOf(k, "claims", "nonce", dpop.NewNonces(first, second).Make(at)), w)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// The key is that of sealing/testdata/vectors/derive-dpop-nonce-key.txt, so that plugin and sidecar
// have one.
func TestNonceIsThatOfThePage(t *testing.T) {
	hop, _ := hex.DecodeString("93113e385974f0c42f6af54082acfebd59ffa78348233261c74f0e27d639397d")
	key := dpop.NonceKey(hop, "https://mcp.example/wiki")
	if got := hex.EncodeToString(key); got != "9afbd441e949186bfe8f27d634ef422b1d48bcaa53dbe392664fdfe639fc3a4f" {
		t.Errorf("the key is %s", got)
	}
	if got := dpop.NewNonces(key).Make(at); got != "AAAAAGtJ0gCN972fYu_CwvLa3LMplqlg" {
		t.Errorf("the nonce is %s", got)
	}
}

func TestURLsAreComparedByTheirMeaning(t *testing.T) {
	k := dpoptest.NewKey("ES256")
	for _, c := range []struct {
		claimed, requested string
		same               bool
	}{
		{"HTTPS://MCP.localhost/wiki", wikiURL, true},
		{"https://mcp.localhost:443/wiki", wikiURL, true},
		{"https://mcp.localhost:/wiki", wikiURL, true},
		{"http://localhost:80/wiki", "http://localhost/wiki", true},
		{"https://mcp.localhost:80/wiki", wikiURL, false},
		{"https://mcp.localhost:8443/wiki", "https://mcp.localhost:8443/wiki", true},
		{"https://[::1]:443/wiki", "https://[::1]/wiki", true},
		{"https://mcp.localhost/wiki?a=b#c", wikiURL, true},
		{"https://mcp.localhost", "https://mcp.localhost/", true},
		{"https://mcp.localhost/wiki/", wikiURL, false},
		{"https://mcp.localhost/Wiki", wikiURL, false},
		{"https://mcp.localhost/%77iki", wikiURL, true},
		{"https://mcp.localhost/a%2fb", "https://mcp.localhost/a%2Fb", true},
		{"https://mcp.localhost/a%2Fb", "https://mcp.localhost/a/b", false},
		{"https://mcp.localhost/a%3ab", "https://mcp.localhost/a%3Ab", true},
		{"https://mcp.localhost/a%3Ab", "https://mcp.localhost/a:b", false},
		{"https://mcp.localhost/%e2%82%aC", "https://mcp.localhost/%E2%82%AC", true},
		{"https://mcp.localhost/x/../wiki", wikiURL, true},
		{"https://mcp.localhost/./wiki", wikiURL, true},
		{"https://mcp.localhost/%2e%2e/wiki", wikiURL, false},
		{"https://user@mcp.localhost/wiki", wikiURL, false},
		{"wss://mcp.localhost/wiki", wikiURL, false},
		{"//mcp.localhost/wiki", wikiURL, false},
		{"/wiki", wikiURL, false},
		{"", wikiURL, false},
		{"https://mcp.localhost/%", "https://mcp.localhost/%", true}, // as it stands
	} {
		w := want()
		w.URL = c.requested
		_, err := dpop.Verify(proofOf(k, "claims", "htu", c.claimed), w)
		if (err == nil) != c.same || err != nil && !errors.Is(err, dpop.ErrURL) {
			t.Errorf("%s for %s: %v", c.claimed, c.requested, err)
		}
	}
}

func TestThumbprintsHaveOneForm(t *testing.T) {
	good := dpoptest.NewKey("ES256").Thumbprint()
	for _, bad := range []string{"", good[:42], good + "A", good + "=", good[:42] + "\n", good + "\n", strings.Repeat("!", 43), good[:42] + "B"} {
		if dpop.IsThumbprint(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
	if !dpop.IsThumbprint(good) {
		t.Errorf("%q is refused", good)
	}
}

// No text at all makes Verify panic, and none that nobody signed passes.
func FuzzVerify(f *testing.F) {
	k := dpoptest.NewKey("ES256")
	ed := dpoptest.NewKey("EdDSA")
	f.Add(proofOf(k, "", "", "x"), 0, "")
	f.Add(proofOf(ed, "", "", "x"), 100, "AA")
	f.Add("a.b.c", 1, ".")
	f.Fuzz(func(t *testing.T, base string, cut int, piece string) {
		good := proofOf(ed, "", "", "x")
		if _, err := dpop.Verify(good, want()); err != nil {
			t.Fatal(err)
		}
		changed := base
		if cut >= 0 && cut < len(good) {
			changed = good[:cut] + piece + good[cut:]
		}
		p, err := dpop.Verify(changed, want())
		if err == nil && p.Thumbprint == ed.Thumbprint() && changed != good {
			t.Errorf("a proof that the key never signed passes: %s", changed)
		}
	})
}
