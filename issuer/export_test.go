package issuer

import (
	"context"
	"sync"
	"time"
)

// FaultyStore is a memory that a test can break. Several replicas may share it.
type FaultyStore struct {
	replayStore
	mu     sync.Mutex // guards the two below for one access
	before error      // of calls that do nothing
	after  error      // of calls that do what they should
	lost   []error    // of the next raises, which do what they should
}

// NewFaultyGuard is a replay guard over it.
func NewFaultyGuard(idle time.Duration, now func() time.Time) (*ReplayGuard, *FaultyStore) {
	g, err := OpenReplayGuard("memory", idle, 30*24*time.Hour, now)
	if err != nil {
		panic(err)
	}
	f := &FaultyStore{replayStore: g.store}
	g.store = f
	return g, f
}

// Fail makes every call fail, before or after it did something; nil for both heals.
func (f *FaultyStore) Fail(before, after error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

// FailRaises makes so many raises fail after they did what they should.
func (f *FaultyStore) FailRaises(times int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range times {
		f.lost = append(f.lost, err)
	}
}

// Full makes it refuse, or take, answers to keep, as a memory store does that has too many.
func (f *FaultyStore) Full(full bool) {
	s := f.replayStore.(*memoryStore)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxNotes = memoryNotes
	if full {
		s.maxNotes = 0
	}
}

func (f *FaultyStore) faults() (error, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.before, f.after
}

func (f *FaultyStore) raise(ctx context.Context, key replayKey, from, to uint32, note []byte, life time.Duration) (replayRecord, bool, error) {
	before, after := f.faults()
	if before != nil {
		return replayRecord{}, false, before
	}
	record, done, err := f.replayStore.raise(ctx, key, from, to, note, life)
	f.mu.Lock()
	if len(f.lost) > 0 {
		after, f.lost = f.lost[0], f.lost[1:]
	}
	f.mu.Unlock()
	if after != nil {
		return replayRecord{}, false, after
	}
	return record, done, err
}

func (f *FaultyStore) look(ctx context.Context, key replayKey) (replayRecord, error) {
	if before, _ := f.faults(); before != nil {
		return replayRecord{}, before
	}
	return f.replayStore.look(ctx, key) // a look has no effect that could be lost with its answer
}

func (f *FaultyStore) drop(ctx context.Context, key replayKey, number uint32) error {
	before, after := f.faults()
	if before != nil {
		return before
	}
	if err := f.replayStore.drop(ctx, key, number); err != nil {
		return err
	}
	return after
}

// firstUse is use without what an earlier one left.
func (g *ReplayGuard) firstUse(ctx context.Context, code replayKey, caller uint32) (bool, error) {
	first, _, _, err := g.use(ctx, code, caller)
	return first, err
}

// NewGuardOfKind is a guard in memory that says to be of another kind.
func NewGuardOfKind(kind string, idle time.Duration, now func() time.Time) *ReplayGuard {
	g, err := OpenReplayGuard("memory", idle, 30*24*time.Hour, now)
	if err != nil {
		panic(err)
	}
	g.kind = kind
	return g
}
