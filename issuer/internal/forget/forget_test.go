package forget

import (
	"fmt"
	"testing"
	"time"
)

// An entry stays at least for Width and at most for twice that, whenever it was set.
func TestAgedKeepsForItsWidth(t *testing.T) {
	start := time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)
	for at := time.Duration(0); at < 2*time.Minute; at += 7 * time.Second {
		a := Aged[string, int]{Width: time.Minute, Size: func(n int) int { return n }}
		a.Turn(start)
		a.Turn(start.Add(at))
		a.Set("x", 3)
		a.Set("x", 4) // in the place of the first
		for after := time.Duration(0); after <= 2*time.Minute; after += time.Second {
			a.Turn(start.Add(at + after))
			switch n := a.Get("x"); {
			case after < time.Minute && (n != 4 || a.Len() != 1 || a.Sizes() != 4):
				t.Fatalf("set at %v: %d of size %d after %v", at, n, a.Sizes(), after)
			case after == 2*time.Minute && (n != 0 || a.Len() != 0 || a.Sizes() != 0):
				t.Fatalf("set at %v: %d of size %d is there after %v", at, n, a.Sizes(), after)
			}
		}
	}
}

// An entry that is used stays, however long; others go meanwhile.
func TestAgedKeepsWhatIsUsed(t *testing.T) {
	start := time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)
	a := Aged[string, int]{Width: time.Minute, Size: func(n int) int { return n }}
	a.Turn(start)
	a.Set("used", 1)
	a.Set("other", 2)
	for after := time.Duration(0); after < time.Hour; after += 59 * time.Second {
		a.Turn(start.Add(after))
		if n, ok := a.Use("used"); n != 1 || !ok {
			t.Fatalf("it is gone after %v", after)
		}
	}
	if _, ok := a.Use("other"); ok || a.Len() != 1 || a.Sizes() != 1 {
		t.Errorf("%d entries of size %d", a.Len(), a.Sizes())
	}
}

func TestAgedForgetsWhatIsDeleted(t *testing.T) {
	start := time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)
	a := Aged[string, int]{Width: time.Minute, Size: func(n int) int { return n }}
	a.Turn(start)
	a.Set("old", 1)
	a.Turn(start.Add(time.Minute))
	a.Set("young", 2)
	a.Delete("old")
	a.Delete("young")
	a.Delete("never there")
	if a.Len() != 0 || a.Sizes() != 0 || a.Get("old") != 0 || a.Get("young") != 0 {
		t.Errorf("%d entries of size %d are left", a.Len(), a.Sizes())
	}
}

// A clock that was an hour ahead and is set back must not keep entries for the hour.
func TestAgedSurvivesAClockThatIsSetBack(t *testing.T) {
	start := time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)
	a := Aged[string, int]{Width: time.Minute}
	a.Turn(start.Add(time.Hour))
	a.Set("x", 1)
	for after := time.Duration(0); after <= 2*time.Minute; after += time.Second {
		a.Turn(start.Add(after))
	}
	if a.Get("x") != 0 {
		t.Error("it is there after two minutes")
	}
}

// A text is said once. A full memory forgets one text, not all.
func TestOnceSaysOnce(t *testing.T) {
	var o Once
	for i := range MostSaid {
		if !o.First("a", fmt.Sprint(i)) || o.First("a", fmt.Sprint(i)) {
			t.Fatal(i)
		}
	}
	if !o.First("a1") || o.First("a1") || !o.First("a", "1", "") {
		t.Error("words that run together the same are the same")
	}
	if o.Len() != MostSaid {
		t.Errorf("%d texts are remembered", o.Len())
	}
}
