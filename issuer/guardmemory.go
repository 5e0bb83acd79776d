package issuer

import (
	"context"
	"sync"
	"time"
)

const (
	memoryEntries = 1 << 20 // codes and families; about 60 MB
	memoryNotes   = 1 << 18 // answers kept for the grace; about 100 MB when all are there
)

// memoryStore is a replayStore that knows what this process has seen since it began.
type memoryStore struct {
	now func() time.Time

	mu         sync.Mutex         // guards the buckets for one operation
	numbers    [3]buckets[uint32] // the shortest life first
	notes      buckets[memoryNote]
	maxEntries int
	maxNotes   int
}

type memoryNote struct {
	text  []byte
	until time.Time
}

// newMemoryStore keeps families for at least the given life.
func newMemoryStore(life time.Duration, now func() time.Time) *memoryStore {
	return &memoryStore{
		now:        now,
		numbers:    [3]buckets[uint32]{{width: checkClaim}, {width: codeMark}, {width: max(life, codeMark)}},
		notes:      buckets[memoryNote]{width: replayGrace},
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
	// Claims find room: there are no more than requests at a time, and without one a known login could not be checked.
	if known.number == 0 && life > checkClaim && s.len() >= s.maxEntries || note != nil && s.notes.len() >= s.maxNotes {
		return replayRecord{}, false, errGuardFull
	}
	s.lasting(life).set(key, to)
	s.notes.delete(key)
	if note != nil {
		s.notes.set(key, memoryNote{note, now.Add(replayGrace)})
	}
	return replayRecord{}, true, nil
}

func (s *memoryStore) look(_ context.Context, key replayKey) (replayRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(key, s.turn()), nil
}

func (s *memoryStore) drop(_ context.Context, key replayKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
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

// buckets is a map whose entries stay for at least width and go, all at once, before twice that. Nothing is ever dropped to make room.
type buckets[V any] struct {
	width             time.Duration
	begun             time.Time // when current was empty
	current, previous map[replayKey]V
}

func (b *buckets[V]) turn(now time.Time) {
	switch age := now.Sub(b.begun); {
	case age >= 2*b.width:
		b.current, b.previous, b.begun = make(map[replayKey]V), nil, now
	case age >= b.width:
		b.current, b.previous, b.begun = make(map[replayKey]V), b.current, now
	}
}

func (b *buckets[V]) get(key replayKey) V {
	if v, ok := b.current[key]; ok {
		return v
	}
	return b.previous[key]
}

func (b *buckets[V]) set(key replayKey, v V) {
	delete(b.previous, key)
	b.current[key] = v
}

func (b *buckets[V]) delete(key replayKey) {
	delete(b.current, key)
	delete(b.previous, key)
}

func (b *buckets[V]) len() int { return len(b.current) + len(b.previous) }
