//go:build go1.21

package plugin

import (
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/big"
	"net/http"
	"strings"
	"sync"
)

const (
	maxKeysBody = 128 << 10 // bytes
	// Members of a key set that are looked at. A sidecar publishes fewer (5 masters, 144 epochs).
	maxKeys       = 768
	keysUsable    = 3600 // seconds after the last success, for which keys are used in an outage
	maxKeysTTL    = 3600 // seconds: what the label jwksCacheTTLSeconds may say, keysUsable at most
	retryAfter    = 5    // seconds: what Retry-After says, and the longest pause after a failure
	unknownPeriod = 30   // seconds between two fetches that only an unknown kid asks for
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

// keyUser is a tokenCache. An interface saves memory: in Yaegi the name of a type spells out the
// structs behind all its pointers, each time that one is reached, but nothing behind an interface.
type keyUser interface {
	useKeys(keys map[string]*verifyKey, due period)
}

// keySet caches the keys by which the sidecar signs the access tokens of a tenant. Nothing runs
// between requests: a request that finds a fetch due starts it, and waits for it only if it has to.
type keySet struct {
	sidecar string   // base URL
	tokens  keyUser  // verified with these keys
	figures *figures // count failures

	mu   sync.RWMutex          // never held during a fetch
	byID map[string]*verifyKey // by kid; it is replaced, and never changed
	// Unix seconds: until nextDue no period here can end, unless the clock is set back to before
	// dueFrom. 0 after a failure.
	nextDue  int64
	dueFrom  int64
	hop      *hopSealer // of the middleware that asked last: its name stands in the log
	ttl      int64      // seconds
	pause    period     // no fetch, unless a kid is unknown
	usable   period     // outside it, keys are not used
	unknown  period     // an unknown kid causes no fetch
	failures int        // since the last success
	inflight *flight    // nil when none runs
	ask      bool       // the log tells the next success: after the load, or a failure
	usedAt   int64      // Unix seconds of the last fetch or lookup in sidecarStates
}

// findKey returns the key with a kid, for a request. It waits only when no key is usable, or when
// the kid is unknown and may be new.
func findKey(req *http.Request, t *tenant, kid string) (*verifyKey, error) {
	k := t.sidecar.keys
	at := now().Unix()
	k.mu.RLock()
	key := k.byID[kid]
	settled := at < k.nextDue && at >= k.dueFrom
	k.mu.RUnlock()
	if key != nil && settled {
		return key, nil
	}
	return k.find(req, t.hop, kid)
}

// find is findKey for an unknown kid, and for a time when a fetch is due.
func (k *keySet) find(req *http.Request, hop *hopSealer, kid string) (*verifyKey, error) {
	key, inflight, err := k.lookup(req, hop, kid)
	if inflight == nil {
		return key, err
	}
	if !inflight.wait(req.Context()) {
		return nil, errKeysUnavailable
	}
	return k.fetched(kid)
}

// lookup returns a key, or an error, or a flight to wait for.
func (k *keySet) lookup(req *http.Request, hop *hopSealer, kid string) (*verifyKey, *flight, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := now().Unix()
	k.hop = hop
	if !during(k.pause, at) {
		k.launch(at, req)
	}
	usable := during(k.usable, at)
	key := k.byID[kid]
	if usable && key != nil {
		return key, nil, nil
	}
	if usable && k.failures == 0 && k.inflight == nil && !during(k.unknown, at) {
		k.unknown = period{from: at, until: at + unknownPeriod}
		k.launch(at, req)
	}
	if k.inflight != nil {
		return nil, k.inflight, nil
	}
	if !usable || k.failures > 0 {
		return nil, nil, errKeysUnavailable
	}
	return nil, nil, errKeyUnknown
}

// fetched looks a key up after a flight, and starts no other.
func (k *keySet) fetched(kid string) (*verifyKey, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	at := now().Unix()
	key := k.byID[kid]
	switch {
	case !during(k.usable, at):
		return nil, errKeysUnavailable
	case key != nil:
		return key, nil
	case k.failures > 0:
		// The kid may be a new one: a 401 would make the client throw a good token away.
		return nil, errKeysUnavailable
	}
	return nil, errKeyUnknown
}

// alive says whether the keys may still be used. It starts a fetch that is due.
func (k *keySet) alive() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := now().Unix()
	if !during(k.pause, at) {
		k.launch(at, nil)
	}
	return during(k.usable, at)
}

