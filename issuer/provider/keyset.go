package provider

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/rsabits"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/issuer/trace"
)

// A provider publishes keys (RFC 7517), and any of them may have signed what it says. A library
// reads one key. Which keys are read, how often the set is fetched, and what the operator is told
// is decided here: a login must not hang on an error of the library
// (docs/decisions/0025-provider-keys.md).

// signatureAlgorithms are the algorithms that are verified (RFC 7518 §3.1, RFC 8037 §3.1). All are
// for key pairs: anybody who knows a client secret could sign with HS256, and anybody at all with
// "none".
var signatureAlgorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

const (
	// keysTried bounds what one signature costs: a set may hold any number of keys.
	keysTried = 16
	// oddKeysNamed bounds the lines in the log about one set.
	oddKeysNamed = 10
	// strangersPause is how long a set is not fetched again for what strangers bring: otherwise
	// each JWT that somebody makes up would be a request to the issuer, until it answers nobody.
	strangersPause = 10 * time.Second
)

// keySet is the set at one jwks_uri. It is safe for concurrent use.
type keySet struct {
	all         *Providers
	issuer, url string

	mu    sync.Mutex    // guards what follows for one access
	last  *providerKeys // nil before the first that could be read
	fetch *keyFetch     // under way; nil if there is none
	asked time.Time     // when the newest fetch began
}

type keyFetch struct {
	done chan struct{}
	keys *providerKeys
	err  error
}

func (all *Providers) newKeySet(issuer, url string) *keySet {
	return &keySet{all: all, issuer: issuer, url: url}
}

// errKeyNotThere is in the chain of errors of a token that names a key which the provider does not
// publish, or not yet.
var errKeyNotThere = errors.New("the provider publishes no key")

// errKeysUnread is in the chain of errors of a set that could not be fetched: no signature was
// refused.
var errKeysUnread = errors.New("the provider's keys cannot be read")

// KeysAhead reads the provider's keys for a login that has just begun, so that its end waits for
// one answer and not for two. It is nil where they are known. Strangers begin logins too: a set
// that cannot be read is asked for once in strangersPause, and an error is told where keys are
// needed. ctx may have ended: only the trace is taken from it.
func (p *Provider) KeysAhead(ctx context.Context) func() {
	k := p.keys
	if k == nil { // the provider has none
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last != nil || k.fetch != nil || k.all.Now().Sub(k.asked).Abs() < strangersPause {
		return nil
	}
	return func() { _, _ = k.refetch(context.WithoutCancel(ctx)) }
}

// verify returns what a key of the provider signed. A key that is not known may be new, and a cache
// may serve a set that is older than the key: the set is fetched again, past caches, and once more
// after a moment. anyKey tries other keys than the named one too.
func (k *keySet) verify(ctx context.Context, token *signedToken, anyKey bool) ([]byte, error) {
	k.mu.Lock()
	last := k.last
	k.mu.Unlock()
	err := errKeysUnread
	var payload []byte
	if last != nil {
		payload, err = k.verifiedBy(last, token, anyKey)
	}
	for try := 0; err != nil && try < 2; try++ {
		if try > 0 && k.all.Wait(ctx, oncePause) != nil {
			break
		}
		var fresh *providerKeys
		if fresh, err = k.refetch(ctx); err == nil {
			payload, err = k.verifiedBy(fresh, token, anyKey)
		}
	}
	return payload, err
}

// verifyStrangers is verify for a JWT that anybody may have made up. It fetches the set once in
// strangersPause, and a key that is not known until then cannot be read.
func (k *keySet) verifyStrangers(ctx context.Context, token *signedToken) ([]byte, error) {
	k.mu.Lock()
	last, mayAsk := k.last, k.fetch != nil || k.all.Now().Sub(k.asked).Abs() >= strangersPause
	k.mu.Unlock()
	err := fmt.Errorf("%w: they were asked for just now", errKeysUnread)
	if last != nil {
		var payload []byte
		if payload, err = k.verifiedBy(last, token, false); err == nil {
			return payload, nil
		}
	}
	if mayAsk {
		fresh, failed := k.refetch(ctx)
		if failed != nil {
			return nil, failed
		}
		return k.verifiedBy(fresh, token, false)
	}
	if errors.Is(err, errKeyNotThere) { // it may have come since
		return nil, fmt.Errorf("%w again so soon: %w", errKeysUnread, err)
	}
	return nil, err
}

func (k *keySet) verifiedBy(keys *providerKeys, token *signedToken, anyKey bool) ([]byte, error) {
	payload, signer, err := keys.verify(token, anyKey)
	if err == nil && token.kid != "" && signer != token.kid && k.all.oddKeys.First(k.issuer, "another kid", token.kid, signer) {
		k.all.Log.Info("the provider signs with another key than its token names; the signature is good", "provider", k.issuer, "named", outgoing.PlainText(token.kid, 80), "signed with", outgoing.PlainText(signer, 80))
	}
	return payload, err
}

// refetch asks for the set. Requests that come meanwhile get the same answer.
func (k *keySet) refetch(ctx context.Context) (*providerKeys, error) {
	k.mu.Lock()
	if other := k.fetch; other != nil {
		k.mu.Unlock()
		select {
		case <-other.done:
			return other.keys, other.err
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errKeysUnread, ctx.Err())
		}
	}
	// This error is for those who wait, should ask panic.
	mine := &keyFetch{done: make(chan struct{}), err: errKeysUnread}
	k.fetch, k.asked = mine, k.all.Now()
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if mine.err == nil {
			k.last = mine.keys
		}
		k.fetch = nil
		close(mine.done)
	}()
	mine.keys, mine.err = k.ask(ctx)
	return mine.keys, mine.err
}

