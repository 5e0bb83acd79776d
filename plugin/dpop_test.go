//go:build go1.21

package plugin

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/plugin/dpop"
	"github.com/mcpbouncer/mcpbouncer/plugin/dpop/dpoptest"
)

const mcpURL = wikiURL + "/mcp"

// testNonces are those of wikiURL under the hop key of all tests.
func testNonces() *dpop.Nonces {
	return dpop.NewNonces(dpop.NonceKey(bytes.Repeat([]byte{7}, 32), wikiURL))
}

// bound returns a good token that is bound to a key.
func bound(k *dpoptest.Key, changes map[string]any) string {
	claims := map[string]any{"cnf": map[string]any{"jkt": k.Thumbprint()}}
	for name, value := range changes {
		claims[name] = value
	}
	return goodToken("k1", claims)
}

// startProving is a world whose middleware has a label dpop, and whose memory of proofs is not new
// any more: at its start it asks for nonces of its own.
func startProving(t testing.TB, label string) (h http.Handler, behind *backend, config *Config) {
	sidecar := startSidecar(t)
	config = wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	config.DPoP = label
	h, behind = guard(t, config)
	ask(h, "POST", mcpURL) // makes the state of the tenant
	clock.Add(dpop.Apart + 1)
	return h, behind, config
}

// proven are the headers of a request with a token and a proof.
func proven(token, proof string) []string {
	return []string{"Authorization", "DPoP " + token, "Dpop", proof}
}

// proofFor makes a good proof for a POST to mcpURL, now.
func proofFor(k *dpoptest.Key, token string) string {
	at := clock.Load()
	return k.Proof("POST", mcpURL, token, testNonces().Make(at), at)
}

func TestBoundTokenComesInWithEachFreshProof(t *testing.T) {
	for _, label := range []string{"accept", "require"} {
		for _, alg := range []string{"ES256", "EdDSA"} {
			start(t)
			h, behind, _ := startProving(t, label)
			k := dpoptest.NewKey(alg)
			token := bound(k, nil)
			for i := 1; i <= 3; i++ { // the second time the token is known
				headers := proven(token, proofFor(k, token))
				if i == 3 {
					headers[1] = "dpop " + token // RFC 9110 §11.1
				}
				rec := ask(h, "POST", mcpURL, headers...)
				if rec.Code != 200 || behind.count() != i {
					t.Fatalf("%s %s: request %d: %d %q", label, alg, i, rec.Code, challenges(rec))
				}
				if rec.Header().Get("DPoP-Nonce") != "" {
					t.Errorf("%s %s: a fresh nonce is replaced", label, alg)
				}
			}
			for name, values := range behind.last {
				if strings.EqualFold(name, "DPoP") || strings.EqualFold(name, "Authorization") {
					t.Errorf("%s %s: the MCP server is sent %s: %q", label, alg, name, values)
				}
			}
			if behind.last.Get("X-Mcp-Sub") != "user-1" || behind.last.Get("X-Mcp-Scopes") != "openid mcp" {
				t.Errorf("%s %s: the MCP server is told %q", label, alg, behind.last)
			}
		}
	}
}

// hostile is a request that must be refused, with the cause that the figures count.
type hostile struct {
	name    string
	label   string // accept if empty
	headers func(k *dpoptest.Key, token string) []string
	code    string // error of the challenge
	err     error
	cause   string
}

// withClaim are the headers with a proof that has another claim, or lacks it.
func withClaim(name string, value any) func(k *dpoptest.Key, token string) []string {
	return func(k *dpoptest.Key, token string) []string {
		at := clock.Load()
		claims := dpoptest.Claims("POST", mcpURL, token, testNonces().Make(at), at)
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
		return proven(token, k.Sign(k.Header(), claims))
	}
}

// withHeader is withClaim for the header of the proof.
func withHeader(name string, value any) func(k *dpoptest.Key, token string) []string {
	return func(k *dpoptest.Key, token string) []string {
		at := clock.Load()
		header := k.Header()
		header[name] = value
		return proven(token, k.Sign(header, dpoptest.Claims("POST", mcpURL, token, testNonces().Make(at), at)))
	}
}

// nonceOf is a nonce that was made so many seconds ago.
func nonceOf(ago int64) func(k *dpoptest.Key, token string) []string {
	return func(k *dpoptest.Key, token string) []string {
		return withClaim("nonce", testNonces().Make(clock.Load()-ago))(k, token)
	}
}

