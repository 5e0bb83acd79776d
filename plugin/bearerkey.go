//go:build go1.21

package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// A bearer key (mcpbouncer key create) is for clients that can send a fixed header and nothing else. Only the sidecar can open one, so it is asked
// for an access token (POST /hop/token, docs/hop.md), which is verified like any other and remembered under the key until it expires.

const keyPrefix = "mbb1_"

const (
	maxBearerKey  = 2500 // characters; the longest that is made has about 1,850
	minBearerKey  = 36   // bytes: header, nonce and tag
	maxAnswer     = 16 << 10
	keyFlights    = 8   // keys that are asked for at a time, before one that was never good waits
	strangeKeys   = 100 // keys that were never good that are asked for in strangePeriod
	strangePeriod = 1   // seconds: longer, and a few inventions would shut out all keys that are not known yet, as after a restart
	refusedPeriod = 60  // seconds for which a refused key is not asked for again
	maxRefused    = 1024
)

var errKey = errors.New("the bearer key is not valid here, has expired or was ended by the operator")

// bearerKeys keeps strangers from making the sidecar open what they invent. It holds hashes of keys and never a key.
type bearerKeys struct {
	mu      sync.Mutex
	flights map[[32]byte]*keyFlight
	good    map[[32]byte]bool  // were good once: not counted; bounded by maxGeneration
	refused map[[32]byte]int64 // Unix seconds until which they are refused here; bounded by maxRefused
	since   int64              // Unix seconds: the period that strange counts in
	strange int
}

// keyFlight is one question to the sidecar. token and err are written before done is closed.
type keyFlight struct {
	done  chan struct{}
	token string
	err   error
}

func newBearerKeys() *bearerKeys {
	return &bearerKeys{flights: map[[32]byte]*keyFlight{}, good: map[[32]byte]bool{}, refused: map[[32]byte]int64{}}
}

// exchangeKey returns an access token for a bearer key.
func exchangeKey(ctx context.Context, k *keyset, key string) (string, error) {
	blob, err := strictBase64.DecodeString(strings.TrimPrefix(key, keyPrefix))
	if err != nil || len(key) > maxBearerKey || len(blob) < minBearerKey || blob[0] != 1 || strings.ContainsAny(key, "\r\n") {
		return "", errKey
	}
	flight, err := k.bearer.launch(k, key, now().Unix())
	if err != nil {
		return "", err
	}
	if !landed(ctx, flight.done) {
		return "", errKeysUnavailable
	}
	return flight.token, flight.err
}

// launch joins the flight of a key or starts one, unless the key was refused a moment ago or too many strange ones were asked for. The latter
// is no 401: the key may be a good one.
func (b *bearerKeys) launch(k *keyset, key string, at int64) (*keyFlight, error) {
	hash := sha256.Sum256([]byte(key))
	b.mu.Lock()
	defer b.mu.Unlock()
	if at < b.refused[hash] {
		return nil, errKey
	}
	flight := b.flights[hash]
	if flight != nil {
		return flight, nil
	}
	if at >= b.since+strangePeriod || at < b.since {
		b.since = at
		b.strange = 0
	}
	if !b.good[hash] && (len(b.flights) >= keyFlights || b.strange >= strangeKeys) {
		complain("too many bearer keys are asked for that are not known: new ones are answered 503 for a while")
		return nil, errKeysUnavailable
	}
	if !b.good[hash] {
		b.strange++
	}
	flight = &keyFlight{done: make(chan struct{})}
	b.flights[hash] = flight
	go b.fly(k, key, hash, flight)
	return flight, nil
}

// fly runs in a goroutine of its own: its panic would end the Traefik process.
func (b *bearerKeys) fly(k *keyset, key string, hash [32]byte, flight *keyFlight) {
	token := ""
	err := errKeysUnavailable
	defer func() {
		if r := recover(); r != nil {
			complain(fmt.Sprintf("internal error: %v", r))
			err = errKeysUnavailable
		}
		b.land(hash, flight, token, err)
	}()
	token, err = askForToken(k, key)
}

func (b *bearerKeys) land(hash [32]byte, flight *keyFlight, token string, err error) {
	at := now().Unix()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.flights, hash)
	switch {
	case err == nil:
		if !b.good[hash] && b.strange > 0 {
			b.strange--
		}
		if len(b.good) >= maxGeneration {
			b.good = map[[32]byte]bool{}
		}
		b.good[hash] = true
	case errors.Is(err, errKey):
		if len(b.refused) >= maxRefused {
			b.refused = map[[32]byte]int64{}
		}
		b.refused[hash] = at + refusedPeriod
		delete(b.good, hash)
	}
	flight.token = token
	flight.err = err
	close(flight.done)
}

func askForToken(k *keyset, key string) (string, error) {
	var answer struct {
		Token string `json:"access_token"`
	}
	err := postToSidecar(k, "/hop/token", "key="+url.QueryEscape(key), &answer)
	if errors.Is(err, errRefusedBySidecar) {
		return "", errKey
	}
	if err == nil && answer.Token == "" {
		err = errors.New("no access token in the answer")
	}
	if err != nil {
		complain("the sidecar gives no access token for a bearer key: " + reason(err))
		return "", errKeysUnavailable
	}
	return answer.Token, nil
}

var errRefusedBySidecar = errors.New("refused")

// postToSidecar sends a form and decodes the answer. What the sidecar refuses as invalid_grant is errRefusedBySidecar. No other answer is a verdict:
// invalid_request is what it says of a body that was cut off on its way.
func postToSidecar(k *keyset, path, form string, answer any) error {
	got, err := askSidecar(k.hop, http.MethodPost, k.sidecar+path, form, "", maxAnswer)
	if err != nil {
		return err
	}
	if got.status == http.StatusOK {
		return json.Unmarshal(got.body, answer)
	}
	var problem struct {
		Code string `json:"error"`
	}
	if json.Unmarshal(got.body, &problem) == nil && got.status == http.StatusBadRequest && problem.Code == "invalid_grant" {
		return errRefusedBySidecar
	}
	return fmt.Errorf("status %d", got.status)
}
