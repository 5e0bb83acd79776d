package replay

import (
	"context"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
)

const (
	memoryEntries = 1 << 20 // codes and logins; about 60 MB
	memoryNotes   = 1 << 27 // bytes of answers kept for Grace
)

// memoryStore is a Store that knows what this process has seen since it began.
type memoryStore struct {
	now func() time.Time

	mu         sync.Mutex                  // guards the maps for one operation
	numbers    [4]forget.Aged[Key, uint32] // the shortest life first
	notes      forget.Aged[Key, memoryNote]
	maxEntries int
	maxNotes   int // bytes
}

type memoryNote struct {
	text  []byte
	until time.Time
}

// size returns the bytes that a note takes, with its place in the map.
func (n memoryNote) size() int { return len(n.text) + 100 }

func newMemoryStore(idle, login time.Duration, now func() time.Time) *memoryStore {
	life, ended := lives(idle, login)
	return &memoryStore{
		now:        now,
		numbers:    [4]forget.Aged[Key, uint32]{{Width: LeaseLife}, {Width: CodeLife}, {Width: max(life, CodeLife)}, {Width: max(ended, CodeLife)}},
		notes:      forget.Aged[Key, memoryNote]{Width: Grace, Size: memoryNote.size},
		maxEntries: memoryEntries, maxNotes: memoryNotes,
	}
}

func (s *memoryStore) Raise(_ context.Context, key Key, from, to uint32, note []byte, life time.Duration) (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.turn()
	known := s.find(key, now)
	if known.Number > from {
		return known, false, nil
	}
	next := memoryNote{note, now.Add(Grace)}
	// Leases find room: there are no more of them than requests at a time, and without a lease a
	// known login could not be checked.
	if known.Number == 0 && life > LeaseLife && s.len() >= s.maxEntries || note != nil && s.notes.Sizes()+next.size() > s.maxNotes {
		return Record{}, false, ErrFull
	}
	s.lasting(life).Set(key, to)
	s.notes.Delete(key)
	if note != nil {
		s.notes.Set(key, next)
	}
	return Record{}, true, nil
}

func (s *memoryStore) Look(_ context.Context, key Key) (Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(key, s.turn()), nil
}

func (s *memoryStore) Drop(_ context.Context, key Key, number uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(key, s.turn()).Number != number {
		return nil
	}
	for i := range s.numbers {
		s.numbers[i].Delete(key)
	}
	s.notes.Delete(key)
	return nil
}

// turn brings all maps to the present.
func (s *memoryStore) turn() time.Time {
	now := s.now()
	for i := range s.numbers {
		s.numbers[i].Turn(now)
	}
	s.notes.Turn(now)
	return now
}

// lasting is the map that keeps a number for this life.
func (s *memoryStore) lasting(life time.Duration) *forget.Aged[Key, uint32] {
	for i := range s.numbers {
		if life <= s.numbers[i].Width {
			return &s.numbers[i]
		}
	}
	panic("replay: internal error: a life longer than those of the guard")
}

func (s *memoryStore) find(key Key, now time.Time) (known Record) {
	for i := range s.numbers {
		known.Number = max(known.Number, s.numbers[i].Get(key))
	}
	if note := s.notes.Get(key); now.Before(note.until) {
		known.Note = note.text
	}
	return known
}

func (s *memoryStore) len() (n int) {
	for i := range s.numbers {
		n += s.numbers[i].Len()
	}
	return n
}