func TestHostileRequestsWithProofsAreRefused(t *testing.T) {
	type headers func(k *dpoptest.Key, token string) []string
	var made *dpoptest.Key
	for _, c := range []hostile{
		{"a proof of another URL", "", withClaim("htu", wikiURL+"/sse"), "invalid_dpop_proof", dpop.ErrURL, "proof_url"},
		{"a proof of another MCP server", "", withClaim("htu", "https://mcp.localhost/docs/mcp"), "invalid_dpop_proof", dpop.ErrURL, "proof_url"},
		{"a proof of another method", "", withClaim("htm", "GET"), "invalid_dpop_proof", dpop.ErrMethod, "proof_method"},
		{"a proof of another token", "", func(k *dpoptest.Key, token string) []string {
			return proven(token, proofFor(k, bound(k, map[string]any{"jti": "a2"})))
		}, "invalid_dpop_proof", dpop.ErrToken, "proof_token"},
		{"a proof without ath, as for a token request", "", withClaim("ath", nil), "invalid_dpop_proof", dpop.ErrToken, "proof_token"},
		{"a stolen token, with a proof of the thief's key", "", func(k *dpoptest.Key, token string) []string {
			return proven(token, proofFor(dpoptest.NewKey("ES256"), token))
		}, "invalid_dpop_proof", errOtherKey, "proof_other_key"},
		{"a proof that shows the right key and is signed with another", "", func(k *dpoptest.Key, token string) []string {
			at := clock.Load()
			return proven(token, dpoptest.NewKey("ES256").Sign(k.Header(), dpoptest.Claims("POST", mcpURL, token, testNonces().Make(at), at)))
		}, "invalid_dpop_proof", dpop.ErrSignature, "proof_signature"},
		{"a proof of HS256", "", withHeader("alg", "HS256"), "invalid_dpop_proof", dpop.ErrAlgorithm, "proof_algorithm"},
		{"a proof of none", "", withHeader("alg", "none"), "invalid_dpop_proof", dpop.ErrAlgorithm, "proof_algorithm"},
		{"a proof of RS256", "", withHeader("alg", "RS256"), "invalid_dpop_proof", dpop.ErrAlgorithm, "proof_algorithm"},
		{"another JWT of the client", "", withHeader("typ", "JWT"), "invalid_dpop_proof", dpop.ErrType, "proof_type"},
		{"a proof with crit", "", withHeader("crit", []string{"exp"}), "invalid_dpop_proof", dpop.ErrHeader, "proof_header"},
		{"a proof with its private key", "", func(k *dpoptest.Key, token string) []string {
			jwk := k.JWK()
			jwk["d"] = "AAAA"
			return withHeader("jwk", jwk)(k, token)
		}, "invalid_dpop_proof", dpop.ErrPrivateKey, "proof_private_key"},
		{"a proof with a key of RSA", "", withHeader("jwk", map[string]any{"kty": "RSA", "n": "AQAB", "e": "AQAB"}), "invalid_dpop_proof", dpop.ErrKey, "proof_key"},
		{"a proof without a jti", "", withClaim("jti", nil), "invalid_dpop_proof", dpop.ErrID, "proof_id"},
		{"a proof with a jti that is too long", "", withClaim("jti", strings.Repeat("j", 129)), "invalid_dpop_proof", dpop.ErrID, "proof_id"},
		{"a proof without iat", "", withClaim("iat", nil), "invalid_dpop_proof", dpop.ErrIssued, "proof_issued"},
		{"a proof without a nonce", "", withClaim("nonce", nil), "use_dpop_nonce", dpop.ErrNoNonce, "nonce_none"},
		{"a proof with an expired nonce", "", nonceOf(300), "use_dpop_nonce", dpop.ErrNonceOld, "nonce_old"},
		{"a proof with a nonce of the future", "", nonceOf(-61), "use_dpop_nonce", dpop.ErrNonceFuture, "nonce_future"},
		{"a proof with a nonce of another MCP server", "", withClaim("nonce", dpop.NewNonces(dpop.NonceKey(bytes.Repeat([]byte{7}, 32), "https://mcp.localhost/docs")).Make(1800000031)), "use_dpop_nonce", dpop.ErrNonce, "nonce_foreign"},
		{"a proof with a nonce of another hop key", "", withClaim("nonce", dpop.NewNonces(dpop.NonceKey(bytes.Repeat([]byte{8}, 32), wikiURL)).Make(1800000031)), "use_dpop_nonce", dpop.ErrNonce, "nonce_foreign"},
		{"a proof that is too large", "", func(k *dpoptest.Key, token string) []string { return proven(token, strings.Repeat("a", 4097)) }, "invalid_dpop_proof", dpop.ErrTooLong, "proof_size"},
		{"a proof that is no JWT", "", func(k *dpoptest.Key, token string) []string { return proven(token, "proof") }, "invalid_dpop_proof", dpop.ErrMalformed, "proof_malformed"},
		{"two proofs", "", func(k *dpoptest.Key, token string) []string {
			return append(proven(token, proofFor(k, token)), "Dpop", proofFor(k, token))
		}, "invalid_dpop_proof", dpop.ErrRepeated, "proof_repeated"},
		{"two proofs in one line", "", func(k *dpoptest.Key, token string) []string {
			return proven(token, proofFor(k, token)+", "+proofFor(k, token))
		}, "invalid_dpop_proof", dpop.ErrMalformed, "proof_malformed"},
		{"no proof", "", func(k *dpoptest.Key, token string) []string { return proven(token, "")[:2] }, "invalid_dpop_proof", dpop.ErrNone, "proof_none"},
		{"an empty proof", "", func(k *dpoptest.Key, token string) []string { return proven(token, "") }, "invalid_dpop_proof", dpop.ErrMalformed, "proof_malformed"},
		{"a token that is bound to nothing, with a proof", "", func(k *dpoptest.Key, token string) []string {
			free := goodToken("k1", nil)
			return proven(free, proofFor(k, free))
		}, "invalid_token", errUnbound, "unbound"},
		{"a token that is bound to a certificate", "", func(k *dpoptest.Key, token string) []string {
			other := goodToken("k1", map[string]any{"cnf": map[string]any{"x5t#S256": "AAAA"}})
			return proven(other, proofFor(k, other))
		}, "invalid_token", errMalformed, "malformed"},
		{"an expired token", "", func(k *dpoptest.Key, token string) []string {
			old := bound(k, map[string]any{"exp": clock.Load() - 61})
			return proven(old, proofFor(k, old))
		}, "invalid_token", errExpired, "expired"},
		{"a token of another MCP server", "", func(k *dpoptest.Key, token string) []string {
			other := bound(k, map[string]any{"iss": "https://mcp.localhost/docs"})
			return proven(other, proofFor(k, other))
		}, "invalid_token", errIssuer, "issuer"},
		{"a token that is too long", "", func(k *dpoptest.Key, token string) []string {
			long := bound(k, map[string]any{"name": strings.Repeat("a", maxToken)})
			return proven(long, proofFor(k, long))
		}, "invalid_token", errMalformed, "malformed"},
		{"a good token that is longer than any", "", func(k *dpoptest.Key, token string) []string {
			long := bound(k, map[string]any{"x": strings.Repeat("x", maxToken)})
			return proven(long, proofFor(k, long))
		}, "invalid_token", errMalformed, "malformed"},
		{"a bound token as a bearer token", "", func(k *dpoptest.Key, token string) []string { return bearer(token) }, "invalid_token", errBound, "bound"},
		{"a bound token as a bearer token, with its proof", "", func(k *dpoptest.Key, token string) []string { return append(bearer(token), "Dpop", proofFor(k, token)) }, "invalid_token", errBound, "bound"},
		{"a bound token as a bearer token", "require", func(k *dpoptest.Key, token string) []string { return bearer(token) }, "invalid_token", errBound, "bound"},
		{"a bound token as a bearer token", "off", func(k *dpoptest.Key, token string) []string { return bearer(token) }, "invalid_token", errProofsAreOff, "proofs_off"},
		{"a bound token with its proof", "off", func(k *dpoptest.Key, token string) []string { return proven(token, proofFor(k, token)) }, "invalid_token", errProofsAreOff, "proofs_off"},
		{"a bearer token", "require", func(k *dpoptest.Key, token string) []string { return bearer(goodToken("k1", nil)) }, "invalid_token", errOnlyBound, "only_bound"},
		{"a bearer key", "require", func(k *dpoptest.Key, token string) []string { return bearer("mbb1_" + strings.Repeat("A", 60)) }, "invalid_token", errOnlyProof, "only_proof"},
		{"two credentials", "", func(k *dpoptest.Key, token string) []string {
			return append(proven(token, proofFor(k, token)), bearer(goodToken("k1", nil))...)
		}, "invalid_request", errRepeated, "repeated"},
	} {
		for _, known := range []bool{false, true} { // is the token remembered?
			log := start(t)
			label := either(c.label, "accept")
			made = dpoptest.NewKey("ES256")
			token := bound(made, nil)
			h, behind, config := startProving(t, label)
			if known && label != "off" {
				if rec := ask(h, "POST", mcpURL, proven(token, proofFor(made, token))...); rec.Code != 200 {
					t.Fatalf("%s: the token is not good: %q", c.name, challenges(rec))
				}
			}
			let := behind.count()
			before := counted(config, c.cause)
			var f headers = c.headers
			rec := ask(h, "POST", mcpURL, f(made, token)...)
			got := strings.Join(challenges(rec), " | ")
			status := 401
			if c.code == "invalid_request" {
				status = 400
			}
			if rec.Code != status || behind.count() != let {
				t.Errorf("%s (%s, known: %v): status %d, want %d", c.name, label, known, rec.Code, status)
			}
			if !strings.Contains(got, `error="`+c.code+`", error_description="`+c.err.Error()+`"`) {
				t.Errorf("%s (%s, known: %v): challenge %s, want %s and %q", c.name, label, known, got, c.code, c.err)
			}
			if n := counted(config, c.cause) - before; n != 1 || causes[c.err.Error()] != c.cause {
				t.Errorf("%s (%s): the cause %s is counted %d times; its text is called %q", c.name, label, c.cause, n, causes[c.err.Error()])
			}
			nonce := rec.Header().Get("DPoP-Nonce")
			byProof := strings.HasPrefix(f(made, token)[1], "DPoP ") && label != "off" && len(f(made, token)) < 5 || strings.Contains(c.name, "two proofs")
			if (nonce != "") != byProof {
				t.Errorf("%s (%s): the nonce %q is sent", c.name, label, nonce)
			}
			if strings.Contains(log.String(), token) || strings.Contains(log.String(), "secret-of") {
				t.Errorf("%s: the log has the token", c.name)
			}
			if label == "off" != strings.Contains(log.String(), "the label dpop is off") {
				t.Errorf("%s (%s): the log says %q", c.name, label, log.String())
			}
			// Whatever was refused has spent nothing.
			if label != "off" {
				if rec := ask(h, "POST", mcpURL, proven(token, proofFor(made, token))...); rec.Code != 200 {
					t.Errorf("%s: the client itself does not come in any more: %q", c.name, challenges(rec))
				}
			}
		}
	}
}

