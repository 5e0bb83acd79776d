package issuer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
)

// How client metadata documents, and the key sets that they name, are fetched and kept: draft-ietf-oauth-client-id-metadata-document-02 §5
// and §8. Anybody can name a URL in a client_id, so all of this is within a stranger's reach.

const (
	documentMaxBody    = 5 << 10  // the draft's recommendation, §8.7
	keysMaxBody        = 32 << 10 // of a jwks_uri: keys come with their certificates
	documentTimeout    = 5 * time.Second
	documentMinAge     = time.Minute // bounds of what a document's own cache headers may ask for
	documentMaxAge     = 24 * time.Hour
	documentDefaultAge = time.Hour
	documentStaleAge   = 24 * time.Hour   // how long the last good copy serves beyond its time
	documentRetry      = 30 * time.Second // between two attempts while there is a copy
	documentsAtATime   = 1000
	documentFetches    = 16               // at the same time, for all tenants
	documentReserve    = 4                // of them, for hosts that no stranger has chosen
	documentHostShare  = 4                // of them, for one host: ChatGPT's has a document for each connector
	documentHostPause  = 15 * time.Second // after a host has not answered in time
)

var (
	// errUnreadable says nothing about the client: its document may be as good as ever.
	errUnreadable = errors.New("the document cannot be read")
	// errWithdrawn is a host's word that there is no such document: no copy may outlive it.
	errWithdrawn = errors.New("there is no such document")
	// errSilent is a host that has kept one of the fetch places as long as it could.
	errSilent = fmt.Errorf("%w: its host did not answer in time", errUnreadable)
)

// documentKey names what is kept: what is a good document need not be a good key set.
type documentKey struct {
	url  string
	keys bool
}

// documentCache holds what was last read at a URL. Losing it costs a request.
type documentCache struct {
	mu      sync.Mutex // guards the maps for one access; never held during a fetch
	copies  map[documentKey]documentCopy
	flights map[documentKey]*documentFlight // fetches under way
	silent  map[string]time.Time            // hosts that did not answer in time → when they are asked again
}

type documentCopy struct {
	body  []byte    // of the last valid answer
	until time.Time // fresh until then
	tried time.Time // when it was last asked for, with or without success
}

// fresh is never said of a copy that was read when the clock was far ahead.
func (c documentCopy) fresh(now time.Time) bool {
	left := c.until.Sub(now)
	return left > 0 && left <= documentMaxAge
}

// documentFlight is a fetch that all who want the same document share, its failure too: one after the other they would
// each wait for a host that hangs.
type documentFlight struct {
	done chan struct{}
	body []byte
	err  error
}

// document returns the body at a URL, fetched or from the cache. valid decides whether a body may be kept: errors and invalid documents
// never are. When a fetch fails, the last good copy serves on, for a day: vendors' documents are at times refused to data centres.
func (s *Issuer) document(ctx context.Context, key documentKey, valid func([]byte) error) ([]byte, error) {
	cache, now := &s.documents, s.Now()
	cache.mu.Lock()
	kept, have := cache.copies[key]
	have = have && now.Before(kept.until.Add(documentStaleAge))
	if have && (kept.fresh(now) || now.Sub(kept.tried).Abs() < documentRetry) {
		cache.mu.Unlock()
		return kept.body, nil
	}
	flight, mine := cache.join(key, s.reservedHost(weburl.HostOf(key.url)), now)
	cache.mu.Unlock()
	if mine {
		s.fetchInto(ctx, flight, key, valid)
	}
	select {
	case <-flight.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: nobody waits for it any more", errUnreadable)
	}
	if flight.err != nil && have && !errors.Is(flight.err, errWithdrawn) {
		s.Log.Warn("client metadata document not available, the last copy serves on", "url", key.url, "cause", flight.err)
		return kept.body, nil
	}
	return flight.body, flight.err
}

