package issuer

import (
	"context"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
)

const (
	memoryEntries = 1 << 20 // codes and families; about 60 MB
	memoryNotes   = 1 << 27 // bytes of answers kept for the grace
)

// memoryStore is a replayStore that knows what this process has seen since it began.
type memoryStore struct {
	now func() time.Time

	mu         sync.Mutex                        // guards the maps for one operation
	numbers    [4]forget.Aged[replayKey, uint32] // the shortest life first
	notes      forget.Aged[replayKey, memoryNote]
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
		numbers:    [4]forget.Aged[replayKey, uint32]{{Width: checkClaim}, {Width: codeMark}, {Width: max(life, codeMark)}, {Width: max(ended, codeMark)}},
		notes:      forget.Aged[replayKey, memoryNote]{Width: replayGrace, Size: memoryNote.size},
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
	if known.number == 0 && life > checkClaim && s.len() >= s.maxEntries || note != nil && s.notes.Sizes()+next.size() > s.maxNotes {
		return replayRecord{}, false, errGuardFull
	}
	s.lasting(life).Set(key, to)
	s.notes.Delete(key)
	if note != nil {
		s.notes.Set(key, next)
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
		s.numbers[i].Delete(key)
	}
	s.notes.Delete(key)
	return nil
}

// turn brings all of them to the present.
func (s *memoryStore) turn() time.Time {
	now := s.now()
	for i := range s.numbers {
		s.numbers[i].Turn(now)
	}
	s.notes.Turn(now)
	return now
}

// lasting is the map that keeps something for this life.
func (s *memoryStore) lasting(life time.Duration) *forget.Aged[replayKey, uint32] {
	for i := range s.numbers {
		if life <= s.numbers[i].Width {
			return &s.numbers[i]
		}
	}
	panic("issuer: internal error: a life longer than the memory store's")
}

func (s *memoryStore) find(key replayKey, now time.Time) (known replayRecord) {
	for i := range s.numbers {
		known.number = max(known.number, s.numbers[i].Get(key))
	}
	if note := s.notes.Get(key); now.Before(note.until) {
		known.note = note.text
	}
	return known
}

func (s *memoryStore) len() (n int) {
	for i := range s.numbers {
		n += s.numbers[i].Len()
	}
	return n
}