// counted returns how often a cause was counted for the tenant of a configuration.
func counted(config *Config, cause string) int64 {
	f := stateOf(config).figures
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.refusals[cause]
	for text, at := range countedAt {
		if causes[text] == cause {
			n += f.counted[at]
		}
	}
	return n
}

// stateOf is what the plugin knows for the tenant of a configuration.
func stateOf(config *Config) *sidecarState {
	s, _ := parseConfig(config)
	t, _ := newTenant(s, wikiURL, "test")
	return t.sidecar
}

// Each proof is let through once, by all middlewares that Traefik makes of one configuration.
func TestProofIsLetThroughOnceAlsoAfterAReload(t *testing.T) {
	start(t)
	h, behind, config := startProving(t, "accept")
	k := dpoptest.NewKey("ES256")
	token := bound(k, nil)
	first := proven(token, proofFor(k, token))
	if rec := ask(h, "POST", mcpURL, first...); rec.Code != 200 {
		t.Fatalf("%q", challenges(rec))
	}
	for name, again := range map[string]http.Handler{"at once": h, "after a reload": reload(t, config)} {
		rec := ask(again, "POST", mcpURL, first...)
		if rec.Code != 401 || !strings.Contains(strings.Join(challenges(rec), ""), `error="invalid_dpop_proof", error_description="`+errReplayed.Error()) {
			t.Errorf("%s: %d %q", name, rec.Code, challenges(rec))
		}
	}
	if n := counted(config, "proof_replayed"); n != 2 || behind.count() != 1 {
		t.Errorf("%d replays are counted, and %d requests let through", n, behind.count())
	}
	// The jti of another client is no obstacle, or one client could spend the proofs of all.
	other := dpoptest.NewKey("EdDSA")
	theirs := bound(other, nil)
	claims := dpoptest.Claims("POST", mcpURL, theirs, testNonces().Make(clock.Load()), clock.Load())
	mine := dpoptest.Claims("POST", mcpURL, token, testNonces().Make(clock.Load()), clock.Load())
	claims["jti"] = "shared"
	mine["jti"] = "shared"
	if rec := ask(h, "POST", mcpURL, proven(token, k.Sign(k.Header(), mine))...); rec.Code != 200 {
		t.Errorf("%q", challenges(rec))
	}
	if rec := ask(h, "POST", mcpURL, proven(theirs, other.Sign(other.Header(), claims))...); rec.Code != 200 {
		t.Errorf("the jti of another client is taken for this one's: %q", challenges(rec))
	}
}

