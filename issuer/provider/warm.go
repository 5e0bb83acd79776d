package provider

import (
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// While a person signs in at the provider, the connection to it closes: none is used again after
// outgoing.IdleLimit. So another one is opened when the person comes back, and the client's token
// request, which comes a moment later, waits for one round trip instead of three or four (TCP, TLS,
// and the question itself).

// warmFor is how long after an answer its connection is taken for open: a request that begins then
// is sent before outgoing gives it up.
const warmFor = outgoing.IdleLimit - time.Second

// lines are when the hosts of a provider last answered. The zero value is ready.
type lines struct {
	mu sync.Mutex // guards at for one access
	at map[string]time.Time
}

// hostsKept is more than a provider has hosts that it is asked at.
const hostsKept = 8

func (l *lines) answered(host string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	forget.Put(&l.at, host, now, hostsKept)
}

// open says whether a connection to the host can be expected to be there.
func (l *lines) open(host string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, answered := l.at[host]
	return answered && now.Sub(at).Abs() < warmFor
}

// toWarm marks a question whose answer nobody needs. Where the provider gives none, and answers
// others, it does not count as silent: the token request would not be sent.
type toWarm struct{}

// Warm opens a connection to the token endpoint, by asking for the provider's keys once more: that
// uses nothing up, and a new key is known before it is needed. It is nil where a connection is open
// and where the keys are at another host. Strangers can bring it about as often as they can bring
// about the token request itself, and not more than once in warmFor. ctx may have ended: only the
// trace is taken from it.
func (p *Provider) Warm(ctx context.Context) func() {
	k := p.keys
	if k == nil {
		return nil
	}
	token, errToken := url.Parse(p.endpoint.TokenURL)
	keys, errKeys := url.Parse(p.keysURL)
	if errToken != nil || errKeys != nil || token.Scheme != keys.Scheme || token.Host != keys.Host {
		return nil
	}
	now := p.all.Now()
	lines := &p.all.documents.entry(p.origin, now).silence.lines
	if lines.open(token.Host, now) {
		return nil
	}
	lines.answered(token.Host, now) // one is enough for all who come back now
	ctx = context.WithValue(context.WithoutCancel(ctx), toWarm{}, true)
	return func() { _, _ = k.refetch(ctx) }
}
