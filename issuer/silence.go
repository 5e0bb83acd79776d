package issuer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// While a provider does not answer, nobody waits for it twice: the first request that has waited in
// vain lets all others do without, for a few seconds. Their refreshes are bridged at once, their
// logins get 503 with Retry-After. Then one request asks again, and an answer of any kind ends the
// silence.
//
// It is kept for each provider, by its issuer: a tenant's bad secret is an answer. What comes fast
// is none of this: a connection that is refused makes nobody wait, and may be well in a moment. And
// it is nothing that a stranger can bring about: see withStrangersInput.

const (
	// silencePause is how long nobody asks a provider that has just not answered.
	silencePause = 5 * time.Second
	// silenceAfter is the shortest wait that counts.
	silenceAfter = 2 * time.Second
	// confirmTimeout bounds the question whether a provider lives at all.
	confirmTimeout = time.Second
)

// errPaused is in the chain of errors of requests that were not sent.
var errPaused = errors.New("the provider has just not answered; it is asked again in some seconds")

// silence is what is known of one provider.
type silence struct {
	mu    sync.Mutex // guards until for one access
	until time.Time  // nobody asks before; zero while the provider answers

	confirming atomic.Bool // one request asks whether the provider lives
}

// enter says whether a request may ask. The one that comes when the pause is over does, and the
// others wait for what becomes of it.
func (s *silence) enter(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	const longest = upstreamTimeout + silencePause
	if s.until.IsZero() {
		return true
	}
	if left := s.until.Sub(now); left > 0 && left <= longest { // more: the clock was set back
		return false
	}
	s.until = now.Add(longest)
	return true
}

// ended is called when the provider has answered, or has failed so fast that nobody waits.
func (s *silence) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Time{}
}

// asked is called when a request ended that says nothing about the provider.
func (s *silence) asked(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.until.IsZero() {
		s.until = now
	}
}

// begins is called when the provider was waited for in vain. It says whether that is news.
func (s *silence) begins(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.until.IsZero()
	s.until = now.Add(silencePause)
	return news
}

type strangersInput struct{}

// withStrangersInput is for a request that holds what a stranger may have chosen: a code. Something
// between us and the provider may swallow such a request for what is in it. So a silence after it
// counts only if the provider does not answer a plain question either.
func withStrangersInput(ctx context.Context) context.Context {
	return context.WithValue(ctx, strangersInput{}, true)
}

// attentive is the http.RoundTripper to one provider that keeps count of its silence.
type attentive struct {
	next   http.RoundTripper
	s      *Issuer
	issuer string
	known  *silence
}

// RoundTrip is http.RoundTripper's.
func (a attentive) RoundTrip(r *http.Request) (*http.Response, error) {
	began := a.s.Now()
	if !a.known.enter(began) {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, errPaused
	}
	resp, err := a.next.RoundTrip(r)
	if err != nil {
		a.failed(r.Context(), began, err)
		return nil, err
	}
	a.known.ended()
	resp.Body = &attentiveBody{resp.Body, a, r.Context(), began}
	return resp, nil
}

// failed judges a request that got no answer.
func (a attentive) failed(ctx context.Context, began time.Time, err error) {
	now := a.s.Now()
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // the client hung up
		a.known.asked(now)
		return
	case now.Sub(began).Abs() < silenceAfter:
		if errors.Is(err, context.DeadlineExceeded) { // of a request that had little time left
			a.known.asked(now)
		} else {
			a.known.ended()
		}
		return
	case ctx.Value(strangersInput{}) != nil && a.lives(ctx):
		a.known.ended()
		return
	}
	if a.known.begins(a.s.Now()) {
		a.s.Log.Warn("the provider does not answer, so nobody waits for it in the next seconds: refreshes are bridged by short access tokens, logins get 503",
			"provider", a.issuer, "seconds", int(silencePause/time.Second), "waited", int(now.Sub(began)/time.Second), "cause", outgoing.InBounds(weburl.HostOf(a.issuer), err))
	}
}

// lives asks the provider a plain question. While one request asks, it lives for all others.
func (a attentive) lives(ctx context.Context) bool {
	if !a.known.confirming.CompareAndSwap(false, true) {
		return true
	}
	defer a.known.confirming.Store(false)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), confirmTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(a.issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return true
	}
	resp, err := a.next.RoundTrip(r)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}

// attentiveBody is for providers that fall silent in the middle of an answer.
type attentiveBody struct {
	io.ReadCloser
	a     attentive
	ctx   context.Context
	began time.Time
}

func (b *attentiveBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.a.failed(b.ctx, b.began, err)
	}
	return n, err
}