// Two servers share nothing: a memory knows the nonces of one, and is filled by the clients of one.
func TestServersOfOneHostHaveMemoriesOfTheirOwn(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.DPoP = "accept" // and no publicURL: they are known only by requests
	s, _ := parseConfig(config)
	one, _ := newTenant(s, wikiURL, "test")
	same, _ := newTenant(s, wikiURL, "test")
	other, _ := newTenant(s, "https://docs.localhost/wiki", "test")
	if one.sidecar.proofs != same.sidecar.proofs || one.sidecar.proofs == other.sidecar.proofs {
		t.Error("the memory of another server")
	}
}

func reload(t *testing.T, config *Config) http.Handler {
	h, _ := guard(t, config)
	return h
}

// A label that changes makes another tenant for the tokens, and so does a second middleware with
// other labels. The proofs that were let through are known to all of them, in whatever order they
// come: two routers may have one URL, and differ by a header or the query.
func TestProofIsLetThroughOnceByAllTenantsOfAURL(t *testing.T) {
	for _, publicURL := range []string{wikiURL, ""} { // of the label, or of the request
		start(t)
		sidecar := startSidecar(t)
		config := wikiConfig(sidecar.server.URL)
		config.PublicURL = publicURL
		config.DPoP = "accept"
		before, _ := guard(t, config)
		config.DPoP = "require"
		after, _ := guard(t, config)
		ask(before, "POST", mcpURL)
		ask(after, "POST", mcpURL)
		clock.Add(dpop.Apart + 1)
		k := dpoptest.NewKey("ES256")
		token := bound(k, nil)
		for name, pair := range map[string][]http.Handler{"before": {before, after}, "after": {after, before}} {
			first := proven(token, proofFor(k, token))
			if rec := ask(pair[0], "POST", mcpURL, first...); rec.Code != 200 {
				t.Errorf("%q: %s: %d %q", publicURL, name, rec.Code, challenges(rec))
			}
			for _, h := range pair {
				rec := ask(h, "POST", mcpURL, first...)
				if rec.Code != 401 || !strings.Contains(strings.Join(challenges(rec), ""), errReplayed.Error()) {
					t.Errorf("%q: a proof that was let through %s the change is let through again: %d %q", publicURL, name, rec.Code, challenges(rec))
				}
			}
		}
	}
}

// RFC 9449 §8.2: a client that is asked for a nonce comes in with the one that it is given, and is
// given the next one before that is too old.
func TestClientIsLedFromNonceToNonce(t *testing.T) {
	start(t)
	h, _, _ := startProving(t, "require")
	k := dpoptest.NewKey("ES256")
	token := bound(k, map[string]any{"exp": clock.Load() + 7200})
	send := func(nonce string) *httptest.ResponseRecorder {
		at := clock.Load()
		return ask(h, "POST", mcpURL, proven(token, k.Proof("POST", mcpURL, token, nonce, at))...)
	}
	rec := send("")
	if rec.Code != 401 {
		t.Fatalf("%d", rec.Code)
	}
	nonce := rec.Header().Get("DPoP-Nonce")
	asked := 0
	for i := 0; i < 40; i++ { // 40 minutes, a request each minute
		rec := send(nonce)
		if rec.Code != 200 {
			asked++
		}
		if next := rec.Header().Get("DPoP-Nonce"); next != "" {
			nonce = next
		}
		clock.Add(60)
	}
	if asked != 0 {
		t.Errorf("a client that is never idle is asked %d times", asked)
	}
	clock.Add(dpop.NonceLife) // it sleeps
	rec = send(nonce)
	if rec.Code != 401 || send(rec.Header().Get("DPoP-Nonce")).Code != 200 {
		t.Errorf("after a pause: %d %q", rec.Code, challenges(rec))
	}
}