// join returns the fetch of a document that is under way, or has no place, or else a new one, which the caller has to make.
func (c *documentCache) join(key documentKey, reserved bool, now time.Time) (flight *documentFlight, mine bool) {
	if flight, underWay := c.flights[key]; underWay {
		return flight, false
	}
	flight = &documentFlight{done: make(chan struct{}), err: c.noPlace(weburl.HostOf(key.url), reserved, now)}
	if flight.err != nil {
		close(flight.done)
		return flight, false
	}
	if c.flights == nil {
		c.flights, c.copies, c.silent = map[documentKey]*documentFlight{}, map[documentKey]documentCopy{}, map[string]time.Time{}
	}
	flight.err = errUnreadable
	c.flights[key] = flight
	return flight, true
}

// noPlace says why a host is not asked now; nil if it is. Strangers name the hosts: one of theirs gets few places, none for a while after
// it has hung, and never the last ones. Who sends a request does not count: all that is known of them is a header.
func (c *documentCache) noPlace(host string, reserved bool, now time.Time) error {
	places := documentFetches
	if !reserved {
		if left := c.silent[host].Sub(now); left > 0 && left <= documentHostPause {
			return fmt.Errorf("%w: its host did not answer in time a moment ago", errUnreadable)
		}
		places -= documentReserve
	}
	here := 0
	for key := range c.flights {
		if weburl.HostOf(key.url) == host {
			here++
		}
	}
	if len(c.flights) >= places || here >= documentHostShare {
		return fmt.Errorf("%w: too many are being fetched", errUnreadable)
	}
	return nil
}

// reservedHost says whether a host has places of its own: it is a well-known vendor's, or the operator trusts it.
func (s *Issuer) reservedHost(host string) bool {
	return isVendorHost(host) || slices.Contains(s.TrustedDocumentHosts, host) || slices.Contains(s.TrustedDocumentHosts, host+":443")
}

// fetchInto fetches, keeps what is good, and lets go of those who wait.
func (s *Issuer) fetchInto(ctx context.Context, flight *documentFlight, key documentKey, valid func([]byte) error) {
	cache := &s.documents
	defer func() {
		cache.mu.Lock()
		delete(cache.flights, key)
		cache.mu.Unlock()
		close(flight.done)
	}()
	limit := documentMaxBody
	if key.keys {
		limit = keysMaxBody
	}
	body, age, err := s.fetchDocument(ctx, key.url, limit)
	if err == nil {
		err = valid(body)
	}
	flight.body, flight.err = body, err
	now := s.Now()
	cache.mu.Lock()
	defer cache.mu.Unlock()
	kept, have := cache.copies[key]
	switch {
	case err == nil:
		for other := range cache.copies {
			if have || len(cache.copies) < documentsAtATime {
				break
			}
			delete(cache.copies, other) // any one: a flood of documents must not take all the others at once
		}
		cache.copies[key] = documentCopy{body, now.Add(age), now}
	case errors.Is(err, errWithdrawn):
		delete(cache.copies, key)
	case have:
		kept.tried = now
		cache.copies[key] = kept
	}
	if errors.Is(err, errSilent) {
		cache.pause(weburl.HostOf(key.url), now)
	}
}

// pause remembers that a host hung. It says nothing about any document.
func (c *documentCache) pause(host string, now time.Time) {
	maps.DeleteFunc(c.silent, func(_ string, until time.Time) bool { return !now.Before(until) })
	if len(c.silent) < documentsAtATime {
		c.silent[host] = now.Add(documentHostPause)
	}
}

// expire makes a document due again, unless it was asked for a moment ago; it says whether it did.
func (c *documentCache) expire(key documentKey, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, ok := c.copies[key]
	if !ok || now.Sub(kept.tried).Abs() < documentRetry {
		return false
	}
	if kept.fresh(now) { // never later: a copy must not outlive its day by being asked for
		kept.until = now
		c.copies[key] = kept
	}
	return true
}

