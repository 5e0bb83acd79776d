//go:build go1.21

package plugin

import (
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	keysDeadline = 3 * time.Second // for one fetch, and for a request that waits for one
	maxKeysBody  = 128 << 10       // bytes
	// members of a key set that are looked at: more than a sidecar publishes (5 masters, 144
	// epochs)
	maxKeys    = 768
	maxKeysets = 64
	// seconds after the last success for which keys are used while the sidecar is away
	maxStale      = 3600
	retryAfter    = 5  // seconds: what Retry-After says, and the longest pause after a failure
	unknownPeriod = 30 // seconds between two fetches that only an unknown kid asks for
)

var errKeysUnavailable = errors.New("the signing keys cannot be fetched from the sidecar")

// verifyKey is a public key and the one algorithm it is for.
type verifyKey struct {
	kid       string
	algorithm string // EdDSA or RS256
	ed25519   ed25519.PublicKey
	rsa       *rsa.PublicKey
	text      string // algorithm and key in one comparable string
}

// keyset caches the sidecar's keys for one tenant, and the tokens verified with them. Nothing runs
// between requests: a request that finds the keys due starts the fetch, and waits for it only if it
// cannot do without.
type keyset struct {
	sidecar string // base URL
	origin  string // whose keys they are: what keysFrom says
	bearer  *bearerKeys

	mu       sync.RWMutex          // never held during a fetch
	hop      *hopSealer            // of the middleware that asked last: its name stands in the log
	ttl      int64                 // seconds
	keys     map[string]*verifyKey // kid → key
	tokens   *tokenCache           // verified with keys, so replaced when a key changes or goes
	pause    period                // no fetch, unless a kid is unknown
	calm     int64                 // Unix seconds: until then no period here can end; see settle
	calmFrom int64                 // Unix seconds: unless the clock is set back to before it
	usable   period                // outside it, keys and tokens are not used
	unknown  period                // an unknown kid causes no fetch
	failures int                   // since the last success
	flight   chan struct{}         // closed at the end of the running fetch; nil when none runs
	// the next success is said in the log: after the load, or a failure
	ask    bool
	usedAt int64 // Unix seconds of the last fetch or lookup in keysets
	proven bool  // a token was verified with them

	// nil before the first success; no token is remembered that it denies
	denied        *denyList
	denyPause     period        // no fetch
	denyFresh     period        // requests are judged by it without waiting for a fetch
	denyConfirmed int64         // Unix seconds at which it was last said to be the current one
	denyFailures  int           // since the last success
	denyFlight    chan struct{} // closed at the end of the running fetch; nil when none runs
}

// keysets outlives the middlewares, because Traefik makes new ones at each reload.
var keysets = struct {
	sync.Mutex
	byID map[string]*keyset
}{byID: map[string]*keyset{}}

// keysetFor returns the key set of a tenant. When there are too many, the one unused for longest
// goes, of those first for which no token was ever good: strangers choose hosts, where publicURL is
// not set. origin says which keys they are, and id also what the tokens were verified for. A new
// set begins with what another of its origin has: a change of labels while the sidecar is away must
// not throw good keys away.
func keysetFor(origin, id, sidecar string, ttl int64, hop *hopSealer) *keyset {
	at := now().Unix()
	keysets.Lock()
	defer keysets.Unlock()
	k := keysets.byID[id]
	if k == nil {
		k = &keyset{sidecar: sidecar, origin: origin, tokens: newTokenCache(), bearer: newBearerKeys()}
		for _, other := range keysets.byID {
			if other.origin == origin {
				adopt(k, other)
			}
		}
		if len(keysets.byID) >= maxKeysets {
			evictKeyset(at)
		}
		keysets.byID[id] = k
	}
	k.mu.Lock()
	k.hop = hop
	k.ttl = ttl
	k.usedAt = at
	k.mu.Unlock()
	return k
}

