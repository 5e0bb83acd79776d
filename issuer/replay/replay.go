// Package replay tells the first use of a code or a refresh token from the second. It is optional:
// without it that is left to the provider (docs/replay.md).
//
// It promises that of several uses of one thing, at however many replicas of one store, exactly one
// is the first; that a store which cannot answer is an error, and never a first use; and that
// nothing is forgotten before its time to make room. A nil *Guard remembers nothing: everything is
// a first use to it. The package does not know what a code or a token is, nor what a use gives: it
// counts by keys, and keeps answers that it cannot read.
//
// The rules stand in Guard, once. Where the memory is, is a Store's matter. Every Store passes
// storetest.Run.
package replay

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// A Key is what something is counted by (sealing.ReplayMark). Keys are hashes: two things have two
// keys, and a key says nothing of its thing.
type Key = [16]byte

// A Record is what a Store has at a key. The zero value is nothing.
type Record struct {
	Number uint32
	Note   []byte // nil once Grace is over
}

// is says whether what stands in the way of a Raise is what that Raise would have written. A
// request that got no answer is sent once more (package outgoing), and may then meet its own mark:
// callers' numbers and sealed answers are random, so it is nobody else's.
func (r Record) is(number uint32, note []byte) bool {
	return r.Number == number && bytes.Equal(r.Note, note)
}

// A Store keeps one number for each key, which only rises. That is compare-and-swap with one round
// trip: a refresh token carries the number that it expects. Stores are safe for concurrent use, by
// all replicas that share one.
//
// An error means that nothing is known: a Raise or Drop may have been done or not. A store that is
// full refuses with ErrFull or an error of its own. It never drops a record before its time.
//
// A Store may also have the methods Check(context.Context) error, as Guard.Check needs it, and
// CloseIdleConnections().
type Store interface {
	// Raise sets the number of key from at most `from`, or from nothing, to `to`, and the note
	// beside it, and says whether it did; otherwise it returns what it found. The new number is 1
	// or more, and never less than `from`.
	//
	// The number is kept for at least life, and for less than twice as long and a second. The note
	// is nil, which takes away an older one, or 1 byte to 32 KB long, and kept for Grace, give or
	// take a second. Both lives begin anew with each Raise, by one clock for all replicas: theirs
	// differ by minutes. Nobody changes a note afterwards.
	Raise(ctx context.Context, key Key, from, to uint32, note []byte, life time.Duration) (Record, bool, error)
	// Look returns what stands at key, as the last Raise or Drop at any replica left it.
	Look(ctx context.Context, key Key) (Record, error)
	// Drop forgets key, with its note, if its number is still this one.
	Drop(ctx context.Context, key Key, number uint32) error
}

const (
	// Grace is how long the answer to a refresh token's first use is given again: responses are
	// lost, and processes of one client race.
	Grace = time.Minute
	// LeaseLife is how long one replica may be the only one that asks the provider about a login.
	// It is longer than asking can take.
	LeaseLife = 15 * time.Second
	// CodeLife is how long a code is remembered: longer than any replica accepts it.
	CodeLife = 31 * time.Minute
	// loginEnded is the number of a login that has ended. No token carries it.
	loginEnded = math.MaxUint32
)

var (
	// ErrFull is a store that has no room: forgetting something to make room would be accepting
	// its replay.
	ErrFull = errors.New("replay guard: full")
	// ErrLeased means that another replica has the lease.
	ErrLeased = errors.New("replay guard: the check is leased")
	// ErrUnsafe is in the chain of Check's error when the store must not be used as it is: it would
	// forget, or refuses us.
	ErrUnsafe = errors.New("the replay guard's store cannot be used")

	errNoGuard = errors.New("there is no replay guard")
)

