package jsonlog

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// one is a value of each sort that a line may have, and of each that slog treats in its own way.
var one = []any{
	"", "plain", "Das große Wiki", `"quoted\"`, "<&>", "two\nlines\t\x00\x7f", "\u2028", "\xff", strings.Repeat("long ", 1000),
	0, int64(math.MinInt64), uint64(math.MaxUint64), 1.5, math.NaN(), true, false, nil, time.Second,
	time.Time{}, time.Date(2026, 11, 30, 9, 8, 7, 6, time.FixedZone("", 3600)), time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC), time.Now(),
	[]string(nil), []string{}, []string{"a"}, []string{"https://app.example/", "é"}, []any{1, "a"}, map[string]int{"a": 1},
	errors.New("a cause"), slog.LevelWarn, slog.GroupValue(), slog.GroupValue(slog.String("a", "b"), slog.Int("c", 1)),
	resolved{"of a token"}, make(chan int),
}

// resolved is asked for what the log may show.
type resolved struct{ text string }

func (r resolved) LogValue() slog.Value { return slog.StringValue("shown " + r.text) }

func TestLinesAreThoseOfSlog(t *testing.T) {
	var got, want bytes.Buffer
	handlers := [2]slog.Handler{New(&got, slog.LevelInfo), slog.NewJSONHandler(&want, &slog.HandlerOptions{Level: slog.LevelInfo})}
	check := func(r slog.Record) {
		t.Helper()
		got.Reset()
		want.Reset()
		for _, h := range handlers {
			if err := h.Handle(context.Background(), r); err != nil {
				t.Fatal(err)
			}
		}
		if got.String() != want.String() {
			t.Errorf("got  %swant %s", got.String(), want.String())
		}
	}
	keys := []string{"tenant", "redirect URI to register", "", "é", `"`}
	record := func(at time.Time, level slog.Level, message string, attrs ...slog.Attr) slog.Record {
		r := slog.NewRecord(at, level, message, 0)
		r.AddAttrs(attrs...)
		return r
	}
	for _, v := range one {
		for _, key := range keys {
			check(record(time.Now(), slog.LevelInfo, "one", slog.Any(key, v), slog.String("after", "it")))
			check(record(time.Now(), slog.LevelInfo, "one", slog.GroupAttrs(key, slog.Any(key, v), slog.String("b", "c")), slog.Any("d", v)))
		}
		if text, is := v.(string); is {
			check(record(time.Now(), slog.LevelInfo, text))
		}
		if at, is := v.(time.Time); is {
			check(record(at, slog.LevelError+3, "another time"))
		}
	}
	check(record(time.Now(), slog.LevelInfo, "nothing more"))
	check(record(time.Now(), slog.LevelInfo, "two groups", slog.GroupAttrs("", slog.String("a", "b")), slog.GroupAttrs("", slog.GroupAttrs(""))))
	for range 3000 { // what nobody thought of
		var attrs []slog.Attr
		for range rand.IntN(12) {
			attrs = append(attrs, slog.Any(keys[rand.IntN(len(keys))], one[rand.IntN(len(one))]))
		}
		check(record(time.Now(), slog.Level(rand.IntN(16)-4), "random", attrs...))
	}
	for i, h := range handlers {
		handlers[i] = h.WithAttrs([]slog.Attr{slog.String("always", "here")}).WithGroup("in")
	}
	check(record(time.Now(), slog.LevelWarn, "with", slog.String("a", "b")))
}

func TestLinesBelowTheLevelAreLeftOut(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(New(&out, slog.LevelWarn))
	log.Info("not this")
	log.Warn("but this")
	if text := out.String(); strings.Contains(text, "not this") || !strings.Contains(text, "but this") {
		t.Errorf("%s", text)
	}
}

// Lines of both sorts, those that are written here and those of slog, come whole.
func TestLinesOfManyComeWhole(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(New(&out, slog.LevelInfo))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				log.Info("plain", "a", "b")
				log.Info("not plain", "a", 1.5)
			}
		})
	}
	all.Wait()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 8*200*2 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, `{"time":"`) || !strings.HasSuffix(line, `"a":"b"}`) && !strings.HasSuffix(line, `"a":1.5}`) {
			t.Fatalf("%s", line)
		}
	}
}

// A room that a line has used has nothing of it for the next line, and a long line leaves none.
func TestLinesTakeNoMemoryOfTheirOwn(t *testing.T) {
	h := New(discard{}, slog.LevelInfo)
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "token issued", 0)
	r.AddAttrs(slog.GroupAttrs("", slog.String("tenant", "wiki")), slog.String("grant", "refresh_token"), slog.Int64("seconds", 3600))
	if n := testing.AllocsPerRun(100, func() { _ = h.Handle(context.Background(), r) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

func BenchmarkLine(b *testing.B) {
	for name, h := range map[string]slog.Handler{"here": New(discard{}, slog.LevelInfo), "slog": slog.NewJSONHandler(discard{}, nil)} {
		b.Run(name, func(b *testing.B) {
			r := slog.NewRecord(time.Now(), slog.LevelInfo, "token issued", 0)
			r.AddAttrs(slog.String("event", "login.refreshed"), slog.GroupAttrs("", slog.String("tenant", "wiki"), slog.String("issuer", "https://mcp.example.com/wiki")),
				slog.String("client", "0123456789abcdef"), slog.String("subject", "0123456789abcdef"), slog.String("family", "0123456789abcdef"),
				slog.String("grant", "refresh_token"), slog.String("jti", "0123456789abcdef"), slog.String("scope", "mcp:read mcp:write"),
				slog.Int64("seconds", 3600), slog.Time("expires", time.Now()), slog.Time("refresh_until", time.Now()), slog.Time("ends", time.Now()))
			b.ReportAllocs()
			for b.Loop() {
				_ = h.Handle(context.Background(), r)
			}
		})
	}
}
