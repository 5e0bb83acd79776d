package clientdoc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
)

type host func(*http.Request) (*http.Response, error)

func (h host) RoundTrip(r *http.Request) (*http.Response, error) { return h(r) }

// A stranger can name any number of good documents. They push out no copy whose client somebody has
// logged in with: it serves on for a day when its host does not answer.
func TestDocumentsOfStrangersPushOutOnlyEachOther(t *testing.T) {
	now := time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC)
	away := false
	f := &Fetcher{
		Transport: host(func(r *http.Request) (*http.Response, error) {
			if away {
				return nil, errors.New("away")
			}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader("{}")), Request: r}, nil
		}),
		Reserved: func(string) bool { return false }, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
	}
	fetch := func(url string) error {
		_, err := f.Fetch(context.Background(), Document(url), func([]byte) error { return nil })
		return err
	}
	const used = 50
	for i := range used {
		url := fmt.Sprintf("https://used%d.example/client.json", i)
		if err := fetch(url); err != nil {
			t.Fatal(err)
		}
		f.Used(Document(url))
	}
	for i := range 3 * maxCopies {
		if err := fetch(fmt.Sprintf("https://stranger%d.example/client.json", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.copies) != maxCopies {
		t.Errorf("%d copies", len(f.copies))
	}
	away = true
	now = now.Add(defaultAge + Retry)
	for i := range used {
		if err := fetch(fmt.Sprintf("https://used%d.example/client.json", i)); err != nil {
			t.Errorf("a client that people use: %v", err)
		}
	}
}