// adopt takes over keys and deny document where the other's are newer. Nobody else knows k yet.
func adopt(k, other *keyset) {
	other.mu.RLock()
	defer other.mu.RUnlock()
	if other.keys != nil && other.usable.from >= k.usable.from {
		k.keys = map[string]*verifyKey{}
		for kid, key := range other.keys {
			k.keys[kid] = key
		}
		k.pause = other.pause
		k.usable = other.usable
		k.failures = other.failures
	}
	if other.denied != nil && other.denyConfirmed >= k.denyConfirmed {
		k.denied = other.denied
		k.denyPause = other.denyPause
		k.denyFresh = other.denyFresh
		k.denyConfirmed = other.denyConfirmed
		k.denyFailures = other.denyFailures
	}
	k.settle()
}

// evictKeyset needs keysets locked.
func evictKeyset(at int64) {
	victim := ""
	var oldest int64
	for id, k := range keysets.byID {
		k.mu.RLock()
		usedAt := k.usedAt
		proven := k.proven
		k.mu.RUnlock()
		if usedAt > at { // the clock was set back: a set of before is not the one in use
			usedAt = 0
		}
		if !proven { // these go first
			usedAt -= maxDate
		}
		if victim == "" || usedAt < oldest {
			victim = id
			oldest = usedAt
		}
	}
	delete(keysets.byID, victim)
}

// recallIdentity returns who sends a request when its credentials were verified before, their key
// is still there and they have not expired.
func recallIdentity(k *keyset, credentials []string) *identity {
	if len(credentials) != 1 {
		return nil
	}
	hash := sha256.Sum256([]byte(credentials[0]))
	at := now().Unix()
	k.mu.RLock()
	id := k.tokens.young[hash]
	if id == nil {
		id = k.tokens.old[hash]
	}
	calm := at < k.calm && at >= k.calmFrom
	k.mu.RUnlock()
	if id == nil || at >= id.expires {
		return nil
	}
	if !calm && !k.alive() {
		return nil
	}
	return id
}

// reviveIdentity is for credentials that are remembered, but not known to be good at this time: it
// waits for what is overdue.
func reviveIdentity(k *keyset, req *http.Request) *identity {
	credentials := req.Header["Authorization"]
	if len(credentials) != 1 {
		return nil
	}
	hash := sha256.Sum256([]byte(credentials[0]))
	k.mu.RLock()
	known := k.tokens.young[hash] != nil || k.tokens.old[hash] != nil
	k.mu.RUnlock()
	if !known {
		return nil
	}
	if _, err := findDenyList(req.Context(), k); err != nil {
		return nil
	}
	return recallIdentity(k, credentials)
}

// alive says whether the keys, and what was verified with them, may still be used. It starts the
// fetches that are due.
func (k *keyset) alive() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := now().Unix()
	if !during(k.pause, at) {
		k.launch(at)
	}
	k.launchDeny(at)
	return during(k.usable, at) && !k.denyOverdue(at)
}

// settle finds the time in which nothing is due, and all that is remembered is good; k.mu is held.
func (k *keyset) settle() {
	k.calm = 0
	if k.failures > 0 || k.denyFailures > 0 || k.denied == nil {
		return // there is something to look at on each request
	}
	k.calm = k.pause.until
	if k.denyPause.until < k.calm {
		k.calm = k.denyPause.until
	}
	k.calmFrom = k.pause.from
	if k.denyPause.from > k.calmFrom {
		k.calmFrom = k.denyPause.from
	}
}

// remember keeps the outcome of a verification, unless the key went or the deny document changed
// meanwhile. It returns the identity that is remembered: of requests that bring a new token at the
// same time, all go on with one.
func remember(k *keyset, credentials string, id *identity, key *verifyKey, denied *denyList) *identity {
	hash := sha256.Sum256([]byte(credentials))
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[key.kid] != key || k.denied != denied {
		return id
	}
	k.proven = true
	other := k.tokens.young[hash]
	if other != nil && other.expires == id.expires {
		return other
	}
	addToken(k.tokens, hash, id)
	return id
}