// A memory that is full forgets, and then takes only nonces that are newer than all it knew.
func TestFullMemoryOfProofsAsksForNewNonces(t *testing.T) {
	start(t)
	h, behind, config := startProving(t, "accept")
	k := dpoptest.NewKey("EdDSA")
	token := bound(k, nil)
	memory := stateOf(config).proofs
	memory.most = 10
	nonce := testNonces().Make(clock.Load())
	spent := []string{}
	refused := 0
	for i := 0; i < 100; i++ {
		proof := k.Proof("POST", mcpURL, token, nonce, clock.Load())
		rec := ask(h, "POST", mcpURL, proven(token, proof)...)
		if rec.Code == 200 {
			spent = append(spent, proof)
			continue
		}
		refused++
		if !strings.Contains(strings.Join(challenges(rec), ""), "use_dpop_nonce") {
			t.Fatalf("%q", challenges(rec))
		}
		nonce = rec.Header().Get("DPoP-Nonce")
		proof = k.Proof("POST", mcpURL, token, nonce, clock.Load())
		if rec := ask(h, "POST", mcpURL, proven(token, proof)...); rec.Code != 200 {
			t.Fatalf("with the new nonce: %q", challenges(rec))
		}
		spent = append(spent, proof)
	}
	if n := len(memory.young) + len(memory.old); n > 10 || refused == 0 || refused > 10 {
		t.Errorf("%d proofs are kept, %d requests were asked for a nonce", n, refused)
	}
	let := behind.count()
	// copies of all of them come for as long as a nonce lives
	for _, ahead := range []int64{0, 30, 60, 200, 299, 300} {
		clock.Store(1800000031 + ahead)
		for i, proof := range spent {
			if rec := ask(h, "POST", mcpURL, proven(token, proof)...); rec.Code != 401 {
				t.Fatalf("proof %d is let through again after %d seconds", i, ahead)
			}
		}
	}
	if behind.count() != let {
		t.Error("the MCP server was reached")
	}
}

// Somebody who fills the memory again and again within a second must not move the nonces of all
// others to where no machine takes them.
func TestMemoryOfProofsThatIsFilledAgainAndAgainAsksForNoNonceOfTheFuture(t *testing.T) {
	m := newProofMemory(1800000000)
	m.most = 1
	at := int64(1800000040)
	passed := 0
	for i := 0; i < 1000; i++ {
		nonce := newestNonce(m, at)
		if nonce < at || nonce > at+dpop.NonceAhead {
			t.Fatalf("round %d: clients are given a nonce of %d seconds ahead", i, nonce-at)
		}
		if useProof(m, &dpop.Proof{Thumbprint: strings.Repeat("t", 43), ID: strconv.Itoa(i), NonceTime: nonce}, at) == nil {
			passed++
		}
	}
	if passed < dpop.Apart || passed > dpop.NonceAhead+1 {
		t.Errorf("%d passed", passed)
	}
	at++ // and a second later others come in
	if err := useProof(m, &dpop.Proof{Thumbprint: strings.Repeat("o", 43), ID: "one", NonceTime: newestNonce(m, at)}, at); err != nil {
		err = useProof(m, &dpop.Proof{Thumbprint: strings.Repeat("o", 43), ID: "two", NonceTime: newestNonce(m, at)}, at)
		if err != nil {
			t.Error(err)
		}
	}
	// What a machine made whose clock is ahead is nothing that clients are given.
	m.oldest = at + dpop.NonceAhead + 1
	if nonce := newestNonce(m, at); nonce != at {
		t.Errorf("%d seconds ahead", nonce-at)
	}
}

// A model that forgets nothing is compared with the memory, over clocks that jump ahead, go back a
// little, and are apart.
func TestProofPassesOnceWhileClocksJump(t *testing.T) {
	start(t)
	m := newProofMemory(1800000000)
	m.most = 50
	at := int64(1800000031)
	passed := map[string]bool{}
	known := []*dpop.Proof{}
	seed := uint32(1)
	random := func(n int64) int64 { // the same in each run
		seed = seed*1664525 + 1013904223
		return int64(seed>>8) % n
	}
	fresh := 0
	for i := 0; i < 4000; i++ {
		at += random(4)
		if random(400) == 0 {
			at += random(900)
		}
		if random(700) == 0 {
			at -= random(20)
		}
		// as Verify hands it over: the nonce is of the last five minutes, or half a minute ahead
		p := &dpop.Proof{Thumbprint: strings.Repeat("t", 43), ID: strconv.Itoa(i), NonceTime: at - random(330) + dpop.Apart}
		if random(2) == 0 && len(known) > 0 {
			p = known[random(int64(len(known)))]
			if at-p.NonceTime >= dpop.NonceLife || p.NonceTime-at > dpop.NonceAhead {
				continue
			}
		}
		err := useProof(m, p, at)
		if err == nil && passed[p.ID] {
			t.Fatalf("round %d: a proof passes twice", i)
		}
		if err == nil {
			passed[p.ID] = true
			known = append(known, p)
			fresh++
		}
		if len(m.young)+len(m.old) > m.most {
			t.Fatalf("round %d: %d proofs are kept", i, len(m.young)+len(m.old))
		}
		// What a client is given now is good now.
		next := &dpop.Proof{Thumbprint: strings.Repeat("n", 43), ID: strconv.Itoa(i), NonceTime: newestNonce(m, at)}
		if i%10 == 0 && len(m.young)+len(m.old) < m.most {
			if err := useProof(m, next, at); err != nil {
				t.Fatalf("round %d: the nonce of this moment is refused: %v", i, err)
			}
		}
	}
	if fresh < 500 {
		t.Errorf("only %d proofs passed: the test says nothing", fresh)
	}
}

// A clock that was years ahead for a moment must not shut clients out until then.
func TestClockThatWasSetBackShutsNobodyOut(t *testing.T) {
	start(t)
	h, _, _ := startProving(t, "accept")
	k := dpoptest.NewKey("EdDSA")
	token := bound(k, map[string]any{"exp": clock.Load() + 1000000})
	clock.Add(900000)
	ask(h, "POST", mcpURL, proven(token, proofFor(k, token))...)
	clock.Store(1800000031)
	spent := proofFor(k, token)
	first := ask(h, "POST", mcpURL, proven(token, spent)...)
	if first.Code != 401 {
		t.Errorf("the memory is new, and takes a nonce of before: %d", first.Code)
	}
	at := clock.Load()
	rec := ask(h, "POST", mcpURL, proven(token, k.Proof("POST", mcpURL, token, first.Header().Get("DPoP-Nonce"), at))...)
	if rec.Code != 200 {
		t.Errorf("%d %q", rec.Code, challenges(rec))
	}
}