func (k *keySet) ask(ctx context.Context) (*providerKeys, error) {
	at, ok := ctx.Deadline()
	if !ok {
		at = time.Now().Add(timeout)
	}
	// Others wait with this request, so it does not end when its client hangs up. It holds nothing
	// that a stranger has chosen.
	shared := trace.Carry(context.Background(), ctx)
	if ctx.Value(toWarm{}) != nil {
		shared = withStrangersInput(shared)
	}
	ctx, cancel := context.WithDeadline(outgoing.WithSecondTry(withStep(shared, "keys")), at)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: jwks_uri is no URL", errKeysUnread)
	}
	// A cache on the way may have the set from before a rotation.
	r.Header.Set("Cache-Control", "no-cache")
	body, mediaType, err := k.all.fetched(r, k.issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeysUnread, err)
	}
	sum := sha256.Sum256(body)
	k.mu.Lock()
	last := k.last
	k.mu.Unlock()
	// To read them again would take longer than to verify with one of them.
	if last != nil && last.sum == sum {
		return last, nil
	}
	keys, ok := readProviderKeys(body)
	if !ok {
		return nil, fmt.Errorf("%w: %w", errKeysUnread, &strangeAnswer{http.StatusOK, mediaType, "no JSON Web Key Set"})
	}
	keys.sum = sum
	k.nameOdd(keys)
	return keys, nil
}

// nameOdd says once which keys are passed over.
func (k *keySet) nameOdd(keys *providerKeys) {
	named := 0
	for _, odd := range keys.odd {
		if odd.expected || !k.all.oddKeys.First(k.issuer, odd.kid, odd.kty, odd.crv, odd.cause) {
			continue
		}
		if named++; named > oddKeysNamed {
			k.all.Log.Info("more keys of the provider are passed over", "provider", k.issuer)
			return
		}
		k.all.Log.Info("a key of the provider is passed over", "provider", k.issuer, "kid", outgoing.PlainText(odd.kid, 80), "kty", outgoing.PlainText(odd.kty, 80), "crv", outgoing.PlainText(odd.crv, 80), "cause", odd.cause)
	}
}

// providerKeys is a set as it was read.
type providerKeys struct {
	sum  [sha256.Size]byte // of its text
	keys []providerKey
	odd  []oddKey
}

type providerKey struct {
	kid    string
	alg    string // the only one that the provider uses it for; empty if it does not say
	public any    // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

// oddKey is a key that is passed over.
type oddKey struct {
	kid, kty, crv, cause string
	expected             bool // it was never meant for signatures
}

// readProviderKeys reads a JWK Set. A key that cannot be used is passed over (RFC 7517 §5), so that
// one odd key does not shut out everybody. A set may have no key left and is still a set; false
// means that the body is not a set.
func readProviderKeys(body []byte) (*providerKeys, bool) {
	var set struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &set) != nil || set.Keys == nil {
		return nil, false
	}
	all := &providerKeys{}
	for _, text := range *set.Keys {
		var members map[string]any
		json.Unmarshal(text, &members) // what is not an object has no members
		member := func(name string) string { s, _ := members[name].(string); return s }
		key, cause := readProviderKey(members, member)
		if cause == "" {
			all.keys = append(all.keys, key)
			continue
		}
		if members == nil {
			cause = "it is not an object"
		}
		all.odd = append(all.odd, oddKey{member("kid"), member("kty"), member("crv"), cause, member("use") == "enc"})
	}
	return all, true
}