// findKey returns the key with a kid. It waits only when there is no usable key set, or when the
// kid is unknown and may be new.
func findKey(ctx context.Context, t *tenant, kid string) (*verifyKey, error) {
	k := t.keys
	at := now().Unix()
	k.mu.RLock()
	key := k.keys[kid]
	calm := at < k.calm && at >= k.calmFrom
	k.mu.RUnlock()
	if key != nil && calm {
		return key, nil
	}
	return k.find(ctx, t.hop, kid)
}

// find is for an unknown kid, and for the time when keys are due.
func (k *keyset) find(ctx context.Context, hop *hopSealer, kid string) (*verifyKey, error) {
	key, flight, err := k.lookup(hop, kid)
	if flight == nil {
		return key, err
	}
	if !landed(ctx, flight) {
		return nil, errKeysUnavailable
	}
	return k.result(kid)
}

// lookup returns a key, or an error, or a flight to wait for.
func (k *keyset) lookup(hop *hopSealer, kid string) (*verifyKey, chan struct{}, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := now().Unix()
	k.hop = hop
	if !during(k.pause, at) {
		k.launch(at)
	}
	usable := during(k.usable, at)
	key := k.keys[kid]
	if usable && key != nil {
		return key, nil, nil
	}
	if usable && k.failures == 0 && k.flight == nil && !during(k.unknown, at) {
		k.unknown = period{from: at, until: at + unknownPeriod}
		k.launch(at)
	}
	if k.flight != nil {
		return nil, k.flight, nil
	}
	if !usable || k.failures > 0 {
		return nil, nil, errKeysUnavailable
	}
	return nil, nil, errKeyUnknown
}

// result looks a key up after a flight, and starts no other.
func (k *keyset) result(kid string) (*verifyKey, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	at := now().Unix()
	key := k.keys[kid]
	switch {
	case !during(k.usable, at):
		return nil, errKeysUnavailable
	case key != nil:
		return key, nil
	case k.failures > 0:
		// the kid may be a new one: a 401 would make the client throw a good token away
		return nil, errKeysUnavailable
	}
	return nil, errKeyUnknown
}

// launch starts a fetch unless one is in the air; k.mu is held.
func (k *keyset) launch(at int64) {
	if k.flight == nil {
		k.usedAt = at
		k.flight = make(chan struct{})
		go k.fetch(k.hop)
	}
}

// landed waits for the end of a flight, and gives up with the request or at the deadline.
func landed(ctx context.Context, flight chan struct{}) bool {
	ctx, cancel := context.WithTimeout(ctx, keysDeadline)
	defer cancel()
	select {
	case <-flight:
		return true
	case <-ctx.Done():
		return false
	}
}

// fetch runs in a goroutine of its own: its panic would end the Traefik process.
func (k *keyset) fetch(hop *hopSealer) {
	var keys map[string]*verifyKey
	err := errKeysUnavailable
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: %v", r)
		}
		k.land(hop, keys, err)
	}()
	keys, err = k.download(hop)
}

// land ends a flight. Tokens stay cached only when every key that could have verified them is still
// there, unchanged.
func (k *keyset) land(hop *hopSealer, keys map[string]*verifyKey, err error) {
	if err != nil {
		complain(hop.name, "keys", "the signing keys cannot be fetched from the sidecar "+k.sidecar+": "+reason(err))
	}
	says := false
	defer func() {
		if says { // after the lock is given back: whoever reads the log may be slow
			log.Printf("mcpbouncer: middleware %q: the sidecar %s answers and accepts the hop key", hop.name, k.sidecar)
		}
	}()
	k.mu.Lock()
	defer k.mu.Unlock()
	at := now().Unix()
	close(k.flight)
	k.flight = nil
	if err != nil {
		k.failures++
		k.ask = true
		k.pause = period{from: at, until: at + backoff(k.failures)}
		k.calm = 0
		return
	}
	for kid, old := range k.keys {
		key := keys[kid]
		if key == nil || key.text != old.text {
			k.tokens = newTokenCache()
		} else {
			keys[kid] = old // keeps the identity that remember compares
		}
	}
	k.keys = keys
	k.failures = 0
	k.pause = period{from: at, until: at + k.ttl}
	k.usable = period{from: at, until: at + maxStale}
	k.settle()
	says = k.ask
	k.ask = false
}

