package deny

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/trace"
)

const (
	maxAge   = 30 * time.Second
	patience = time.Minute     // nobody is judged by a copy that was not asked about for so long
	retry    = 2 * time.Second // while there is no copy at all
)

// List is a deny document that is read again by and by: when a request needs it and the copy is
// older than maxAge. Nothing runs between requests. A nil *List denies nothing. It is safe for
// concurrent use.
type List struct {
	Source *Source
	Now    func() time.Time
	Log    *slog.Logger
	Failed func() // called each time that the document cannot be read
	// Arrived is called with the serial of each document that counts from now on.
	Arrived func(serial int64)

	current atomic.Pointer[copied] // nil until the first success

	mu       sync.Mutex // held while one request reads
	failedAt time.Time
	err      error
}

var nothing Document

// Current returns the current document. One request reads it again when it is due. Meanwhile the
// others have the copy, unless the copy is older than patience. When the document cannot be read,
// all have the copy, however old it is: without it those would be let in whom it keeps out.
//
// An error means that the document was never read, and so that nobody can be judged. It is fit for
// the operator's log.
func (l *List) Current(ctx context.Context) (*Document, error) {
	if l == nil {
		return &nothing, nil
	}
	now := l.Now()
	last := l.current.Load()
	age := time.Duration(math.MaxInt64)
	if last != nil {
		age = now.Sub(last.readAt).Abs()
	}
	switch {
	case age < maxAge:
		return last.Document, nil
	case age >= patience:
		// nobody asked for a while: the copy of last evening judges no request of this morning
		l.mu.Lock()
	case !l.mu.TryLock():
		return last.Document, nil
	}
	defer l.mu.Unlock()
	// The clock is read again, because those who waited share the failure that they waited for. A
	// place that hangs would else make each wait for the one before.
	now = l.Now()
	if c := l.current.Load(); c != last {
		return c.Document, nil // another request was faster
	}
	if last == nil && l.err != nil && now.Sub(l.failedAt).Abs() < retry {
		return nil, l.err
	}
	// A client that hangs up must not make this fail for those who wait.
	reading, span := trace.Step(context.WithoutCancel(ctx), "deny document")
	next, err := l.Source.read(reading, last)
	span.EndWith(err)
	if err == nil && last != nil && next.Serial < last.Serial {
		err = fmt.Errorf("deny document: its serial went back from %d to %d", last.Serial, next.Serial)
	}
	switch {
	case err != nil:
		l.Failed()
		l.Log.Error("the deny document cannot be read", "older copy", last != nil, "cause", err)
		if last == nil {
			l.err, l.failedAt = err, l.Now()
			return nil, err
		}
		next = &copied{Document: last.Document, etag: last.etag}
	case last == nil || next.Serial != last.Serial:
		l.wasRead(next.Document)
	}
	next.readAt = now
	l.current.Store(next)
	return next.Document, nil
}

// Standing returns the serial of the copy that serves and the time since it was read or tried last;
// false if none was ever read.
func (l *List) Standing() (serial uint64, age time.Duration, read bool) {
	if l == nil {
		return 0, 0, false
	}
	c := l.current.Load()
	if c == nil {
		return 0, 0, false
	}
	return uint64(c.Serial), l.Now().Sub(c.readAt), true
}

// wasRead is the operator's record that an edit has arrived, and of what in it does nothing.
func (l *List) wasRead(d *Document) {
	l.Arrived(d.Serial)
	for _, entry := range d.ineffective() {
		l.Log.Warn("an entry of the deny document can deny nothing; take it out and deny what was meant", "entry", entry)
	}
}
