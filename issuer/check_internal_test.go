package issuer

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
)

// A flight that found no room removes nothing when it ends: another flight may be stored under its
// key.
func TestFlightThatFoundNoRoomTakesNobodysPlace(t *testing.T) {
	now := func() time.Time { return time.Unix(1790000000, 0) }
	var f flights
	failed := temporarilyUnavailable("the provider is away", errors.New("away"))
	key := replay.Key{1}
	_, _, err := f.join(t.Context(), now, replay.Key{2}, "x", func() (renewal, error) { return renewal{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(flightsKept) {
		var k replay.Key
		binary.BigEndian.PutUint64(k[8:], i+1)
		f.m.Set(k, &flight{})
	}
	_, _, err = f.join(t.Context(), now, key, "x", func() (renewal, error) {
		f.m = forget.Aged[replay.Key, *flight]{Width: replay.Grace} // room again
		_, _, err := f.join(t.Context(), now, key, "x", func() (renewal, error) { return renewal{token: "kept"}, nil })
		if err != nil {
			t.Error(err)
		}
		return renewal{}, failed
	})
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if got, same, err := f.join(t.Context(), now, key, "x", func() (renewal, error) { return renewal{token: "asked again"}, nil }); got.token != "kept" || !same || err != nil {
		t.Errorf("%q, %v, %v", got.token, same, err)
	}
}