// backoff is 1 second, 2, 4, and then as long as clients are told to wait.
func backoff(failures int) int64 {
	if failures > 3 {
		return retryAfter
	}
	return int64(1) << uint(failures-1)
}

// download fetches the key set (RFC 7517 §5).
func (k *keyset) download(hop *hopSealer) (map[string]*verifyKey, error) {
	got, err := askSidecar(hop, http.MethodGet, k.sidecar+"/oauth/jwks.json", "", "", maxKeysBody)
	if err != nil {
		return nil, err
	}
	if got.status != http.StatusOK {
		return nil, fmt.Errorf("status %d", got.status)
	}
	return parseKeys(got.body)
}

// parseKeys reads a JWK set. Keys of other kinds are passed over; a set without a usable key is an
// error.
func parseKeys(body []byte) (map[string]*verifyKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, errors.New("the key set is not JSON")
	}
	keys := map[string]*verifyKey{}
	for i, text := range set.Keys {
		if i >= maxKeys {
			break
		}
		key := parseKey(text)
		if key != nil && keys[key.kid] == nil {
			keys[key.kid] = key
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set holds no usable key")
	}
	return keys, nil
}

// parseKey reads an Ed25519 key (RFC 8037 §2) or an RSA key (RFC 7518 §6.3.1), or returns nil.
func parseKey(text []byte) *verifyKey {
	var jwk struct {
		Kty string `json:"kty"`
		Kid string `json:"kid"`
		Use string `json:"use"`
		Alg string `json:"alg"`
		Crv string `json:"crv"`
		X   string `json:"x"`
		N   string `json:"n"`
		E   string `json:"e"`
	}
	if json.Unmarshal(text, &jwk) != nil || jwk.Kid == "" || len(jwk.Kid) > maxKeyID || (jwk.Use != "" && jwk.Use != "sig") {
		return nil
	}
	switch {
	case jwk.Kty == "OKP" && jwk.Crv == "Ed25519" && (jwk.Alg == "" || jwk.Alg == "EdDSA"):
		x, err := strictBase64.DecodeString(jwk.X)
		if err == nil && len(x) == ed25519.PublicKeySize {
			return &verifyKey{kid: jwk.Kid, algorithm: "EdDSA", ed25519: ed25519.PublicKey(x), text: "EdDSA " + jwk.X}
		}
	case jwk.Kty == "RSA" && (jwk.Alg == "" || jwk.Alg == "RS256"):
		n, err1 := strictBase64.DecodeString(jwk.N)
		e, err2 := strictBase64.DecodeString(jwk.E)
		if err1 != nil || err2 != nil || len(e) == 0 || len(e) > 4 {
			return nil
		}
		modulus := new(big.Int).SetBytes(n)
		exponent := new(big.Int).SetBytes(e).Int64()
		// RFC 7518 §3.3: 2048 bits at least. The upper bound keeps a verification in microseconds.
		if modulus.BitLen() >= 2048 && modulus.BitLen() <= 8192 && exponent >= 3 && exponent%2 == 1 && exponent < 1<<31 {
			return &verifyKey{kid: jwk.Kid, algorithm: "RS256", rsa: &rsa.PublicKey{N: modulus, E: int(exponent)}, text: strings.Join([]string{"RS256", jwk.N, jwk.E}, " ")}
		}
	}
	return nil
}
