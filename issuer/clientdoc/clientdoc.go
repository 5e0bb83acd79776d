// Package clientdoc reads what is at the URLs that clients name: client metadata documents and the
// key sets that these name (draft-ietf-oauth-client-id-metadata-document-02 §5 and §8). Anybody can
// name a URL in a client_id, so all of this is within a stranger's reach.
//
// It promises that no special-use address is asked, whatever a name resolves to; that no redirect
// is followed; that what is read and kept is bounded, and what is kept is only what the caller's
// check accepted; and that no host and no stranger holds all places. It does not know what a good
// document is, nor whose it is.
package clientdoc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/trace"
)

const (
	maxBody     = 5 << 10     // bytes of a document: the draft's recommendation, §8.7
	maxKeysBody = 32 << 10    // bytes of a jwks_uri: keys come with their certificates
	minAge      = time.Minute // bounds of what a document's own cache headers may ask for
	maxAge      = 24 * time.Hour
	defaultAge  = time.Hour
	staleAge    = 24 * time.Hour // how long the last good copy serves beyond its time
	maxCopies   = 1000
	maxFetches  = 16 // at the same time, for all tenants
	reserve     = 4  // of them, for hosts that no stranger has chosen
	// of them, for one host: ChatGPT's has a document for each connector
	hostShare = 4
	hostPause = 15 * time.Second // after a host has not answered in time
)

// Timeout bounds one fetch.
const Timeout = 5 * time.Second

// Retry is how long a copy serves before its URL is asked once more, after an attempt that failed
// or when somebody wants a newer one.
const Retry = 30 * time.Second

var (
	// ErrUnreadable says nothing about the client: its document may be as good as ever.
	ErrUnreadable = errors.New("the document cannot be read")
	// ErrWithdrawn is a host's word that there is no such document: no copy may outlive it.
	ErrWithdrawn = errors.New("there is no such document")
	// errSilent is a host that has kept one of the fetch places as long as it could.
	errSilent error = silent{}
)

type silent struct{}

func (silent) Error() string { return ErrUnreadable.Error() + ": its host did not answer in time" }
func (silent) Unwrap() error { return ErrUnreadable }

// Source is what is read, and where: what is a good document need not be a good key set.
type Source struct {
	url  string
	keys bool
}

// Document is the client metadata document at a URL.
func Document(url string) Source { return Source{url: url} }

// Keys is the JWK Set at a URL, which a client metadata document has named.
func Keys(url string) Source { return Source{url: url, keys: true} }

// Fetcher fetches documents and keeps what was last read. Losing what it keeps costs a request. It
// is safe for concurrent use.
type Fetcher struct {
	Transport http.RoundTripper // NewTransport's, or one of a test's
	// does this host have places of its own, as no stranger chose it?
	Reserved func(host string) bool
	Now      func() time.Time
	Log      *slog.Logger
	// Fetched is told what became of each fetch: read, invalid, withdrawn, silent or unreadable.
	Fetched func(result string)

	mu      sync.Mutex // guards the maps for one access; never held during a fetch
	copies  map[Source]copied
	flights map[Source]*flight
	silent  map[string]time.Time // hosts that did not answer in time → when they are asked again
}

type copied struct {
	body  []byte    // of the last valid answer
	until time.Time // fresh until then
	tried time.Time // when it was last asked for, with or without success
	used  bool      // somebody has logged in with its client
}

// fresh is never said of a copy that was read when the clock was far ahead.
func (c copied) fresh(now time.Time) bool {
	left := c.until.Sub(now)
	return left > 0 && left <= maxAge
}

// flight is a fetch under way, which all who want the same document share, its failure too: one
// after the other, each would wait for a host that hangs.
type flight struct {
	done chan struct{}
	body []byte
	err  error
}

// Fetch returns the body at a source, fetched or from the cache. valid decides whether a body may
// be kept: errors and invalid documents never are. When a fetch fails, the last good copy serves
// on, for a day, because vendors' documents are at times refused to data centres.
//
// Errors are valid's, ErrUnreadable or ErrWithdrawn, and fit for the operator's log: none holds
// what a host has sent.
func (f *Fetcher) Fetch(ctx context.Context, source Source, valid func([]byte) error) ([]byte, error) {
	now := f.Now()
	f.mu.Lock()
	kept, have := f.copies[source]
	have = have && now.Before(kept.until.Add(staleAge))
	if have && (kept.fresh(now) || now.Sub(kept.tried).Abs() < Retry) {
		f.mu.Unlock()
		return kept.body, nil
	}
	flight, mine := f.join(source, now)
	f.mu.Unlock()
	if mine {
		f.fetchInto(ctx, flight, source, valid)
	}
	select {
	case <-flight.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: nobody waits for it any more", ErrUnreadable)
	}
	if flight.err != nil && have && !errors.Is(flight.err, ErrWithdrawn) {
		f.Log.Warn("client metadata document not available, the last copy serves on", "url", source.url, "cause", flight.err)
		return kept.body, nil
	}
	return flight.body, flight.err
}