// stale says whether the copy that serves is an old one, because a newer could not be had.
func (c *documentCache) stale(key documentKey, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, ok := c.copies[key]
	return ok && !kept.fresh(now)
}

// fetchDocument is §5 and §8 of the draft: GET, only 200 counts, no redirects, JSON, a length cap, no special-use address.
func (s *Issuer) fetchDocument(ctx context.Context, rawURL string, limit int) ([]byte, time.Duration, error) {
	// Who hangs up must not make it fail for those who wait with them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), documentTimeout)
	defer cancel()
	unreadable := func(why string) ([]byte, time.Duration, error) {
		return nil, 0, fmt.Errorf("%w: %s", errUnreadable, why)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "identity") // without a word, any would do (RFC 9110 §12.5.3)
	req.Header.Set("User-Agent", "mcpbouncer")
	resp, err := s.DocumentTransport.RoundTrip(req) // RoundTrip and not a Client: redirects are not followed
	if err != nil {
		return nil, 0, whyNotReached(ctx, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, 0, fmt.Errorf("%w: its host answered %d", errWithdrawn, resp.StatusCode)
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
	return body, cacheAge(resp.Header, s.Now()), nil
}

// whyNotReached is what the operator may read of a transport's error: net/http quotes what a host sent.
func whyNotReached(ctx context.Context, err error) error {
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var timeout net.Error
	why := "its host cannot be reached"
	switch {
	case errors.Is(err, errSpecialUse):
		why = errSpecialUse.Error()
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout(): // the whole fetch, or its dial or handshake
		return errSilent
	case errors.As(err, &dns):
		why = "its host has no address"
	case errors.As(err, &certificate):
		why = "its host has no valid certificate"
	}
	return fmt.Errorf("%w: %s", errUnreadable, why)
}

// cacheAge is how long an answer may be kept (RFC 9111 §4.2), within our bounds.
func cacheAge(h http.Header, now time.Time) time.Duration {
	age, explicit := documentDefaultAge, false
	for directive := range strings.SplitSeq(strings.ToLower(strings.Join(h.Values("Cache-Control"), ",")), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch name {
		case "no-store", "no-cache":
			return documentMinAge
		case "max-age":
			// §1.2.2: a number too large is a large one; what is no number is none at all.
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil && !errors.Is(err, strconv.ErrRange) {
				seconds = 0
			}
			age, explicit = time.Duration(seconds)*time.Second, true
		}
	}
	if expires := h.Get("Expires"); expires != "" && !explicit {
		date, err := http.ParseTime(h.Get("Date"))
		if err != nil {
			date = now
		}
		at, err := http.ParseTime(expires)
		if err != nil {
			at = date // §5.3: what is no date is in the past
		}
		age, explicit = at.Sub(date), true
	}
	if seconds, err := strconv.ParseUint(h.Get("Age"), 10, 31); err == nil && explicit {
		age -= time.Duration(seconds) * time.Second
	}
	return min(max(age, documentMinAge), documentMaxAge)
}

// newDocumentTransport checks the address that is actually dialled. Hosts that the operator trusts may have any.
func newDocumentTransport(trusted []string) http.RoundTripper {
	t := &http.Transport{
		Proxy:                  nil, // a proxy would do the dialling, unchecked
		DisableCompression:     true,
		TLSHandshakeTimeout:    documentTimeout,
		MaxResponseHeaderBytes: 16 << 10,
		// A kept connection may be dead after a function's sleep and hang the next fetch; and what a stranger's host sends on one without being
		// asked, net/http writes to the log.
		DisableKeepAlives: true,
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialer := &net.Dialer{Timeout: documentTimeout}
		if !slices.Contains(trusted, address) {
			dialer.Control = func(_, address string, _ syscall.RawConn) error {
				addr, err := netip.ParseAddrPort(address)
				if err != nil {
					return errSpecialUse
				}
				return checkPublicAddress(addr.Addr())
			}
		}
		return dialer.DialContext(ctx, network, address)
	}
	return t
}
