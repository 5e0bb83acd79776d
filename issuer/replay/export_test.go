package replay

import (
	"testing"
	"time"
)

// LimitMemory bounds what a memory store holds, or gives it its usual bounds back.
func LimitMemory(s Store, limited bool) {
	m := s.(*memoryStore)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.maxEntries, m.maxNotes = memoryEntries, memoryNotes
	if limited {
		m.maxEntries, m.maxNotes = 0, 0
	}
}

// NewTestTable makes a DynamoDB table with the stores of two replicas, whose clocks are four
// minutes apart. away makes it answer 500.
func NewTestTable(t *testing.T) (stores [2]Store, pass func(time.Duration), away func(bool)) {
	f, guards := newTable(t, -2*time.Minute, 2*time.Minute)
	away = func(is bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.status, f.body = 0, ""
		if is {
			f.status, f.body = 500, "InternalServerError"
		}
	}
	return [2]Store{guards[0].store, guards[1].store}, f.clock.add, away
}