// The challenges of a server that takes proofs. off is compared byte for byte in TestChallenges.
func TestChallengesOfAServerThatTakesProofs(t *testing.T) {
	start(t) // tokens are made by its clock
	const metadata = `resource_metadata="https://mcp.localhost/wiki/.well-known/oauth-protected-resource/mcp"`
	const algorithms = `algs="ES256 EdDSA"`
	for _, c := range []struct {
		name, label, method string
		required            string
		headers             []string
		status              int
		want                string
	}{
		{"no token", "accept", "POST", "", nil, 401, "Bearer " + metadata + " | DPoP " + algorithms},
		{"no token, and scopes", "accept", "POST", "a", nil, 401, `Bearer scope="a", ` + metadata + " | DPoP " + algorithms},
		{"no token, HEAD", "accept", "HEAD", "", nil, 401, "Bearer | DPoP " + algorithms},
		{"no token", "require", "POST", "", nil, 401, "DPoP " + algorithms + ", " + metadata},
		{"no token, and scopes", "require", "POST", "a", nil, 401, "DPoP " + algorithms + `, scope="a", ` + metadata},
		{"a bad bearer token", "accept", "POST", "", bearer("x"), 401, `Bearer error="invalid_token", error_description="the access token is malformed", ` + metadata + " | DPoP " + algorithms},
		{"a bad bearer token", "require", "POST", "", bearer("x"), 401, `DPoP error="invalid_token", error_description="the access token is malformed", ` + algorithms + ", " + metadata},
		{"a bad token with a proof", "accept", "POST", "", proven("x", "y"), 401, `DPoP error="invalid_token", error_description="the access token is malformed", ` + algorithms + ", " + metadata},
		{"a scope that is missing", "accept", "POST", "rare", bearer(goodToken("k1", nil)), 403, `Bearer error="insufficient_scope", scope="rare", ` + metadata + " | DPoP " + algorithms},
	} {
		start(t)
		sidecar := startSidecar(t)
		config := wikiConfig(sidecar.server.URL)
		config.PublicURL = wikiURL
		config.DPoP = c.label
		config.RequiredScopes = c.required
		h, _ := guard(t, config)
		rec := ask(h, c.method, mcpURL, c.headers...)
		if got := strings.Join(challenges(rec), " | "); rec.Code != c.status || got != c.want {
			t.Errorf("%s (%s): %d %s, want %s", c.name, c.label, rec.Code, got, c.want)
		}
	}
}

