package deny

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// Timeout bounds one read over the network.
const Timeout = 3 * time.Second

const (
	fileRetry = 20 * time.Millisecond // while somebody edits the file
	fileTries = 10
)

// Source is the place where the operator keeps a deny document.
type Source struct {
	// read reads the document again; last is the copy from before, or nil.
	read   func(ctx context.Context, last *copied) (*copied, error)
	client *http.Client // nil: the document is not read over the network
}

// copied is a document as it was last read.
type copied struct {
	*Document
	etag   string
	readAt time.Time
}

// Open takes a file path, an https URL or the document itself. A file and a text are read at once,
// so that a mistake shows when the program starts. A URL is not: until it was read once, nothing is
// known of what it denies. The errors are for the operator, and show no URL.
func Open(source string, transport http.RoundTripper) (*Source, error) {
	s := &Source{}
	switch u, err := url.Parse(source); {
	case strings.HasPrefix(strings.TrimSpace(source), "{"):
		document, err := Parse([]byte(source))
		if err != nil {
			return nil, err
		}
		s.read = func(context.Context, *copied) (*copied, error) { return &copied{Document: document}, nil }
	case err == nil && (u.Scheme == "https" && u.Host != "" || weburl.IsLocalHTTP(u)):
		if transport == nil {
			transport = http.DefaultTransport
		}
		s.client = outgoing.NewClient(transport, Timeout)
		s.read = func(ctx context.Context, last *copied) (*copied, error) {
			return fetch(ctx, s.client, source, last)
		}
	case strings.Contains(source, "://"):
		// not read as a file: the error would show it, and it may be a signed one
		return nil, errors.New("a URL must be a well-formed one, and https")
	default:
		s.read = func(context.Context, *copied) (*copied, error) {
			document, err := readFile(source)
			return &copied{Document: document}, err
		}
		if _, err := s.read(context.Background(), nil); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// CloseIdleConnections gives up the connections that nothing is using. A nil *Source has none.
func (s *Source) CloseIdleConnections() {
	if s != nil && s.client != nil {
		s.client.CloseIdleConnections()
	}
}

// readFile waits for whoever edits the file at this moment, which happens in place: a mix of the
// old text and the new one could read as a document that lacks an entry.
func readFile(name string) (*Document, error) {
	for range fileTries {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		if lockedByAnother(f) {
			f.Close()
			time.Sleep(fileRetry)
			continue
		}
		data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
		f.Close()
		if err != nil {
			return nil, err
		}
		return Parse(data)
	}
	return nil, errors.New("deny document: somebody has been editing the file all the time")
}

func fetch(ctx context.Context, client *http.Client, source string, last *copied) (*copied, error) {
	r, err := http.NewRequestWithContext(outgoing.WithSecondTry(ctx), http.MethodGet, source, nil)
	if err != nil {
		return nil, err
	}
	if last != nil && last.etag != "" {
		r.Header.Set("If-None-Match", last.etag)
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, outgoing.Redact(err) // the URL may be a signed one
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && last != nil {
		return &copied{Document: last.Document, etag: last.etag}, nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d", r.URL.Host, resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, outgoing.InBounds(r.URL.Host, err)
	}
	document, err := Parse(data)
	return &copied{Document: document, etag: resp.Header.Get("ETag")}, err
}
