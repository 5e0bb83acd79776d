package provider

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// While a provider does not answer, nobody waits for it twice: after the first request that has
// waited in vain, all others go without an answer for a few seconds (ErrAway). Then one request
// asks again, and an answer of any kind ends the silence.
//
// Silence is kept for each provider, by its issuer; a refusal of one tenant's bad secret is an
// answer. A fast failure is not a silence: a connection that is refused makes nobody wait, and the
// provider may be well in a moment. A stranger cannot bring a silence about: see
// withStrangersInput.

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

	confirming atomic.Bool  // one request asks whether the provider lives
	slowSaid   atomic.Int64 // when the log last said that it is slow, in Unix seconds; 0: never

	lines lines
}

// enter says whether a request may ask. The first one that comes when the pause is over may, and
// the others go without until it has ended.
func (s *silence) enter(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	const longest = timeout + silencePause
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

// begins is called when a request has waited in vain. It says whether that is news.
func (s *silence) begins(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.until.IsZero()
	s.until = now.Add(silencePause)
	return news
}

type strangersInput struct{}

// withStrangersInput is for a request that holds what a stranger may have chosen: a code. A
// firewall on the way may swallow such a request for what is in it. So a silence after it counts
// only if the provider does not answer a plain question either.
func withStrangersInput(ctx context.Context) context.Context {
	return context.WithValue(ctx, strangersInput{}, true)
}

// attentive is the http.RoundTripper to one provider. It notices the provider's silence.
type attentive struct {
	next   http.RoundTripper
	all    *Providers
	issuer string
	known  *silence
}

func (a attentive) RoundTrip(r *http.Request) (*http.Response, error) {
	began := a.all.Now()
	if !a.known.enter(began) {
		if r.Body != nil {
			r.Body.Close()
		}
		a.tell(r.Context(), -1, "paused")
		return nil, errPaused
	}
	resp, err := a.next.RoundTrip(r)
	a.took(r, began, err == nil)
	a.tell(r.Context(), a.all.Now().Sub(began), wentWrong(resp, err))
	if err != nil {
		a.failed(r.Context(), began, err)
		return nil, err
	}
	a.known.ended()
	a.known.lines.answered(r.URL.Host, a.all.Now())
	resp.Body = &attentiveBody{resp.Body, a, r.Context(), began}
	return resp, nil
}

// step names what a request asks for. Discovery is what has no name.
type step struct{}

func withStep(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, step{}, name)
}

func (a attentive) tell(ctx context.Context, took time.Duration, cause string) {
	if a.all.Asked == nil {
		return
	}
	a.all.Asked(weburl.HostOf(a.issuer), stepOf(ctx), took, cause)
}

func stepOf(ctx context.Context) string {
	if name, ok := ctx.Value(step{}).(string); ok {
		return name
	}
	return "discovery"
}

func spanName(ctx context.Context) string { return "provider " + stepOf(ctx) }

// wentWrong says in a word what was wrong with an answer, or with its absence.
func wentWrong(resp *http.Response, err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, errPaused):
		return "paused"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case err != nil:
		return "unreachable"
	case resp.StatusCode >= http.StatusInternalServerError:
		return "server_error"
	case resp.StatusCode == http.StatusTooManyRequests:
		return "busy"
	case resp.StatusCode >= http.StatusBadRequest:
		return "refused"
	}
	return ""
}

const (
	// slowAfter is from when on a person notices the wait: a login asks the provider two or three
	// times.
	slowAfter = 2 * time.Second
	// slowAgain is how long the log says nothing more about the same slow provider.
	slowAgain = 10 * time.Minute
)

// took logs how long the provider took to begin its answer. A request without an answer is no
// slow one: other lines name its cause.
func (a attentive) took(r *http.Request, began time.Time, answered bool) {
	now := a.all.Now()
	took := now.Sub(began)
	slow := answered && took >= slowAfter
	if !slow && !a.all.Log.Enabled(r.Context(), slog.LevelDebug) {
		return
	}
	facts := []any{"provider", a.issuer, "method", r.Method, "path", r.URL.Path, "milliseconds", took.Milliseconds()}
	a.all.Log.Debug("provider asked", append(facts, "answered", answered)...)
	if !slow {
		return
	}
	last := a.known.slowSaid.Load()
	if last == 0 || now.Sub(time.Unix(last, 0)).Abs() >= slowAgain {
		if a.known.slowSaid.CompareAndSwap(last, now.Unix()) {
			a.all.Log.Warn("the provider is slow: people wait for it at each login and refresh", facts...)
		}
	}
}

// failed judges a request that got no answer.
func (a attentive) failed(ctx context.Context, began time.Time, err error) {
	now := a.all.Now()
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // the client hung up
		a.known.asked(now)
		return
	case now.Sub(began).Abs() < silenceAfter:
		if errors.Is(err, context.DeadlineExceeded) { // the request had little time left
			a.known.asked(now)
		} else {
			a.known.ended()
		}
		return
	case ctx.Value(strangersInput{}) != nil && a.lives(ctx):
		a.known.ended()
		return
	}
	if a.known.begins(a.all.Now()) {
		a.all.Log.Warn("the provider does not answer, so nobody waits for it in the next seconds: refreshes are bridged by short access tokens, logins get 503",
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

// attentiveBody notices a provider that falls silent in the middle of an answer.
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
