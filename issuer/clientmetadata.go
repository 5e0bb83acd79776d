package issuer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Client ID Metadata Documents (draft-ietf-oauth-client-id-metadata-document): the client_id is an https URL, and the
// document there is the registration. Nothing is registered here, so there is nothing to keep.

const (
	documentMaxBody    = 5 << 10 // the draft's recommendation, §6.6
	documentTimeout    = 5 * time.Second
	documentMinAge     = time.Minute // bounds of what a document's own cache headers may ask for
	documentMaxAge     = 24 * time.Hour
	documentDefaultAge = time.Hour
	documentsAtATime   = 1000
	documentFetches    = 16 // at the same time, for all tenants
)

// metadataDocument is what is read of a document. Members not listed are ignored.
type metadataDocument struct {
	ClientID      string              `json:"client_id"`
	ClientName    string              `json:"client_name"`
	RedirectURIs  []string            `json:"redirect_uris"`
	AuthMethod    string              `json:"token_endpoint_auth_method"`
	AuthMethods   []string            `json:"token_endpoint_auth_methods_supported"`
	JWKS          *jose.JSONWebKeySet `json:"jwks"`
	JWKSURI       string              `json:"jwks_uri"`
	ClientSecret  *string             `json:"client_secret"`
	SecretExpires *json.Number        `json:"client_secret_expires_at"`
}

// checkDocumentURL is §3 of the draft, on the raw text: url.Parse forgives what a string comparison would not.
func checkDocumentURL(raw string) (*url.URL, error) {
	if len(raw) > maxClientID || strings.ContainsAny(raw, "#\\ \"<>") {
		return nil, errors.New("client_id: not a plain URL")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.Opaque != "":
		return nil, errors.New("client_id: not an https URL")
	case u.User != nil:
		return nil, errors.New("client_id: must not contain user information")
	case u.Path == "" || u.Path == "/":
		return nil, errors.New("client_id: must have a path")
	case u.RawPath != "" || slices.ContainsFunc(strings.Split(u.Path, "/"), func(s string) bool { return s == "." || s == ".." }):
		return nil, errors.New("client_id: must not contain dot segments or encoded characters")
	case strings.ToLower(u.Host) != u.Host || u.Port() == "443":
		return nil, errors.New("client_id: must be written in its plain form")
	}
	return u, checkAuthority(u)
}

// parseDocument is §4 of the draft: the document must name itself, hold no secret, and register what we would register.
func parseDocument(clientID string, body []byte) (registration, error) {
	var doc metadataDocument
	if err := json.Unmarshal(body, &doc); err != nil {
		return registration{}, errors.New("the document is not one JSON object of client metadata")
	}
	if doc.ClientID != clientID { // by simple string comparison
		return registration{}, errors.New("the document's client_id is not its URL")
	}
	if doc.ClientSecret != nil || doc.SecretExpires != nil {
		return registration{}, errors.New("the document holds a client_secret")
	}
	reg, err := newRegistration(ClientMetadata{RedirectURIs: doc.RedirectURIs, TokenEndpointAuthMethod: "none", ClientName: doc.ClientName})
	if err != nil {
		return registration{}, err
	}
	if reg.Name == "" {
		return registration{}, errors.New("the document has no client_name")
	}
	switch {
	case doc.AuthMethod == "none", doc.AuthMethod == "" && len(doc.AuthMethods) == 0:
	case doc.AuthMethod == "private_key_jwt", slices.Contains(doc.AuthMethods, "private_key_jwt"):
		reg.AuthMethod = authPrivateKeyJWT
		// Some clients prefer a key and allow to do without (OpenID Connect RP Metadata Choices). Who does without is
		// still bound by PKCE; the token endpoint takes either from such a client.
		reg.authOptional = slices.Contains(doc.AuthMethods, "none")
		if err := reg.takeKeys(doc, clientID); err != nil {
			return registration{}, err
		}
	case slices.Contains(doc.AuthMethods, "none"):
	default:
		return registration{}, errors.New("token_endpoint_auth_method: a public document can only use none or private_key_jwt")
	}
	return reg, nil
}

// takeKeys accepts public keys in the document, or a URL of them on the client_id's own host: a document must not make us ask others.
func (reg *registration) takeKeys(doc metadataDocument, clientID string) error {
	if (doc.JWKS == nil) == (doc.JWKSURI == "") {
		return errors.New("private_key_jwt needs either jwks or jwks_uri")
	}
	if doc.JWKS != nil {
		reg.keys = doc.JWKS
		return publicKeysOnly(doc.JWKS)
	}
	keys, err := checkDocumentURL(doc.JWKSURI)
	if err != nil || keys.Host != hostOf(clientID) {
		return errors.New("jwks_uri: must be an https URL on the host of the client_id")
	}
	reg.keysURL = doc.JWKSURI
	return nil
}