// readProviderKey reads one key, or says in words why it is passed over. Only what a signature
// needs is read: certificates beside a key (x5c) prove nothing here, and some cannot be parsed.
func readProviderKey(members map[string]any, member func(string) string) (providerKey, string) {
	kty, crv, alg := member("kty"), member("crv"), member("alg")
	length := func(name string) int { // in bytes; -1 if it cannot be read
		b, err := base64.RawURLEncoding.DecodeString(member(name))
		if err != nil || len(b) == 0 {
			return -1
		}
		return len(b)
	}
	needed := []string{}
	size := 0 // of each coordinate, in bytes (RFC 7518 §6.2.1.2, RFC 8037 §2)
	switch kty + " " + crv {
	case "EC P-256":
		needed, size = []string{"x", "y"}, 32
	case "EC P-384":
		needed, size = []string{"x", "y"}, 48
	case "EC P-521":
		needed, size = []string{"x", "y"}, 66
	case "OKP Ed25519":
		needed, size = []string{"x"}, 32
	default:
		if kty == "RSA" {
			needed = []string{"n", "e"}
		}
	}
	switch {
	case member("use") == "enc":
		return providerKey{}, "it is for encryption (use)"
	case kty == "oct":
		return providerKey{}, "it is no public key: who reads it can sign"
	case members["d"] != nil || members["k"] != nil || members["priv"] != nil:
		return providerKey{}, "it holds a private part, and is published: who reads it can sign"
	case kty == "":
		return providerKey{}, "it has no kty"
	case alg != "" && !slices.Contains(signatureAlgorithms, jose.SignatureAlgorithm(alg)):
		return providerKey{}, fmt.Sprintf("its alg %q is not one of the signatures that are verified", outgoing.PlainText(alg, 40))
	case len(needed) == 0 && (kty == "EC" || kty == "OKP"):
		return providerKey{}, "its crv is not one of those that are verified"
	case len(needed) == 0:
		return providerKey{}, "its kty is not one of those that are verified"
	}
	for _, name := range needed {
		switch n := length(name); {
		case n < 0:
			return providerKey{}, name + " is missing, or not base64url"
		case size != 0 && n != size:
			return providerKey{}, fmt.Sprintf("%s has %d bytes instead of %d", name, n, size)
		}
	}
	plain := map[string]string{"kty": kty, "crv": crv}
	for _, name := range needed {
		plain[name] = member(name)
	}
	var read jose.JSONWebKey
	switch {
	case kty == "RSA" && length("n") > rsabits.Max/8+1: // numbers may have a zero byte in front
		return providerKey{}, fmt.Sprintf("it is longer than %d bits", rsabits.Max)
	case read.UnmarshalJSON(must(json.Marshal(plain))) != nil || !read.Valid() || !read.IsPublic():
		return providerKey{}, "its numbers are not those of a key"
	case rsabits.IsShort(read.Key):
		return providerKey{}, fmt.Sprintf("it is shorter than %d bits", rsabits.Min)
	case rsabits.IsLong(read.Key):
		return providerKey{}, fmt.Sprintf("it is longer than %d bits", rsabits.Max)
	}
	return providerKey{member("kid"), alg, read.Key}, ""
}

