// Package forget is the memory of a process that runs for months: a map whose entries go by age
// (Aged), one that loses an entry when it is full (Put), and a set of what was said (Once).
//
// It promises that none of them grows without a bound that its user has set or can ask for. It does
// not promise that anything is still there: whoever uses it must be right without.
package forget

import (
	"crypto/sha256"
	"strings"
	"sync"
	"time"
)

// Aged is a map whose entries stay for at least Width and go, all at once, before twice that.
// Nothing is ever dropped to make room: whoever sets asks Len or Sizes first. It is not safe for
// concurrent use, and Turn must be called before anything else.
type Aged[K comparable, V any] struct {
	Width time.Duration
	Size  func(V) int // nil: sizes are of no interest

	begun             time.Time // when current was empty
	current, previous map[K]V

	currentSize, previousSize int
}

// Turn lets go of what is too old.
func (a *Aged[K, V]) Turn(now time.Time) {
	age := now.Sub(a.begun)
	if age < 0 { // the clock was set back: until it is where it was, nothing would ever go
		a.begun = now
	}
	if age < a.Width {
		return
	}
	a.previous, a.previousSize = a.current, a.currentSize
	if age >= 2*a.Width {
		a.previous, a.previousSize = nil, 0
	}
	a.current, a.currentSize, a.begun = make(map[K]V), 0, now
}

// Get returns the zero value for what is not there.
func (a *Aged[K, V]) Get(key K) V {
	if v, ok := a.current[key]; ok {
		return v
	}
	return a.previous[key]
}

// Use is Get for an entry that stays because it is used: it makes it the youngest.
func (a *Aged[K, V]) Use(key K) (V, bool) {
	v, ok := a.current[key]
	if !ok {
		if v, ok = a.previous[key]; ok {
			a.Set(key, v)
		}
	}
	return v, ok
}

// Set makes an entry the youngest.
func (a *Aged[K, V]) Set(key K, v V) {
	a.Delete(key)
	a.current[key] = v
	if a.Size != nil {
		a.currentSize += a.Size(v)
	}
}

// Delete removes an entry, if it is there.
func (a *Aged[K, V]) Delete(key K) {
	if a.Size != nil {
		if v, ok := a.current[key]; ok {
			a.currentSize -= a.Size(v)
		}
		if v, ok := a.previous[key]; ok {
			a.previousSize -= a.Size(v)
		}
	}
	delete(a.current, key)
	delete(a.previous, key)
}

// Len is the number of entries.
func (a *Aged[K, V]) Len() int { return len(a.current) + len(a.previous) }

// Sizes is the sum of what Size says of them.
func (a *Aged[K, V]) Sizes() int { return a.currentSize + a.previousSize }

// Put adds to a map that holds at most so many entries. A full one loses one entry, any one: if it
// lost all, whatever the entries stand for would be asked for again at once.
func Put[K comparable, V any](m *map[K]V, key K, value V, most int) {
	if *m == nil {
		*m = make(map[K]V)
	}
	if _, have := (*m)[key]; !have {
		for other := range *m {
			if len(*m) < most {
				break
			}
			delete(*m, other)
		}
	}
	(*m)[key] = value
}

// Once remembers which texts were said. When it is full it forgets one, which may be said again.
// The zero value is ready, and safe for concurrent use.
type Once struct {
	mu sync.Mutex // guards m for one access
	m  map[[16]byte]struct{}
}

// MostSaid is how many texts a Once remembers: some for each of thousands of tenants.
const MostSaid = 65_536

// First says whether these words have not been said together. It keeps a hash of them: a secret may
// be among them.
func (o *Once) First(words ...string) bool {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	text := [16]byte(sum[:])
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, said := o.m[text]; said {
		return false
	}
	Put(&o.m, text, struct{}{}, MostSaid)
	return true
}

// Len is the number of texts that it remembers.
func (o *Once) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.m)
}
