//go:build go1.21

package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
)

// An assertion is a short JWT that says who calls, for an MCP server that verifies instead of
// trusting a header (docs/identity.md). The sidecar signs it (POST /hop/assertion, docs/hop.md);
// one is kept for each token that is remembered, and renewed before it expires.

const renewBefore = 60 // seconds before its end that an assertion is renewed, or half of its life

// assertion is that of one identity.
type assertion struct {
	mu     sync.Mutex
	text   string
	young  period        // no other is asked for
	good   period        // it may be sent
	flight chan struct{} // closed at the end of the running request; nil when none runs
	err    error         // of the last one
	pause  period        // after a failure, the sidecar is not asked
}

// assertionFor returns the assertion for a request. It waits only when there is none that is good.
func assertionFor(ctx context.Context, t *tenant, a *assertion, credentials []string) (string, error) {
	text, flight, err := a.current(t, credentials)
	if flight == nil {
		return text, err
	}
	if !landed(ctx, flight) {
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
func (a *assertion) current(t *tenant, credentials []string) (string, chan struct{}, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := now().Unix()
	if during(a.young, at) {
		return a.text, nil, nil
	}
	if a.flight == nil && !during(a.pause, at) {
		a.flight = make(chan struct{})
		go a.fetch(t, credentials[0])
	}
	if during(a.good, at) {
		return a.text, nil, nil
	}
	if a.flight == nil {
		return "", nil, a.err
	}
	return "", a.flight, nil
}

// fetch runs in a goroutine of its own: its panic would end the Traefik process.
func (a *assertion) fetch(t *tenant, credentials string) {
	text := ""
	life := int64(0)
	err := errKeysUnavailable
	defer func() {
		if r := recover(); r != nil {
			complain(t.hop.name, "internal", fmt.Sprintf("internal error: %v", r))
			err = errKeysUnavailable
		}
		a.land(text, life, err)
	}()
	text, life, err = askForAssertion(t, credentials)
}

func (a *assertion) land(text string, life int64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := now().Unix()
	close(a.flight)
	a.flight = nil
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

func askForAssertion(t *tenant, credentials string) (string, int64, error) {
	token, err := bearerToken([]string{credentials})
	if err == nil && strings.HasPrefix(token, keyPrefix) {
		token, err = exchangeKey(context.Background(), t, token, "")
	}
	if err != nil {
		return "", 0, err
	}
	var answer struct {
		Assertion string `json:"assertion"`
		Life      int64  `json:"expires_in"`
	}
	err = postToSidecar(t, "/hop/assertion", "access_token="+url.QueryEscape(token), &answer)
	// its clock is the stricter one: there are no seconds of grace
	if errors.Is(err, errRefusedBySidecar) {
		return "", 0, errExpired
	}
	if err == nil && (answer.Assertion == "" || strings.Trim(answer.Assertion, alphanumeric+"-_.") != "" || answer.Life < 1 || answer.Life > maxDate) {
		err = errors.New("no assertion in the answer")
	}
	if err != nil {
		complain(t.hop.name, "assertion", "the sidecar "+t.keys.sidecar+" gives no assertion: "+reason(err))
		return "", 0, errKeysUnavailable
	}
	return answer.Assertion, answer.Life, nil
}