// A tool that needs another scope is asked for in the scheme of the request.
func TestStepUpOfABoundTokenHasItsScheme(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	config.DPoP = "accept"
	config.ToolScopes = "delete_page=wiki:write; *=mcp"
	h, _ := guard(t, config)
	ask(h, "POST", mcpURL)
	clock.Add(dpop.Apart + 1)
	k := dpoptest.NewKey("ES256")
	token := bound(k, nil)
	for scheme, headers := range map[string][]string{"DPoP": proven(token, proofFor(k, token)), "Bearer": bearer(goodToken("k1", nil))} {
		req := httptest.NewRequest("POST", mcpURL, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page"}}`))
		req.TLS = nil
		req.Header.Set("X-Forwarded-Proto", "https")
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			req.Header[headers[i]] = []string{headers[i+1]}
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if got := strings.Join(challenges(rec), " | "); rec.Code != 403 || !strings.HasPrefix(got, scheme+` error="insufficient_scope"`) {
			t.Errorf("%s: %d %s", scheme, rec.Code, got)
		}
	}
}

// Where there is no publicURL, the host is that of the request, as Traefik vouches for it; and the
// path is compared as it was sent.
func TestProofIsForTheAddressOfTheRequest(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.DPoP = "accept"
	h, behind := guard(t, config)
	ask(h, "POST", mcpURL)
	clock.Add(dpop.Apart + 1)
	k := dpoptest.NewKey("ES256")
	token := bound(k, nil)
	for _, c := range []struct {
		htu, url string
		status   int
	}{
		{mcpURL, mcpURL, 200},
		{mcpURL, mcpURL + "?session=1", 200},
		{"https://MCP.localhost:443/wiki/mcp", mcpURL, 200},
		{wikiURL + "/a/b", wikiURL + "/a/b", 200},
		{wikiURL + "/a%2Fb", wikiURL + "/a/b", 401},
		{wikiURL + "/a/b", wikiURL + "/a%2Fb", 400}, // no such path is served
		{wikiURL + "/gr%c3%bcn", wikiURL + "/gr%C3%BCn", 200},
		{wikiURL + "/gr%25C3%25BCn", wikiURL + "/gr%C3%BCn", 401},
		{wikiURL + "/gr%C3%BCn", wikiURL + "/gr%25C3%25BCn", 400},
		{wikiURL + "/mcp/", mcpURL, 401},
	} {
		for i := 0; i < 2; i++ { // the second time at a known address
			at := clock.Load()
			rec := ask(h, "GET", c.url, proven(token, k.Proof("GET", c.htu, token, testNonces().Make(at), at))...)
			if rec.Code != c.status {
				t.Errorf("a proof for %s at %s: %d %q", c.htu, c.url, rec.Code, challenges(rec))
			}
		}
	}
	if behind.count() == 0 {
		t.Error("nothing came through")
	}
	// Headers that a client sends have no part in it.
	at := clock.Load()
	rec := ask(h, "GET", mcpURL, append(proven(token, k.Proof("GET", "https://evil.example/wiki/mcp", token, testNonces().Make(at), at)),
		"Forwarded", "host=evil.example", "X-Original-Url", "https://evil.example/wiki/mcp", "X-Forwarded-Prefix", "/x")...)
	if rec.Code != 401 {
		t.Errorf("a proof for another host: %d", rec.Code)
	}
}

// The operator ends a login, the token expires: a bound token goes as others do.
func TestBoundTokenEndsAsOthersDo(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	config.DPoP = "require"
	h, _ := guard(t, config)
	ask(h, "POST", mcpURL)
	clock.Add(dpop.Apart + 1)
	k := dpoptest.NewKey("ES256")
	token := bound(k, map[string]any{"sid": "login-1"})
	send := func() int { return ask(h, "POST", mcpURL, proven(token, proofFor(k, token))...).Code }
	if send() != 200 {
		t.Fatal("the token is not good")
	}
	sidecar.setDeny(`{"v":1,"serial":1,"notBefore":0,"clients":[],"users":[],"families":["login-1"],"keys":[]}`)
	clock.Add(denyPeriod)
	eventually(t, "the login ends", func() bool { return send() == 401 })
	sidecar.setDeny(strings.Replace(noDeny, `"serial":0`, `"serial":2`, 1))
	clock.Add(denyPeriod)
	eventually(t, "the login is allowed again", func() bool { return send() == 200 })
	clock.Add(7200)
	if send() != 401 {
		t.Error("an expired token comes in")
	}
}

// The proof of the handshake is not asked for again, and what else ends a WebSocket ends this one.
func TestWebSocketOfABoundTokenStaysOpenWithIt(t *testing.T) {
	start(t)
	_, _, config := startProving(t, "require")
	k := dpoptest.NewKey("ES256")
	token := bound(k, map[string]any{"exp": clock.Load() + 600})
	at := clock.Load()
	s, looks := openSocketWith(t, config, proven(token, k.Proof("GET", mcpURL, token, testNonces().Make(at), at)))
	clock.Add(500)
	if !isOpen(s, looks) {
		t.Error("it is ended while its token is good")
	}
	clock.Add(200)
	if isOpen(s, looks) {
		t.Error("it outlives its token")
	}
}

// An address that is kept after a good token, of either kind, takes both kinds from then on.
func TestAddressThatIsKeptTakesProofs(t *testing.T) {
	start(t)
	_, _, config := startProving(t, "accept")
	s, _ := parseConfig(config)
	var next http.Handler = &backend{}
	b := newBouncer("wiki@docker", next, s)
	h := shortWay(b)
	k := dpoptest.NewKey("EdDSA")
	token := bound(k, nil)
	for i, path := range []string{"/one", "/two"} {
		prove := func() int {
			at := clock.Load()
			return ask(h, "GET", wikiURL+path, "X-Forwarded-Host", "mcp.localhost", "Authorization", "DPoP "+token, "Dpop", k.Proof("GET", wikiURL+path, token, testNonces().Make(at), at)).Code
		}
		bare := func() int {
			return ask(h, "GET", wikiURL+path, "X-Forwarded-Host", "mcp.localhost", "Authorization", "Bearer "+goodToken("k1", nil)).Code
		}
		first, second := prove, bare
		if i == 1 {
			first, second = bare, prove
		}
		alone := first()
		if e := b.endpoints["https\nmcp.localhost\n/wiki"+path]; alone != 200 || e == nil || !e.kept {
			t.Errorf("%s: %d, and it is not kept", path, alone)
		}
		for round := 0; round < 2; round++ {
			if one, two := first(), second(); one != 200 || two != 200 {
				t.Errorf("%s, round %d: %d and %d", path, round, one, two)
			}
		}
		e := b.endpoints["https\nmcp.localhost\n/wiki"+path]
		if e == nil || !e.kept {
			t.Errorf("%s is not kept", path)
		}
		if got := len(challenges(ask(h, "GET", wikiURL+path, "X-Forwarded-Host", "mcp.localhost"))); got != 2 {
			t.Errorf("%s: %d challenges", path, got)
		}
	}
}

// A bound token comes with another scheme, and its assertion is asked for with the token all the
// same.
func TestAssertionForABoundToken(t *testing.T) {
	for _, label := range []string{"accept", "require"} {
		start(t)
		sidecar := startSidecar(t)
		n := &notary{life: 300}
		sidecar.on("/hop/assertion", n.ServeHTTP)
		config := wikiConfig(sidecar.server.URL)
		config.PublicURL = wikiURL
		config.IdentityHeaders = "assertion"
		config.DPoP = label
		h, behind := guard(t, config)
		ask(h, "POST", mcpURL)
		clock.Add(dpop.Apart + 1)
		k := dpoptest.NewKey("ES256")
		token := bound(k, nil)
		for _, scheme := range []string{"DPoP ", "dpop "} {
			headers := proven(token, proofFor(k, token))
			headers[1] = scheme + token
			rec := ask(h, "POST", mcpURL, headers...)
			if rec.Code != 200 || behind.last.Get("X-Mcp-Assertion") != "a.b.1" {
				t.Fatalf("%s, %s: status %d %q, %v", label, scheme, rec.Code, challenges(rec), behind.last)
			}
		}
		if asked := n.last.Load().(string); asked != token {
			t.Errorf("%s: asked with %q", label, asked)
		}
	}
}

// A document for everybody needs no proof, and its server gets none.
func TestProofDoesNotReachTheServerOfADocument(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	config.DPoP = "accept"
	config.WellKnown = "agent-card.json"
	h, behind := guard(t, config)
	rec := ask(h, "GET", wikiURL+"/.well-known/agent-card.json", proven("token", "proof")...)
	if rec.Code != 200 || behind.count() != 1 || behind.last["Dpop"] != nil || behind.last["Authorization"] != nil {
		t.Errorf("%d, the server gets %v", rec.Code, behind.last)
	}
}

// A hop key that changes changes the nonces, without a reload.
func TestNoncesChangeWithTheHopKey(t *testing.T) {
	start(t)
	h, _, _ := startProving(t, "accept")
	k := dpoptest.NewKey("ES256")
	token := bound(k, nil)
	ask(h, "POST", mcpURL, proven(token, proofFor(k, token))...)
	// t.Setenv sets another environment than Yaegi's
	os.Setenv(hopVariable, strings.Replace(testHopKey, "B", "C", 1))
	defer os.Setenv(hopVariable, testHopKey)
	clock.Add(hopReuse)
	rec := ask(h, "POST", mcpURL, proven(token, proofFor(k, token))...)
	if rec.Code != 401 || !strings.Contains(strings.Join(challenges(rec), ""), dpop.ErrNonce.Error()) {
		t.Fatalf("a nonce of the key before: %d %q", rec.Code, challenges(rec))
	}
	at := clock.Load()
	rec = ask(h, "POST", mcpURL, proven(token, k.Proof("POST", mcpURL, token, rec.Header().Get("DPoP-Nonce"), at))...)
	if rec.Code != 200 {
		t.Errorf("with the nonce of the answer: %d %q", rec.Code, challenges(rec))
	}
}

// A server that has a challenge of its own is named in the log, whatever the scheme of the request.
func TestOwnChallengeToABoundTokenIsNamed(t *testing.T) {
	log := start(t)
	_, _, config := startProving(t, "require")
	var next http.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		rw.Header().Set("WWW-Authenticate", `Bearer realm="own"`)
		rw.WriteHeader(http.StatusUnauthorized)
	})
	h, _ := New(context.Background(), next, config, "wiki@docker")
	k := dpoptest.NewKey("ES256")
	token := bound(k, nil)
	rec := ask(h, "POST", mcpURL, proven(token, proofFor(k, token))...)
	if rec.Code != 401 || !strings.Contains(log.String(), `a challenge of its own (WWW-Authenticate: Bearer realm="own")`) {
		t.Errorf("%d, the log says %s", rec.Code, log)
	}
}

