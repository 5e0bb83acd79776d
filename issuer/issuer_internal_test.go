package issuer

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
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

type lineWriter chan string

func (w lineWriter) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}

// What a login asks for ahead of its need is asked for outside of any request.
func TestPanicOutsideOfARequestDoesNotEndTheProcess(t *testing.T) {
	ring, err := sealing.ParseRing("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	lines := make(lineWriter, 1)
	s, err := New(Config{
		Ring: ring, Schedule: sealing.Schedule{Rotation: 24 * time.Hour, Overlap: 2 * time.Hour},
		AccessTokenTTL: time.Hour, RefreshTokenTTL: 30 * 24 * time.Hour, SessionTTL: 24 * time.Hour,
		Log: slog.New(slog.NewJSONHandler(lines, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Background(func() { panic("a fault of a library") })
	if line := <-lines; !strings.Contains(line, `"msg":"panic","cause":"a fault of a library","stack":"`) {
		t.Error(line)
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

// A refusal whose cause the metrics do not list would be counted as other. The codes and words are
// those in the source.
func TestMetricsListEachCauseOfARefusal(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	listed, found := metrics.Values("mcpbouncer_refusals_total", "cause"), map[string]bool{}
	cause := regexp.MustCompile(`(?:badRequest\(|redirected\(|Code: +|\{(?:\w+\.)?[eE]rr\w+, )"([a-z_]+)"`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range cause.FindAllStringSubmatch(string(text), -1) {
			if found[m[1]] = true; !slices.Contains(listed, m[1]) {
				t.Errorf("%s: %s is not listed", file, m[1])
			}
		}
	}
	// one of each form
	for _, one := range []string{"invalid_grant", "consent_required", "not_found", "denied", "document_withdrawn"} {
		if !found[one] {
			t.Errorf("%s was not found in the source", one)
		}
	}
}
