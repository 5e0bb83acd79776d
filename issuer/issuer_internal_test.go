package issuer

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// The monotonic clock stands still while a machine sleeps. By it, last evening's copy would count
// as fresh in the morning.
func TestNewMeasuresAgesByTheWallClock(t *testing.T) {
	ring, err := sealing.ParseRing("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{
		Ring: ring, Schedule: sealing.Schedule{Rotation: 24 * time.Hour, Overlap: 2 * time.Hour},
		AccessTokenTTL: time.Hour, RefreshTokenTTL: 30 * 24 * time.Hour, SessionTTL: 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	if now := s.Now().String(); strings.Contains(now, "m=") {
		t.Errorf("the clock is %s: it measures ages by the monotonic clock", now)
	}
}

// An endpoint that the metrics do not list would be counted as other.
func TestMetricsListEachEndpoint(t *testing.T) {
	s := &Issuer{}
	listed := metrics.Values("mcpbouncer_refusals_total", "endpoint")
	for _, r := range append(s.routes(), s.pageRoutes()...) {
		if path, below := splitDocument(r.path); !slices.Contains(listed, path) {
			t.Errorf("%s%s is not listed", path, below)
		}
	}
}