// documentClient is the registration at a client_id that is a URL.
func (s *Issuer) documentClient(ctx context.Context, clientID string) (registration, error) {
	if _, err := checkDocumentURL(clientID); err != nil {
		return registration{}, err
	}
	body, err := s.document(ctx, clientID, func(body []byte) error { _, err := parseDocument(clientID, body); return err })
	if err == nil {
		return parseDocument(clientID, body)
	}
	if reg, known := vendorRegistration(clientID); known {
		s.Log.Warn("client metadata document not available, what is known of this client serves instead", "url", clientID, "cause", err)
		return reg, nil
	}
	return registration{}, err
}

// documentCache maps a URL to what was last read there. Losing it costs a request.
type documentCache struct {
	mu    sync.Mutex // guards m for one map access; never held during a fetch
	m     map[string]*documentEntry
	slots chan struct{}
}

type documentEntry struct {
	mu      sync.Mutex // held while one request fetches; the others wait for its answer
	body    []byte     // of the last valid answer
	fetched time.Time
	until   time.Time
}

// document returns the body at a URL, fetched or from the cache. valid decides whether a body may be kept: errors and invalid documents
// never are. When a fetch fails, the last good copy serves on, for a day: vendors' documents are at times refused to data centres.
func (s *Issuer) document(ctx context.Context, rawURL string, valid func([]byte) error) ([]byte, error) {
	entry := s.documents.entry(rawURL)
	entry.mu.Lock()
	defer entry.mu.Unlock()
	now := s.Now()
	if entry.body != nil && now.Before(entry.until) {
		return entry.body, nil
	}
	body, age, err := s.fetchDocument(ctx, rawURL)
	if err == nil {
		err = valid(body)
	}
	if err == nil {
		entry.body, entry.fetched, entry.until = body, now, now.Add(age)
		return body, nil
	}
	if entry.body != nil && now.Before(entry.until.Add(documentMaxAge)) {
		s.Log.Warn("client metadata document not available, the last copy serves on", "url", rawURL, "cause", err)
		return entry.body, nil
	}
	return nil, err
}

// expire makes a document due again, unless it was fetched a moment ago; it says whether it did.
func (c *documentCache) expire(rawURL string, now time.Time, atLeast time.Duration) bool {
	entry := c.entry(rawURL)
	entry.mu.Lock()
	defer entry.mu.Unlock()
	if now.Sub(entry.fetched) < atLeast {
		return false
	}
	entry.until = now
	return true
}

func (c *documentCache) entry(rawURL string) *documentEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= documentsAtATime {
		c.m = make(map[string]*documentEntry)
	}
	if c.slots == nil {
		c.slots = make(chan struct{}, documentFetches)
	}
	entry, ok := c.m[rawURL]
	if !ok {
		entry = &documentEntry{}
		c.m[rawURL] = entry
	}
	return entry
}

// fetchDocument is §4.3 and §6 of the draft: GET, only 200 counts, no redirects, JSON, 5 KB, no special-use address.
func (s *Issuer) fetchDocument(ctx context.Context, rawURL string) ([]byte, time.Duration, error) {
	select {
	case s.documents.slots <- struct{}{}:
		defer func() { <-s.documents.slots }()
	default:
		return nil, 0, errors.New("too many documents are being fetched")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), documentTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.DocumentTransport.RoundTrip(req) // RoundTrip and not a Client: redirects are not followed
	if err != nil {
		return nil, 0, redactUpstream(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("the document's host answered %d", resp.StatusCode)
	}
	if mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || mediaType != "application/json" && !strings.HasSuffix(mediaType, "+json") {
		return nil, 0, errors.New("the document is not application/json")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, documentMaxBody+1))
	if err != nil {
		return nil, 0, errors.New("the document could not be read")
	}
	if len(body) > documentMaxBody {
		return nil, 0, fmt.Errorf("the document is longer than %d bytes", documentMaxBody)
	}
	return body, cacheAge(resp.Header), nil
}

// cacheAge is how long an answer may be kept (RFC 9111 §5.2.2), within our bounds.
func cacheAge(h http.Header) time.Duration {
	age := documentDefaultAge
	for _, directive := range strings.Split(strings.ToLower(h.Get("Cache-Control")), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch name {
		case "no-store", "no-cache":
			return documentMinAge
		case "max-age":
			if seconds, err := strconv.Atoi(strings.Trim(value, `"`)); err == nil {
				age = time.Duration(min(seconds, int(documentMaxAge/time.Second))) * time.Second
			}
		}
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
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConns:           32,
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