// join returns the fetch that is under way, or one that has failed because there was no place, or
// else a new one, which the caller has to make. The caller holds mu.
func (f *Fetcher) join(source Source, now time.Time) (joined *flight, mine bool) {
	if joined, underWay := f.flights[source]; underWay {
		return joined, false
	}
	joined = &flight{done: make(chan struct{}), err: f.noPlace(weburl.HostOf(source.url), now)}
	if joined.err != nil {
		close(joined.done)
		return joined, false
	}
	if f.flights == nil {
		f.flights, f.copies, f.silent = map[Source]*flight{}, map[Source]copied{}, map[string]time.Time{}
	}
	joined.err = ErrUnreadable
	f.flights[source] = joined
	return joined, true
}

// noPlace says why a host is not asked now; nil if it is. Strangers name the hosts: one of theirs
// gets few places, none for a while after it has hung, and never the last ones. It does not count
// who sends a request, because all that is known of them is a header.
func (f *Fetcher) noPlace(host string, now time.Time) error {
	places := maxFetches
	if !f.Reserved(host) {
		if left := f.silent[host].Sub(now); left > 0 && left <= hostPause {
			return fmt.Errorf("%w: its host did not answer in time a moment ago", ErrUnreadable)
		}
		places -= reserve
	}
	here := 0
	for source := range f.flights {
		if weburl.HostOf(source.url) == host {
			here++
		}
	}
	if len(f.flights) >= places || here >= hostShare {
		return fmt.Errorf("%w: too many are being fetched", ErrUnreadable)
	}
	return nil
}

// fetchInto fetches, keeps what is good, and lets go of those who wait.
func (f *Fetcher) fetchInto(ctx context.Context, flight *flight, source Source, valid func([]byte) error) {
	defer func() {
		f.mu.Lock()
		delete(f.flights, source)
		f.mu.Unlock()
		close(flight.done)
	}()
	limit := maxBody
	if source.keys {
		limit = maxKeysBody
	}
	// The host was chosen by a stranger: it hears nothing of the trace.
	ctx, span := trace.Step(ctx, "client document")
	span.Note("server.address", weburl.HostOf(source.url))
	body, age, err := f.fetch(ctx, source.url, limit)
	if err == nil {
		err = valid(body)
	}
	if err != nil {
		span.Fail(resultOf(err))
	}
	span.End()
	flight.body, flight.err = body, err
	if f.Fetched != nil {
		f.Fetched(resultOf(err))
	}
	now := f.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	kept, have := f.copies[source]
	switch {
	case err == nil:
		if !have && len(f.copies) >= maxCopies {
			f.dropOne()
		}
		f.copies[source] = copied{body, now.Add(age), now, kept.used}
	case errors.Is(err, ErrWithdrawn):
		delete(f.copies, source)
	case have:
		kept.tried = now
		f.copies[source] = kept
	}
	if errors.Is(err, errSilent) {
		f.pause(weburl.HostOf(source.url), now)
	}
}

// dropOne makes room: any one copy goes with whose client nobody has logged in. Strangers who bring
// a flood of documents push out only each other's. The caller holds mu.
func (f *Fetcher) dropOne() {
	victim := Source{}
	for source, kept := range f.copies {
		if victim = source; !kept.used {
			break
		}
	}
	delete(f.copies, victim)
}

// Used says that somebody has logged in with the client of a source.
func (f *Fetcher) Used(source Source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if kept, ok := f.copies[source]; ok && !kept.used {
		kept.used = true
		f.copies[source] = kept
	}
}

func resultOf(err error) string {
	switch {
	case err == nil:
		return "read"
	case errors.Is(err, ErrWithdrawn):
		return "withdrawn"
	case errors.Is(err, errSilent):
		return "silent"
	case errors.Is(err, ErrUnreadable):
		return "unreadable"
	}
	return "invalid"
}

// pause remembers that a host hung. It says nothing about any document.
func (f *Fetcher) pause(host string, now time.Time) {
	maps.DeleteFunc(f.silent, func(_ string, until time.Time) bool { return !now.Before(until) })
	if len(f.silent) < maxCopies {
		f.silent[host] = now.Add(hostPause)
	}
}

// Expire makes a source due again, unless it was asked for less than Retry ago. It says whether it
// did.
func (f *Fetcher) Expire(source Source) bool {
	now := f.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	kept, ok := f.copies[source]
	if !ok || now.Sub(kept.tried).Abs() < Retry {
		return false
	}
	if kept.fresh(now) { // never later: a copy must not outlive its day by being asked for
		kept.until = now
		f.copies[source] = kept
	}
	return true
}

// Stale says whether the copy that serves is an old one, because a newer could not be had.
func (f *Fetcher) Stale(source Source) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept, ok := f.copies[source]
	return ok && !kept.fresh(f.Now())
}
