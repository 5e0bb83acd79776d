package issuer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
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

// An answer is kept only where asking again could not give another one: what was an outage may be
// over, and labels may have changed back.
func TestFlightKeepsWhatIsFinal(t *testing.T) {
	now := func() time.Time { return time.Unix(1790000000, 0) }
	for _, c := range []struct {
		name string
		next renewal
		err  error
		kept bool
	}{
		{"the next refresh token", renewal{token: "next"}, nil, true},
		{"the next refresh token, with a short access token", renewal{token: "next", outcome: rotatedShort}, nil, true},
		{"a person whom the rules do not admit", renewal{outcome: refusedByRules}, nil, true},
		{"the end of the login", renewal{}, fmt.Errorf("%w", provider.ErrEnded), true},
		{"a bridged outage", renewal{token: "same", outcome: unchangedShort}, nil, false},
		{"an outage", renewal{}, fmt.Errorf("%w", provider.ErrAway), false},
		{"a provider that refuses this server", renewal{}, fmt.Errorf("%w", provider.ErrOurFault), false},
		{"labels that need more", renewal{}, fmt.Errorf("%w", provider.ErrNeedsMore), false},
	} {
		var f flights
		asked := 0
		for range 2 {
			f.join(t.Context(), now, replay.Key{1}, "x", func() (renewal, error) { asked++; return c.next, c.err })
		}
		if kept := asked == 1; kept != c.kept {
			t.Errorf("%s: asked %d times", c.name, asked)
		}
	}
}

// Answers are kept for so many logins; those beyond are asked for and not kept.
func TestFlightsAreBounded(t *testing.T) {
	now := func() time.Time { return time.Unix(1790000000, 0) }
	var f flights
	for i := range uint64(flightsKept + 2) {
		var k replay.Key
		binary.BigEndian.PutUint64(k[8:], i)
		if _, _, err := f.join(t.Context(), now, k, "x", func() (renewal, error) { return renewal{}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.m.Len(); n != flightsKept {
		t.Errorf("%d answers are kept", n)
	}
}