// signs says whether a signature of this algorithm can be made by the key's owner.
func (p providerKey) signs(alg string) bool {
	switch key := p.public.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return alg == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[key.Params().BitSize]
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// verify returns what was signed, and the kid of the key that signed it. The key is the one that
// the token names, or any key where it names none. anyKey tries the others after it: at a refresh,
// Hydra 2.3 names the key of the login, though a newer one has signed
// (docs/decisions/0025-provider-keys.md).
func (p *providerKeys) verify(token *signedToken, anyKey bool) (payload []byte, signer string, err error) {
	named, tried := 0, 0
	try := func(key providerKey) bool {
		if !key.signs(token.alg) || tried == keysTried {
			return false
		}
		tried++
		payload, err = token.jws.Verify(key.public)
		signer = key.kid
		return err == nil
	}
	for _, key := range p.keys {
		if token.kid != "" && key.kid != token.kid {
			continue
		}
		if named++; try(key) {
			return payload, signer, nil
		}
	}
	fitting := tried
	if anyKey && token.kid != "" {
		for _, key := range p.keys {
			if key.kid != token.kid && (key.alg == "" || key.alg == token.alg) && try(key) {
				return payload, signer, nil
			}
		}
	}
	return nil, "", p.whyNot(token, named, fitting)
}

// whyNot says in words why no key verified a token. named is how many keys it names, and fitting
// how many of them are for its algorithm.
func (p *providerKeys) whyNot(token *signedToken, named, fitting int) error {
	kid := fmt.Sprintf("%q", outgoing.PlainText(token.kid, 80))
	at := slices.IndexFunc(p.odd, func(odd oddKey) bool { return odd.kid == token.kid })
	switch {
	case token.kid == "" && fitting == 0:
		return fmt.Errorf("it names no key, and the provider publishes none for %s", token.alg)
	case token.kid == "":
		return errors.New("its signature fits no key of the provider")
	case fitting > 0:
		return fmt.Errorf("its signature does not fit the key that it names (kid %s)", kid)
	case named > 0:
		return fmt.Errorf("the key that it names (kid %s) is not one for %s", kid, token.alg)
	case at >= 0:
		return fmt.Errorf("the key that it names (kid %s) is passed over: %s", kid, p.odd[at].cause)
	}
	return fmt.Errorf("%w of the kid %s that it names", errKeyNotThere, kid)
}

// signedToken is a JWT that is signed by one key (RFC 7515 §7.1), before anything of it is
// believed.
type signedToken struct {
	alg, kid string
	jws      *jose.JSONWebSignature
}

// readSigned reads a JWT that is signed with one of these algorithms. Its errors name what came.
func readSigned(raw string, algorithms []jose.SignatureAlgorithm) (*signedToken, error) {
	raw = strings.TrimSpace(raw)
	jws, err := jose.ParseSignedCompact(raw, algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, whyUnreadable(raw, algorithms)
	}
	signed := jws.Signatures[0].Header // as the library that verifies has read it
	return &signedToken{signed.Algorithm, signed.KeyID, jws}, nil
}

// whyUnreadable says in words why go-jose does not read a JWT with these algorithms.
func whyUnreadable(raw string, algorithms []jose.SignatureAlgorithm) error {
	parts := strings.Split(raw, ".")
	var header struct {
		Alg any `json:"alg"`
		Kid any `json:"kid"`
	}
	first, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil || json.Unmarshal(first, &header) != nil {
		return errors.New("it is malformed: no JWT")
	}
	alg, _ := header.Alg.(string)
	if alg != "" {
		alg = outgoing.SafeCode(alg)
	}
	_, isText := header.Kid.(string)
	switch {
	case len(parts) == 5: // RFC 7516 §7.1
		return errors.New("it is encrypted, and this server has no key for that: let the provider sign what it sends to this client, and not encrypt it")
	case len(parts) != 3:
		return fmt.Errorf("it is malformed: %d parts instead of 3", len(parts))
	case alg == "none", alg == "":
		return errors.New("it has no signature: let the provider sign what it sends to this client, with RS256 or ES256")
	case strings.HasPrefix(alg, "HS"):
		return fmt.Errorf("it is signed with %s, for which the client secret is the key: set this client at the provider to RS256 or ES256", alg)
	case !slices.Contains(algorithms, jose.SignatureAlgorithm(alg)):
		return fmt.Errorf("it is signed with %s, which is not one of the algorithms that the provider names and this server verifies (%s): set this client at the provider to RS256 or ES256", alg, joined(algorithms))
	case header.Kid != nil && !isText:
		return errors.New("it is malformed: kid is " + typeOf(header.Kid))
	}
	return errors.New("it is malformed: no JWT with one signature")
}

func joined(algorithms []jose.SignatureAlgorithm) string {
	names := make([]string, len(algorithms))
	for i, alg := range algorithms {
		names[i] = string(alg)
	}
	return strings.Join(names, " ")
}

// readableAlgorithms are the algorithms of a discovery document's list that are verified here, or
// all of signatureAlgorithms where the list has none of them: the list is a hint (OpenID Connect
// Discovery §3), and the keys decide.
func readableAlgorithms(listed []string) []jose.SignatureAlgorithm {
	var both []jose.SignatureAlgorithm
	for _, alg := range signatureAlgorithms {
		if slices.Contains(listed, string(alg)) {
			both = append(both, alg)
		}
	}
	if both == nil {
		return signatureAlgorithms
	}
	return both
}
