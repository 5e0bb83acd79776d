//go:build go1.21

package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// A bearer key (mcpbouncer key create) is for clients that can send a fixed header and nothing
// else. Only the sidecar can open one. It exchanges the key for an access token (POST /hop/token,
// docs/hop.md), which is verified like any other and remembered under the key until it expires.

const keyPrefix = "mbb1_"

const (
	maxBearerKey  = 2500 // characters; the longest key that is made has about 1,850
	minBearerKey  = 36   // bytes: header, nonce and tag
	maxAnswer     = 16 << 10
	keyPlaces     = 64   // unknown keys that are asked for at a time
	keysWaiting   = 1024 // unknown keys that wait; half as many from one address
	refusedPeriod = 60   // seconds for which a refused key is not asked for again
	maxRefused    = 1024
	maxGoodKeys   = 2 * maxYoung
)

var errKey = errors.New("the bearer key is not valid here, has expired or was ended by the operator")

// bearerKeys keeps strangers from making the sidecar open invented keys, without shutting out keys
// that are good but not known yet, as all are after a restart. Invented keys look like them. So all
// unknown keys share keyPlaces places. When these are taken, a key waits. A place that becomes free
// goes to an address by lot, and to one of its keys by lot. So a flood from one address delays a
// key from another by one or two answers of the sidecar, and no key is refused because it came at a
// bad time. No key is kept here longer than it is asked for.
type bearerKeys struct {
	mu       sync.Mutex
	inflight map[[32]byte]*exchange
	strange  int                    // places taken, of keyPlaces
	waiting  map[string][]*exchange // address → its keys that wait; no entry is empty
	queued   int                    // all of waiting; bounded by keysWaiting
	good     map[[32]byte]bool      // need no place: good once; bounded by maxGoodKeys
	refused  map[[32]byte]period    // when keys are refused without asking; bounded by maxRefused
}

// exchange is one question to the sidecar for the token of a bearer key. It may wait for its turn.
type exchange struct {
	flight  *flight
	tenant  *tenant
	hash    [32]byte
	key     string
	parent  string // traceparentOf the request that asked first
	strange bool   // the key is unknown, and needs a place
	since   int64  // Unix seconds
	token   string // written before the flight is done
}

// newBearerKeys leaves the maps to the first key: most tenants never see one.
func newBearerKeys() *bearerKeys { return &bearerKeys{} }

// prepare needs b.mu.
func (b *bearerKeys) prepare() {
	b.inflight = map[[32]byte]*exchange{}
	b.waiting = map[string][]*exchange{}
	b.good = map[[32]byte]bool{}
	b.refused = map[[32]byte]period{}
}

// exchangeKey returns an access token for a bearer key that came from an address, in a request with
// this traceparentOf.
func exchangeKey(ctx context.Context, t *tenant, key, address, parent string) (string, error) {
	blob, err := strictBase64.DecodeString(strings.TrimPrefix(key, keyPrefix))
	if err != nil || len(key) > maxBearerKey || len(blob) < minBearerKey || blob[0] != 1 || strings.ContainsAny(key, "\r\n") {
		return "", errKey
	}
	x, err := t.sidecar.bearer.launch(t, key, address, parent)
	if err != nil {
		return "", err
	}
	if !x.flight.wait(ctx) {
		return "", errKeysUnavailable
	}
	return x.token, x.flight.result()
}

// addressOf returns the address of a client as far as Traefik knows it: X-Real-Ip is set by Traefik
// or by a proxy that it trusts. Of an IPv6 address it returns the prefix that one subscriber has.
func addressOf(req *http.Request) string {
	address := req.Header.Get("X-Real-Ip")
	if address == "" {
		address, _, _ = net.SplitHostPort(req.RemoteAddr)
	}
	ip := net.ParseIP(address)
	if ip == nil {
		return ""
	}
	if ip.To4() == nil {
		ip = ip.Mask(net.CIDRMask(64, 128))
	}
	return ip.String()
}

// launch joins the exchange of a key or begins one, unless the key was refused lately, or too many
// others wait. The latter is not a 401, since the key may be a good one.
func (b *bearerKeys) launch(t *tenant, key, address, parent string) (*exchange, error) {
	hash := sha256.Sum256([]byte(key))
	b.mu.Lock()
	defer b.mu.Unlock()
	at := now().Unix()
	if b.inflight == nil {
		b.prepare()
	}
	if during(b.refused[hash], at) {
		return nil, errKey
	}
	x := b.inflight[hash]
	if x != nil {
		return x, nil
	}
	x = &exchange{tenant: t, hash: hash, key: key, parent: parent, strange: !b.good[hash], since: at, flight: newFlight()}
	if !x.strange || b.strange < keyPlaces {
		b.start(x)
	} else if len(b.waiting[address]) < keysWaiting/2 && (b.queued < keysWaiting || b.makeRoom(address)) {
		b.waiting[address] = append(b.waiting[address], x)
		b.queued++
	} else {
		complain(t.hop.name, "strange keys", "so many bearer keys are asked for that are not known that some are answered 503: somebody invents keys")
		return nil, errKeysUnavailable
	}
	b.inflight[hash] = x
	return x, nil
}