// Without a hop key there are no nonces. That is the operator's fault, and the client keeps its
// token.
func TestProofsWithoutAHopKeyAreAnswered503(t *testing.T) {
	log := start(t)
	h, behind, _ := startProving(t, "accept")
	k := dpoptest.NewKey("ES256")
	token := bound(k, nil)
	os.Setenv(hopVariable, "") // t.Setenv sets another environment than Yaegi's
	defer os.Setenv(hopVariable, testHopKey)
	clock.Add(hopReuse)
	rec := ask(h, "POST", mcpURL, proven(token, proofFor(k, token))...)
	if rec.Code != 503 || behind.count() != 0 || !strings.Contains(log.String(), "hop key") {
		t.Errorf("%d %s", rec.Code, log.String())
	}
}

// A page of another origin may send proofs, and must be able to read the nonce.
func TestScriptsMaySendProofsAndReadNonces(t *testing.T) {
	start(t)
	h, _, _ := startProving(t, "accept")
	rec := ask(h, "OPTIONS", mcpURL, "Origin", "https://app.example", "Access-Control-Request-Method", "POST")
	if !strings.Contains(rec.Header().Get("Access-Control-Allow-Headers"), "DPoP") {
		t.Errorf("allowed: %q", rec.Header())
	}
	rec = ask(h, "POST", mcpURL, append(proven("x", "y"), "Origin", "https://app.example")...)
	if !strings.Contains(rec.Header().Get("Access-Control-Expose-Headers"), "DPoP-Nonce") || rec.Header().Get("DPoP-Nonce") == "" {
		t.Errorf("exposed: %q", rec.Header())
	}
}

// Two clients with one proof between them, at the same moment.
func TestProofPassesOnceAmongManyAtATime(t *testing.T) {
	m := newProofMemory(1800000000)
	p := &dpop.Proof{Thumbprint: strings.Repeat("t", 43), ID: "one", NonceTime: 1800000040}
	done := make(chan error)
	race := func() { done <- useProof(m, p, 1800000040) }
	for i := 0; i < 50; i++ {
		startRace(race)
	}
	passed := 0
	for i := 0; i < 50; i++ {
		err := <-done
		if err == nil {
			passed++
		} else if !errors.Is(err, errReplayed) {
			t.Error(err)
		}
	}
	if passed != 1 {
		t.Errorf("passed %d times", passed)
	}
}

// startRace is a function of its own: Yaegi has one loop variable for all rounds.
func startRace(f func()) { go f() }

// Where no proofs are taken, only whoever has a token that is bound makes the log speak of the
// label: a stranger's header looks the same.
func TestSchemeOfProofsIsJudgedByItsToken(t *testing.T) {
	log := start(t)
	h, _, _ := startProving(t, "off")
	for token, want := range map[string]error{"garbage": errMalformed, "": errMalformed, goodToken("k1", nil): errUnbound} {
		rec := ask(h, "POST", wikiURL+"/mcp", "Authorization", "DPoP "+token)
		if got := strings.Join(challenges(rec), ""); rec.Code != 401 || !strings.Contains(got, want.Error()) {
			t.Errorf("%q: status %d, challenge %q, want %q", token, rec.Code, got, want)
		}
	}
	if strings.Contains(log.String(), "the label dpop is off") {
		t.Errorf("the log says %q", log.String())
	}
}
