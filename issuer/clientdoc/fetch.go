package clientdoc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"
)

// fetch follows §5 and §8 of the draft: GET, only 200 counts, no redirects, JSON, a length cap. It
// returns the body, and how long it may be kept.
func (f *Fetcher) fetch(ctx context.Context, rawURL string, limit int) ([]byte, time.Duration, error) {
	// A client that hangs up must not make it fail for the others that wait for the same document.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Timeout)
	defer cancel()
	unreadable := func(why string) ([]byte, time.Duration, error) {
		return nil, 0, fmt.Errorf("%w: %s", ErrUnreadable, why)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "identity") // without a word, any would do (RFC 9110 §12.5.3)
	req.Header.Set("User-Agent", "mcpbouncer")
	// RoundTrip and not a Client: redirects are not followed
	resp, err := f.Transport.RoundTrip(req)
	if err != nil {
		return nil, 0, whyNotReached(ctx, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, 0, fmt.Errorf("%w: its host answered %d", ErrWithdrawn, resp.StatusCode)
	default:
		return unreadable(fmt.Sprintf("its host answered %d", resp.StatusCode))
	}
	if mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || mediaType != "application/json" && !strings.HasSuffix(mediaType, "+json") {
		return unreadable("it is not application/json")
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return unreadable("it is compressed")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if err != nil {
		return nil, 0, whyNotReached(ctx, err)
	}
	if len(body) > limit {
		return unreadable(fmt.Sprintf("it is longer than %d bytes", limit))
	}
	return body, cacheAge(resp.Header, f.Now()), nil
}

// whyNotReached returns what an operator may read of a transport's error, because net/http quotes
// what a host has sent.
func whyNotReached(ctx context.Context, err error) error {
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var timeout net.Error
	why := "its host cannot be reached"
	switch {
	case errors.Is(err, errSpecialUse):
		why = errSpecialUse.Error()
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		// the whole fetch, or its dial or handshake
		return errSilent
	case errors.As(err, &dns):
		why = "its host has no address"
	case errors.As(err, &certificate):
		why = "its host has no valid certificate"
	}
	return fmt.Errorf("%w: %s", ErrUnreadable, why)
}
