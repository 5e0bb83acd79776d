package issuer

import (
	"context"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
)

// FaultyStore is a memory that a test can break. Several replicas may share it.
type FaultyStore struct {
	replay.Store
	mu     sync.Mutex // guards the rest for one access
	full   bool       // it has no room for answers
	before error      // of calls that do nothing
	after  error      // of calls that take effect
	lost   []error    // of the next raises, which take effect
}

// NewFaultyGuard returns a replay guard over a new FaultyStore.
func NewFaultyGuard(idle time.Duration, now func() time.Time) (*replay.Guard, *FaultyStore) {
	const login = 30 * 24 * time.Hour
	_, memory, err := replay.OpenStore("memory", idle, login, now)
	if err != nil {
		panic(err)
	}
	f := &FaultyStore{Store: memory}
	return replay.New("memory", f, idle, login), f
}

// Fail makes every call fail, before or after it did something; nil for both heals.
func (f *FaultyStore) Fail(before, after error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

// FailRaises makes the next raises fail after they took effect.
func (f *FaultyStore) FailRaises(times int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range times {
		f.lost = append(f.lost, err)
	}
}

// Full makes the store refuse answers to keep, or accept them again, as a memory store does that
// has too many.
func (f *FaultyStore) Full(full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full = full
}

func (f *FaultyStore) faults() (full bool, before, after error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.full, f.before, f.after
}

func (f *FaultyStore) Raise(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
	full, before, after := f.faults()
	if before != nil {
		return replay.Record{}, false, before
	}
	if known, err := f.Store.Look(ctx, key); full && note != nil && (err != nil || known.Number <= from) {
		return replay.Record{}, false, replay.ErrFull
	}
	record, done, err := f.Store.Raise(ctx, key, from, to, note, life)
	f.mu.Lock()
	if len(f.lost) > 0 {
		after, f.lost = f.lost[0], f.lost[1:]
	}
	f.mu.Unlock()
	if after != nil {
		return replay.Record{}, false, after
	}
	return record, done, err
}

func (f *FaultyStore) Look(ctx context.Context, key replay.Key) (replay.Record, error) {
	if _, before, _ := f.faults(); before != nil {
		return replay.Record{}, before
	}
	return f.Store.Look(ctx, key) // a look has no effect that could be lost with its answer
}

func (f *FaultyStore) Drop(ctx context.Context, key replay.Key, number uint32) error {
	_, before, after := f.faults()
	if before != nil {
		return before
	}
	if err := f.Store.Drop(ctx, key, number); err != nil {
		return err
	}
	return after
}