// usableAt says whether the keys may be used, or are just being fetched.
func (k *keySet) usableAt(at int64) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.inflight != nil || during(k.usable, at)
}

// greet has the keys fetched now, and the outcome said in the log. It returns the flight.
func (k *keySet) greet(hop *hopSealer) *flight {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hop = hop
	k.ask = true
	k.launch(now().Unix(), nil)
	return k.inflight
}

// launch starts a fetch unless one is in the air; k.mu is held. req is the request that may wait
// for it, or nil.
func (k *keySet) launch(at int64, req *http.Request) {
	if k.inflight != nil {
		return
	}
	k.usedAt = at
	k.inflight = newFlight()
	hop := k.hop
	parent := traceparentOf(req)
	var keys map[string]*verifyKey
	fly(func() error {
		got, err := k.download(hop, parent)
		keys = got
		return err
	}, func(err error) { k.land(hop, keys, err) })
}

// land takes the outcome of a fetch. A key that has not changed keeps its verifyKey, by which the
// tokens are remembered.
func (k *keySet) land(hop *hopSealer, keys map[string]*verifyKey, err error) {
	if err != nil {
		complain(hop.name, "keys", "the signing keys cannot be fetched from the sidecar "+k.sidecar+": "+reason(err))
	}
	says := false
	defer func() {
		if says { // without the lock: whoever reads the log may be slow
			log.Printf("mcpbouncer: middleware %q: the sidecar %s answers and accepts the hop key", hop.name, k.sidecar)
		}
	}()
	k.mu.Lock()
	defer k.mu.Unlock()
	at := now().Unix()
	k.inflight.done(err)
	k.inflight = nil
	if err != nil {
		k.failures++
		k.ask = true
		k.pause = period{from: at, until: at + backoff(k.failures)}
		k.settle()
		return
	}
	for kid, old := range k.byID {
		key := keys[kid]
		if key != nil && key.text == old.text {
			keys[kid] = old
		}
	}
	k.byID = keys
	k.failures = 0
	k.pause = period{from: at, until: at + k.ttl}
	k.usable = period{from: at, until: at + keysUsable}
	k.settle()
	says = k.ask
	k.ask = false
}

// settle finds the time in which no fetch is due, and tells the tokens; k.mu is held.
func (k *keySet) settle() {
	due := period{}
	if k.failures == 0 {
		due = k.pause
	}
	k.nextDue = due.until
	k.dueFrom = due.from
	k.tokens.useKeys(k.byID, due)
}

// adopt takes over the keys of another set where they are newer. Nobody else knows k yet.
func (k *keySet) adopt(other *keySet) {
	other.mu.RLock()
	defer other.mu.RUnlock()
	if other.byID == nil || other.usable.from < k.usable.from {
		return
	}
	k.byID = other.byID
	k.pause = other.pause
	k.usable = other.usable
	k.failures = other.failures
	k.settle()
}

// download fetches the key set (RFC 7517 §5).
func (k *keySet) download(hop *hopSealer, parent string) (map[string]*verifyKey, error) {
	got, err := askSidecar(hop, &question{method: http.MethodGet, url: k.sidecar + "/oauth/jwks.json", limit: maxKeysBody, parent: parent, figures: k.figures})
	if err != nil {
		return nil, err
	}
	if got.status != http.StatusOK {
		return nil, fmt.Errorf("status %d", got.status)
	}
	return parseKeys(got.body)
}

// parseKeys reads a JWK set. It passes over keys of other kinds; a set without a usable key is an
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

// parseKey reads an Ed25519 key (RFC 8037 §2) or an RSA key (RFC 7518 §6.3.1), or
// returns nil.
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
		// RFC 7518 §3.3: 2048 bits at least. The upper bound keeps a verification in
		// microseconds.
		if modulus.BitLen() >= 2048 && modulus.BitLen() <= 8192 && exponent >= 3 && exponent%2 == 1 && exponent < 1<<31 {
			return &verifyKey{kid: jwk.Kid, algorithm: "RS256", rsa: &rsa.PublicKey{N: modulus, E: int(exponent)}, text: strings.Join([]string{"RS256", jwk.N, jwk.E}, " ")}
		}
	}
	return nil
}
