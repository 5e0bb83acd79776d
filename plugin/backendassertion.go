//go:build go1.21

package plugin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// An assertion is a short-lived JWT that says who calls. It is for an MCP server that verifies
// signatures instead of trusting a header (docs/identity.md). The sidecar signs it (POST
// /hop/assertion, docs/hop.md). One assertion is kept for each token that is remembered, and
// renewed before it expires.

const renewBefore = 60 // seconds before the end of an assertion, at most half of its life

// assertion is the assertion of one identity.
type assertion struct {
	mu       sync.Mutex
	text     string
	young    period  // no other assertion is asked for
	good     period  // text may be sent
	inflight *flight // nil when none runs
	err      error   // of the last flight
	pause    period  // after a failure, the sidecar is not asked
}

// assertionFor returns the assertion for a request. It waits only when no assertion is good.
func assertionFor(req *http.Request, t *tenant, a *assertion) (string, error) {
	text, inflight, err := a.current(t, req)
	if inflight == nil {
		return text, err
	}
	if !inflight.wait(req.Context()) {
		return "", errKeysUnavailable
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if during(a.good, now().Unix()) {
		return a.text, nil
	}
	if a.err == nil {
		return "", errKeysUnavailable
	}
	return "", a.err
}

// current returns the assertion, or an error, or a flight to wait for.
func (a *assertion) current(t *tenant, req *http.Request) (string, *flight, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := now().Unix()
	if during(a.young, at) {
		return a.text, nil, nil
	}
	if a.inflight == nil && !during(a.pause, at) {
		a.launch(t, req)
	}
	if during(a.good, at) {
		return a.text, nil, nil
	}
	if a.inflight == nil {
		return "", nil, a.err
	}
	return "", a.inflight, nil
}

// launch asks for an assertion; a.mu is held.
func (a *assertion) launch(t *tenant, req *http.Request) {
	credentials := req.Header["Authorization"]
	parent := traceparentOf(req)
	a.inflight = newFlight()
	text := ""
	life := int64(0)
	fly(func() error {
		signed, seconds, err := askForAssertion(t, credentials, parent)
		text = signed
		life = seconds
		return err
	}, func(err error) { a.land(text, life, hideInternal(t.hop.name, err)) })
}

func (a *assertion) land(text string, life int64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := now().Unix()
	a.inflight.done(err)
	a.inflight = nil
	a.err = err
	if err != nil {
		a.pause = period{from: at, until: at + 1}
		return
	}
	early := int64(renewBefore)
	if life < 2*early {
		early = life / 2
	}
	a.text = text
	a.good = period{from: at, until: at + life}
	a.young = period{from: at, until: at + life - early}
}

func askForAssertion(t *tenant, credentials []string, parent string) (string, int64, error) {
	token := ""
	var err error
	if comesWithProof(credentials) { // which was checked before
		token = boundToken(credentials)
	} else {
		token, err = bearerToken(credentials)
	}
	if err == nil && strings.HasPrefix(token, keyPrefix) {
		token, err = exchangeKey(context.Background(), t, token, "", parent)
	}
	if err != nil {
		return "", 0, err
	}
	var answer struct {
		Assertion string `json:"assertion"`
		Life      int64  `json:"expires_in"`
	}
	err = postToSidecar(t, "/hop/assertion", "access_token="+url.QueryEscape(token), parent, &answer)
	// The sidecar gives a token no seconds of grace after its end.
	if errors.Is(err, errRefusedBySidecar) {
		return "", 0, errExpired
	}
	if err == nil && (answer.Assertion == "" || strings.Trim(answer.Assertion, alphanumeric+"-_.") != "" || answer.Life < 1 || answer.Life > maxDate) {
		err = errors.New("no assertion in the answer")
	}
	if err != nil {
		complain(t.hop.name, "assertion", "the sidecar "+t.sidecar.url+" gives no assertion: "+reason(err))
		return "", 0, errKeysUnavailable
	}
	return answer.Assertion, answer.Life, nil
}