// kinds are the stores that there are, by the scheme of their names.
var kinds = []struct {
	scheme, form string
	open         func(name string, idle, login time.Duration, now func() time.Time) (Store, error)
}{
	{"memory", "memory", func(_ string, idle, login time.Duration, now func() time.Time) (Store, error) {
		return newMemoryStore(idle, login, now), nil
	}},
	{"redis", "redis://HOST:PORT", openRedis},
	{"rediss", "rediss://HOST:PORT", openRedis},
	{"dynamodb", "dynamodb://TABLE", func(name string, _, _ time.Duration, now func() time.Time) (Store, error) {
		return newDynamoStore(strings.TrimPrefix(name, "dynamodb://"), os.Getenv, now, http.DefaultTransport)
	}},
}

func openRedis(name string, _, _ time.Duration, _ func() time.Time) (Store, error) {
	return newRedisStore(name)
}

// OpenStore makes the store with this name, and says of which kind it is. It asks the network
// nothing. idle and login are as for Open, now is the clock of this process.
func OpenStore(name string, idle, login time.Duration, now func() time.Time) (kind string, store Store, err error) {
	scheme, rest, hasPlace := strings.Cut(name, "://")
	for _, k := range kinds {
		_, _, needsPlace := strings.Cut(k.form, "://")
		if scheme == k.scheme && hasPlace == needsPlace && (rest != "") == needsPlace {
			store, err := k.open(name, idle, login, now)
			if err != nil {
				return "", nil, err
			}
			return k.scheme, store, nil
		}
	}
	forms := append([]string{"none"}, Forms()...)
	last := len(forms) - 1
	return "", nil, errors.New("must be " + strings.Join(forms[:last], ", ") + " or " + forms[last])
}

// Forms are the names that stores have, such as redis://HOST:PORT.
func Forms() (forms []string) {
	for _, k := range kinds {
		forms = append(forms, k.form)
	}
	return forms
}

// Open makes the guard that BOUNCER_REPLAY_GUARD names; it is nil for "none". idle is for how long
// a refresh token that is not used stays good, login how long a login lasts at most. Open asks the
// network nothing: Check does.
func Open(name string, idle, login time.Duration, now func() time.Time) (*Guard, error) {
	if name == "none" {
		return nil, nil
	}
	kind, store, err := OpenStore(name, idle, login, now)
	if err != nil {
		return nil, err
	}
	return New(kind, store, idle, login), nil
}

// New makes a guard over a store. kind is for the log.
func New(kind string, store Store, idle, login time.Duration) *Guard {
	life, ended := lives(idle, login)
	return &Guard{store: store, kind: kind, life: life, ended: ended}
}

// lives are how long a login is remembered: after its last step, and after its end. A login that
// has ended is remembered until none of its tokens can be good, not even one that was issued while
// the store was away.
func lives(idle, login time.Duration) (life, ended time.Duration) {
	return idle + 2*sealing.Skew, max(idle, login) + 2*sealing.Skew
}

// Remembers says whether the guard remembers a login for as long as its refresh tokens are good:
// idle after the last use of one, and login after the first.
func (g *Guard) Remembers(idle, login time.Duration) bool {
	return g == nil || g.life >= idle+2*sealing.Skew && g.ended >= login+2*sealing.Skew
}

// Check asks the store whether it can be used. Any other error than ErrUnsafe means that it does
// not answer at the moment, and a guard is made for that.
func (g *Guard) Check(ctx context.Context) error {
	if g == nil {
		return nil
	}
	if store, ok := g.store.(interface{ Check(context.Context) error }); ok {
		return store.Check(ctx)
	}
	return nil
}

// CloseIdleConnections gives up the connections that nothing is using.
func (g *Guard) CloseIdleConnections() {
	if g == nil {
		return
	}
	if store, ok := g.store.(interface{ CloseIdleConnections() }); ok {
		store.CloseIdleConnections()
	}
}

// Kind names the store in the log.
func (g *Guard) Kind() string {
	if g == nil {
		return "none"
	}
	return g.kind
}

// InProcess says whether the guard asks nobody outside of this process.
func (g *Guard) InProcess() bool {
	if g == nil {
		return true
	}
	_, own := g.store.(*memoryStore)
	return own
}
