package issuer

import (
	"context"
	"sync"
	"time"
)

const (
	memoryEntries = 1 << 20 // codes and families; about 60 MB
	memoryNotes   = 1 << 27 // bytes of answers kept for the grace
)

// memoryStore is a replayStore that knows what this process has seen since it began.
type memoryStore struct {
	now func() time.Time

	mu         sync.Mutex         // guards the buckets for one operation
	numbers    [4]buckets[uint32] // the shortest life first
	notes      buckets[memoryNote]
	maxEntries int
	maxNotes   int // bytes
}

type memoryNote struct {
	text  []byte
	until time.Time
}

func (n memoryNote) size() int { return len(n.text) + 100 } // what the map takes for it

// newMemoryStore keeps families for at least the given life, and those that have ended for as long
// as ended.
func newMemoryStore(life, ended time.Duration, now func() time.Time) *memoryStore {
	return &memoryStore{
		now:        now,
		numbers:    [4]buckets[uint32]{{width: checkClaim}, {width: codeMark}, {width: max(life, codeMark)}, {width: max(ended, codeMark)}},
		notes:      buckets[memoryNote]{width: replayGrace, size: memoryNote.size},
		maxEntries: memoryEntries, maxNotes: memoryNotes,
	}
}

func (s *memoryStore) raise(_ context.Context, key replayKey, from, to uint32, note []byte, life time.Duration) (replayRecord, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.turn()
	known := s.find(key, now)
	if known.number > from {
		return known, false, nil
	}
	next := memoryNote{note, now.Add(replayGrace)}
	// Claims find room: there are no more than requests at a time, and without one a known login
	// could not be checked.
	if known.number == 0 && life > checkClaim && s.len() >= s.maxEntries || note != nil && s.notes.sizes()+next.size() > s.maxNotes {
		return replayRecord{}, false, errGuardFull
	}
	s.lasting(life).set(key, to)
	s.notes.delete(key)
	if note != nil {
		s.notes.set(key, next)
	}
	return replayRecord{}, true, nil
}

func (s *memoryStore) look(_ context.Context, key replayKey) (replayRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(key, s.turn()), nil
}

func (s *memoryStore) drop(_ context.Context, key replayKey, number uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(key, s.turn()).number != number {
		return nil
	}
	for i := range s.numbers {
		s.numbers[i].delete(key)
	}
	s.notes.delete(key)
	return nil
}

// turn brings all buckets to the present.
func (s *memoryStore) turn() time.Time {
	now := s.now()
	for i := range s.numbers {
		s.numbers[i].turn(now)
	}
	s.notes.turn(now)
	return now
}

// lasting are the buckets that keep something for this life.
func (s *memoryStore) lasting(life time.Duration) *buckets[uint32] {
	for i := range s.numbers {
		if life <= s.numbers[i].width {
			return &s.numbers[i]
		}
	}
	panic("issuer: internal error: a life longer than the memory store's")
}

func (s *memoryStore) find(key replayKey, now time.Time) (known replayRecord) {
	for i := range s.numbers {
		known.number = max(known.number, s.numbers[i].get(key))
	}
	if note := s.notes.get(key); now.Before(note.until) {
		known.note = note.text
	}
	return known
}

func (s *memoryStore) len() (n int) {
	for i := range s.numbers {
		n += s.numbers[i].len()
	}
	return n
}

// buckets is a map whose entries stay for at least width and go, all at once, before twice that.
// Nothing is ever dropped to make room.
type buckets[V any] struct {
	width             time.Duration
	size              func(V) int // nil: sizes are of no interest
	begun             time.Time   // when current was empty
	current, previous map[replayKey]V

	currentSize, previousSize int
}

func (b *buckets[V]) turn(now time.Time) {
	age := now.Sub(b.begun)
	if age < 0 { // the clock was set back: until it is where it was, nothing would ever go
		b.begun = now
	}
	if age < b.width {
		return
	}
	b.previous, b.previousSize = b.current, b.currentSize
	if age >= 2*b.width {
		b.previous, b.previousSize = nil, 0
	}
	b.current, b.currentSize, b.begun = make(map[replayKey]V), 0, now
}

func (b *buckets[V]) get(key replayKey) V {
	if v, ok := b.current[key]; ok {
		return v
	}
	return b.previous[key]
}

func (b *buckets[V]) set(key replayKey, v V) {
	b.delete(key)
	b.current[key] = v
	if b.size != nil {
		b.currentSize += b.size(v)
	}
}

func (b *buckets[V]) delete(key replayKey) {
	if b.size != nil {
		if v, ok := b.current[key]; ok {
			b.currentSize -= b.size(v)
		}
		if v, ok := b.previous[key]; ok {
			b.previousSize -= b.size(v)
		}
	}
	delete(b.current, key)
	delete(b.previous, key)
}

func (b *buckets[V]) len() int { return len(b.current) + len(b.previous) }

func (b *buckets[V]) sizes() int { return b.currentSize + b.previousSize }