// start asks the sidecar; b.mu is held.
func (b *bearerKeys) start(x *exchange) {
	if x.strange {
		b.strange++
	}
	token := ""
	fly(func() error {
		got, err := askForToken(x.tenant, x.key, x.parent)
		token = got
		return err
	}, func(err error) { b.land(x, token, hideInternal(x.tenant.hop.name, err)) })
}

// startNext gives free places to exchanges that wait; b.mu is held. The client gives up at the
// deadline, so an exchange that has waited longer is dropped.
func (b *bearerKeys) startNext(at int64) {
	for b.queued > 0 && b.strange < keyPlaces {
		x := b.draw()
		if during(period{from: x.since, until: x.since + int64(deadline/time.Second) + 1}, at) {
			b.start(x)
		} else {
			b.giveUp(x)
		}
	}
}

// makeRoom drops an exchange of the address that has the most waiting, unless the other address has
// about as many; b.mu is held. Otherwise two addresses would fill the queue for all.
func (b *bearerKeys) makeRoom(other string) bool {
	most := ""
	for address, list := range b.waiting {
		if len(list) > len(b.waiting[most]) {
			most = address
		}
	}
	if len(b.waiting[most]) <= len(b.waiting[other])+1 {
		return false
	}
	b.giveUp(b.drawFrom(most))
	return true
}

// giveUp ends an exchange that was not begun; b.mu is held.
func (b *bearerKeys) giveUp(x *exchange) {
	delete(b.inflight, x.hash)
	x.flight.done(errKeysUnavailable)
}

// draw takes an exchange out of the queue, by lot; b.mu is held.
func (b *bearerKeys) draw() *exchange {
	addresses := make([]string, 0, len(b.waiting))
	for address := range b.waiting {
		addresses = append(addresses, address)
	}
	return b.drawFrom(addresses[rand.Intn(len(addresses))])
}

// drawFrom takes an exchange of an address out of the queue, by lot; b.mu is held.
func (b *bearerKeys) drawFrom(address string) *exchange {
	list := b.waiting[address]
	last := len(list) - 1
	n := rand.Intn(len(list))
	x := list[n]
	list[n] = list[last]
	list[last] = nil
	b.waiting[address] = list[:last]
	if last == 0 {
		delete(b.waiting, address)
	}
	b.queued--
	return x
}

func (b *bearerKeys) land(x *exchange, token string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := now().Unix()
	delete(b.inflight, x.hash)
	switch {
	case err == nil:
		// Any one entry goes, and not all: then the next requests would wait in the queue of
		// unknown keys.
		for other := range b.good {
			if len(b.good) < maxGoodKeys {
				break
			}
			delete(b.good, other)
		}
		b.good[x.hash] = true
	case errors.Is(err, errKey):
		for other := range b.refused {
			if len(b.refused) < maxRefused {
				break
			}
			delete(b.refused, other)
		}
		b.refused[x.hash] = period{from: at, until: at + refusedPeriod}
		delete(b.good, x.hash)
	}
	x.token = token
	x.flight.done(err)
	if x.strange {
		b.strange--
		b.startNext(at)
	}
}

func askForToken(t *tenant, key, parent string) (string, error) {
	var answer struct {
		Token string `json:"access_token"`
	}
	err := postToSidecar(t, "/hop/token", "key="+url.QueryEscape(key), parent, &answer)
	if errors.Is(err, errRefusedBySidecar) {
		return "", errKey
	}
	if err == nil && answer.Token == "" {
		err = errors.New("no access token in the answer")
	}
	if err != nil {
		complain(t.hop.name, "token", "the sidecar "+t.sidecar.url+" gives no access token for a bearer key: "+reason(err))
		return "", errKeysUnavailable
	}
	return answer.Token, nil
}

var errRefusedBySidecar = errors.New("refused")

// postToSidecar sends a form and decodes the answer. If the sidecar refuses the form as
// invalid_grant, the error is errRefusedBySidecar. No other answer is a verdict: invalid_request
// can also mean that the body was cut off on its way.
func postToSidecar(t *tenant, path, form, parent string, answer any) error {
	got, err := askSidecar(t.hop, &question{method: http.MethodPost, url: t.sidecar.url + path, form: form, limit: maxAnswer, parent: parent, figures: t.sidecar.figures})
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
