package issuer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// DenyDocument says what is refused although it was sealed or signed here: the only list of
// revocations that there is without a store. Operators keep it (mcpbouncer deny); every replica
// reads it, and the plugin is told its tenant's part.
type DenyDocument struct {
	Version int `json:"v"` // 1
	// one more with each change; a copy with a smaller one is an old copy
	Serial int64 `json:"serial"`
	// :: "*" or a public URL → logins that began earlier are over
	NotBefore map[string]time.Time `json:"notBefore,omitzero"`
	Clients   DenyEntries          `json:"clients,omitzero"` // fingerprints of client_ids
	// provider's issuer, "|", sub
	Users DenyEntries `json:"users,omitzero"`
	// logins, as the log names them
	Families      DenyEntries `json:"families,omitzero"`
	RedirectHosts DenyEntries `json:"redirectHosts,omitzero"` // with everything below them
	Keys          DenyEntries `json:"keys,omitzero"`          // ids of bearer keys
}

// DenyEntries maps what is denied to until when; the zero time is for ever.
type DenyEntries map[string]DenyUntil

// DenyUntil is a time in JSON; no time at all is "".
type DenyUntil struct{ time.Time }

// MarshalJSON is for the encoder.
func (u DenyUntil) MarshalJSON() ([]byte, error) {
	if u.IsZero() {
		return []byte(`""`), nil
	}
	return u.Time.MarshalJSON()
}

// UnmarshalJSON is for the decoder.
func (u *DenyUntil) UnmarshalJSON(b []byte) error {
	if string(b) == `""` {
		u.Time = time.Time{}
		return nil
	}
	return u.Time.UnmarshalJSON(b)
}

const (
	maxDenyDocument = 1 << 20 // bytes
	maxDenyEntries  = 10_000
	// bytes of one. Lengths stand in no pattern of this package: {1,800} would cost each start
	// milliseconds.
	maxDenyEntry  = 800
	denyMaxAge    = 30 * time.Second
	denyPatience  = time.Minute // nobody is judged by a copy that was not asked about for so long
	denyTimeout   = 3 * time.Second
	denyRetry     = 2 * time.Second       // while there is no copy at all
	denyFileRetry = 20 * time.Millisecond // while somebody edits the file
	denyFileTries = 10
)

var (
	denyFingerprint = regexp.MustCompile(`^[A-Za-z0-9_-]{16}$`)
	denyFamily      = regexp.MustCompile(`^[A-Za-z0-9_-]{22}$`)
	denyUser        = regexp.MustCompile(`^https?://[^| ]+\|[^\x00-\x1f]+$`)
	denyHost        = regexp.MustCompile(`^[a-z0-9+_-]+(\.[a-z0-9+_-]+)*$`)
	denyKey         = regexp.MustCompile(`^[A-Za-z0-9._~-]+$`)
)

// lists are the document's lists with their JSON names and what an entry looks like.
func (d *DenyDocument) lists() []denyKind {
	return []denyKind{
		{"clients", &d.Clients, denyFingerprint.MatchString}, {"users", &d.Users, denyUser.MatchString}, {"families", &d.Families, denyFamily.MatchString},
		{"redirectHosts", &d.RedirectHosts, isDenyHost}, {"keys", &d.Keys, denyKey.MatchString},
	}
}

// isDenyHost takes what can be a redirect URI's host, or its scheme: no port.
func isDenyHost(entry string) bool {
	_, err := netip.ParseAddr(entry)
	return denyHost.MatchString(entry) || err == nil
}

// DenyHost writes a host as entries of redirectHosts are, or says what to write instead.
func DenyHost(text string) (string, error) {
	host := strings.TrimSuffix(strings.ToLower(text), ".")
	if u, err := url.Parse(text); err == nil && u.Host != "" {
		return "", fmt.Errorf("%q is a URI: give its host, %s", text, plainHostOf(u))
	}
	if ip, isIP := redirecturi.BrowserIP(host); isIP {
		if !ip.IsValid() {
			if name, _, err := net.SplitHostPort(host); err == nil {
				return "", fmt.Errorf("%q has a port: an entry is for all ports of %s", text, name)
			}
			return "", fmt.Errorf("%q is not an address that browsers open", text)
		}
		return ip.String(), nil
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r > '~' }) {
		return "", fmt.Errorf("%q must be written as in redirect URIs: in ASCII, as xn--…", text)
	}
	if strings.ContainsAny(host, "*%") {
		return "", fmt.Errorf("%q must be a plain name; it denies all hosts below it as well", text)
	}
	return host, nil
}

type denyKind struct {
	name    string
	entries *DenyEntries
	looks   func(entry string) bool
}

// ParseDenyDocument is strict: a word misspelt in it would deny nothing, and nobody would notice.
func ParseDenyDocument(data []byte) (*DenyDocument, error) {
	if len(data) > maxDenyDocument {
		return nil, fmt.Errorf("deny document: larger than %d bytes", maxDenyDocument)
	}
	// go-jose's decoder refuses repeated members, and compares names to the byte
	var members map[string]json.RawMessage
	d := &DenyDocument{}
	if json.Unmarshal(data, &members) != nil || json.Unmarshal(data, d) != nil {
		return nil, errors.New("deny document: not a JSON object of this form, or a repeated member")
	}
	known := []string{"v", "serial", "notBefore"}
	for _, kind := range d.lists() {
		known = append(known, kind.name)
	}
	for name := range members {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("deny document: unknown member %q", name)
		}
	}
	return d, d.Check()
}

// Check says what is wrong with a document. Its errors name the entry.
func (d *DenyDocument) Check() error {
	if d.Version != 1 {
		return errors.New("deny document: v must be 1")
	}
	entries := len(d.NotBefore)
	for who, at := range d.NotBefore {
		// a URL in another form is no tenant's, and the mark would end nothing
		if who != "*" && !writtenAsIssuer(who) {
			return fmt.Errorf("deny document: notBefore: %q is neither * nor a public URL as \"issuer\" of the server's metadata writes it: no slash at its end, host in small letters, no default port, no query", who)
		}
		if at.IsZero() {
			return fmt.Errorf("deny document: notBefore: %q has no time", who)
		}
	}
	for _, kind := range d.lists() {
		entries += len(*kind.entries)
		for entry := range *kind.entries {
			if len(entry) > maxDenyEntry || !kind.looks(entry) {
				return fmt.Errorf("deny document: %s: %q cannot be one", kind.name, entry)
			}
		}
	}
	if entries > maxDenyEntries {
		return fmt.Errorf("deny document: more than %d entries; mcpbouncer deny prune removes those that are over", maxDenyEntries)
	}
	return nil
}

// Ineffective says why an entry of the document can deny nothing at all, in words for the operator,
// or nothing. list is the JSON name of the entry's list. Unlike what Check refuses, such an entry
// hides no other one, so a document that holds it is taken, and the log names it.
func (d *DenyDocument) Ineffective(list, entry string) string {
	switch ip, isIP := redirecturi.BrowserIP(entry); {
	case list == "notBefore" && strings.HasPrefix(entry, "http:"):
		if u, err := url.Parse(entry); err != nil || !weburl.IsLocalHTTP(u) {
			return "no server has a public URL with http, other than on localhost"
		}
	case list == "keys" && strings.HasPrefix(entry, "mbb1_"):
		return "this is the key itself, which must not stand in a list: give its key_id, which mcpbouncer key create printed and the log has as \"family\""
	case list == "keys" && !isID(entry):
		return "a key_id has 22 characters: mcpbouncer key create printed it, and the log has it as \"family\""
	case list == "families" && !isID(entry):
		return "this is not the whole name of a login: copy \"family\" from the log, or \"sid\" from an access token"
	case list == "redirectHosts" && isIP && !ip.IsValid():
		return "browsers open no such address"
	}
	return ""
}

// isID says whether a text is 16 bytes as ids are written: the last of 22 characters has two bits.
func isID(text string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(b) == 16
}

// ineffective names all entries of that kind.
func (d *DenyDocument) ineffective() (named []string) {
	add := func(list, entry string) {
		if why := d.Ineffective(list, entry); why != "" {
			if strings.HasPrefix(entry, "mbb1_") {
				entry = entry[:8] + "…" // a secret
			}
			named = append(named, fmt.Sprintf("%s: %q: %s", list, entry, why))
		}
	}
	for who := range d.NotBefore {
		add("notBefore", who)
	}
	for _, kind := range d.lists() {
		for entry := range *kind.entries {
			add(kind.name, entry)
		}
	}
	slices.Sort(named)
	return named[:min(len(named), 20)]
}

// writtenAsIssuer says whether a public URL has the one form that the plugin gives it.
func writtenAsIssuer(publicURL string) bool {
	u, err := url.Parse(publicURL)
	return err == nil && (u.Scheme == "https" && u.Port() != "443" || u.Scheme == "http" && u.Port() != "80") &&
		u.Host != "" && u.Host == strings.ToLower(u.Host) && u.User == nil && !strings.HasSuffix(publicURL, "/") && !strings.ContainsAny(publicURL, "?#")
}

// Prune removes the entries that are over, and says how many. Marks stay: a bearer key may be older
// than any of them.
func (d *DenyDocument) Prune(now time.Time) (removed int) {
	for _, kind := range d.lists() {
		for entry, until := range *kind.entries {
			if until.over(now) {
				delete(*kind.entries, entry)
				removed++
			}
		}
	}
	return removed
}

func (u DenyUntil) over(now time.Time) bool { return !u.IsZero() && !now.Before(u.Time) }

func (e DenyEntries) has(entry string, now time.Time) bool {
	until, ok := e[entry]
	return ok && !until.over(now)
}

// notBefore is the mark of a tenant, in Unix seconds: its own or that for all, whichever is later.
// Births are whole seconds, so a mark within one means those of that second too.
func (d *DenyDocument) notBefore(publicURL string) int64 {
	mark := int64(0)
	for _, who := range []string{"*", publicURL} {
		if at, ok := d.NotBefore[who]; ok {
			mark = max(mark, at.Add(time.Second-1).Unix())
		}
	}
	return mark
}

// DenyList is a deny document in the place where the operator keeps it. It is read when a request
// needs it and the copy is older than denyMaxAge: nothing runs between requests. A nil *DenyList
// denies nothing.
type DenyList struct {
	read    func(context.Context, *denyCopy) (*denyCopy, error)
	client  *http.Client             // nil: it is not read over the network
	current atomic.Pointer[denyCopy] // nil until the first success

	mu       sync.Mutex // held while one request reads
	failedAt time.Time
	err      error
}

type denyCopy struct {
	*DenyDocument
	etag   string
	readAt time.Time
}

// OpenDenyList takes a file path, an https URL or the document itself. A file and a text are read
// at once, so that a mistake shows when the program starts. A URL is not: until it was read once,
// everything that the document could deny is refused.
func OpenDenyList(source string, transport http.RoundTripper) (*DenyList, error) {
	l := &DenyList{}
	switch u, err := url.Parse(source); {
	case strings.HasPrefix(strings.TrimSpace(source), "{"):
		document, err := ParseDenyDocument([]byte(source))
		if err != nil {
			return nil, err
		}
		l.read = func(context.Context, *denyCopy) (*denyCopy, error) { return &denyCopy{DenyDocument: document}, nil }
	case err == nil && (u.Scheme == "https" && u.Host != "" || weburl.IsLocalHTTP(u)):
		if transport == nil {
			transport = http.DefaultTransport
		}
		l.client = outgoing.NewClient(transport, denyTimeout)
		l.read = func(ctx context.Context, last *denyCopy) (*denyCopy, error) {
			return fetchDeny(ctx, l.client, source, last)
		}
	case strings.Contains(source, "://"):
		// not read as a file: the error would show it, and it may be a signed one
		return nil, errors.New("a URL must be a well-formed one, and https")
	default:
		l.read = func(context.Context, *denyCopy) (*denyCopy, error) {
			document, err := readDenyFile(source)
			return &denyCopy{DenyDocument: document}, err
		}
		if _, err := l.read(context.Background(), nil); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// CloseIdleConnections is Issuer's. A nil *DenyList has none.
func (l *DenyList) CloseIdleConnections() {
	if l != nil && l.client != nil {
		l.client.CloseIdleConnections()
	}
}

// readDenyFile waits for whoever edits the file at this moment, which happens in place: a mix of
// the old text and the new one could read as a document that lacks an entry.
func readDenyFile(name string) (*DenyDocument, error) {
	for range denyFileTries {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		if lockedByAnother(f) {
			f.Close()
			time.Sleep(denyFileRetry)
			continue
		}
		data, err := io.ReadAll(io.LimitReader(f, maxDenyDocument+1))
		f.Close()
		if err != nil {
			return nil, err
		}
		return ParseDenyDocument(data)
	}
	return nil, errors.New("deny document: somebody has been editing the file all the time")
}

func fetchDeny(ctx context.Context, client *http.Client, source string, last *denyCopy) (*denyCopy, error) {
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
		return &denyCopy{DenyDocument: last.DenyDocument, etag: last.etag}, nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d", r.URL.Host, resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDenyDocument+1))
	if err != nil {
		return nil, outgoing.InBounds(r.URL.Host, err)
	}
	document, err := ParseDenyDocument(data)
	return &denyCopy{DenyDocument: document, etag: resp.Header.Get("ETag")}, err
}

var nothingDenied DenyDocument

// denyDocument is the current document. One request reads it again when it is due; meanwhile the
// others have the copy, unless that is older than denyPatience, and when it cannot be read all have
// it, however old: dropping it would let in again whom it keeps out. Without any copy nobody is
// served.
func (s *Issuer) denyDocument(ctx context.Context) (*DenyDocument, error) {
	l := s.Deny
	if l == nil {
		return &nothingDenied, nil
	}
	now := s.Now()
	last := l.current.Load()
	age := time.Duration(math.MaxInt64)
	if last != nil {
		age = now.Sub(last.readAt).Abs()
	}
	switch {
	case age < denyMaxAge:
		return last.DenyDocument, nil
	case age >= denyPatience:
		// nobody asked for a while: the copy of last evening judges no request of this morning
		l.mu.Lock()
	case !l.mu.TryLock():
		return last.DenyDocument, nil
	}
	defer l.mu.Unlock()
	// again: those who waited share the failure that they waited for, or a place that hangs would
	// make each wait for the one before
	now = s.Now()
	if c := l.current.Load(); c != last {
		return c.DenyDocument, nil // somebody else was faster
	}
	if last == nil && l.err != nil && now.Sub(l.failedAt).Abs() < denyRetry {
		return nil, l.err
	}
	// A client that hangs up must not make this fail for those who wait.
	next, err := l.read(context.WithoutCancel(ctx), last)
	if err == nil && last != nil && next.Serial < last.Serial {
		err = fmt.Errorf("deny document: its serial went back from %d to %d", last.Serial, next.Serial)
	}
	if err != nil {
		s.counters.add(denyFailures)
		s.Log.Error("the deny document cannot be read", "older copy", last != nil, "cause", err)
		if last == nil {
			l.err, l.failedAt = temporarilyUnavailable("this server cannot read its list of revocations", err), s.Now()
			return nil, l.err
		}
		next = &denyCopy{DenyDocument: last.DenyDocument, etag: last.etag}
	} else if last == nil || next.Serial != last.Serial {
		s.denyDocumentRead(next.DenyDocument)
	}
	next.readAt = now
	l.current.Store(next)
	return next.DenyDocument, nil
}

// denyDocumentRead is the operator's record that an edit has arrived, and of what in it does
// nothing.
func (s *Issuer) denyDocumentRead(d *DenyDocument) {
	s.Log.Info("deny document read", "serial", d.Serial)
	for _, entry := range d.ineffective() {
		s.Log.Warn("an entry of the deny document can deny nothing; take it out and deny what was meant", "entry", entry)
	}
}

// errDenied is in the chain of every refusal because of the deny document.
var errDenied = errors.New("deny document")

// clientDenied is for wherever a client is known.
func (s *Issuer) clientDenied(ctx context.Context, clientID string) error {
	d, err := s.denyDocument(ctx)
	if err != nil || len(d.Clients) == 0 {
		return err
	}
	if fingerprint := sealing.Fingerprint(clientID); d.Clients.has(fingerprint, s.Now()) {
		return (&Error{Status: http.StatusUnauthorized, Code: "invalid_client", Description: "This application is not served here any more."}).
			because(fmt.Errorf("%w: client %s", errDenied, fingerprint))
	}
	return nil
}

// redirectDenied is for where a person is asked about a redirect URI, and where a code that went
// there is redeemed. An entry denies its host and all below it; of a private-use scheme also the
// scheme.
func (s *Issuer) redirectDenied(ctx context.Context, redirectURI string) error {
	d, err := s.denyDocument(ctx)
	if err != nil || len(d.RedirectHosts) == 0 {
		return err
	}
	u, err := url.Parse(redirectURI)
	if err != nil {
		return err // no redirect URI that was accepted
	}
	denied := !weburl.IsWeb(redirectURI) && d.RedirectHosts.has(strings.ToLower(u.Scheme), s.Now())
	for host := plainHostOf(u); host != ""; _, host, _ = strings.Cut(host, ".") {
		denied = denied || d.RedirectHosts.has(host, s.Now())
	}
	// Registrations from before redirect URIs were held to one spelling are still good.
	if ip, isIP := redirecturi.BrowserIP(plainHostOf(u)); isIP {
		for entry := range d.RedirectHosts {
			other, isIP := redirecturi.BrowserIP(entry)
			denied = denied || isIP && other == ip && d.RedirectHosts.has(entry, s.Now())
		}
	}
	if !denied {
		return nil
	}
	return (&Error{Status: http.StatusForbidden, Code: "access_denied", Description: "Applications at this address are not served here any more."}).
		because(fmt.Errorf("%w: redirect host %s", errDenied, weburl.HostOf(redirectURI)))
}

// plainHostOf is the host of a redirect URI, without what leads to the same place without it: a
// port, capitals and the dot of a fully qualified name.
func plainHostOf(u *url.URL) string {
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
}

// loginDenied is for wherever a login earns a token. Marks are compared with its birth: compared
// with a token's age, a thief who refreshes would outrun them. A machine with a denied user's
// subject is that user to the MCP server, and to the plugin, so it is denied too.
func (s *Issuer) loginDenied(ctx context.Context, t *tenant, g grant) error {
	d, err := s.denyDocument(ctx)
	if err != nil {
		return err
	}
	because := ""
	switch {
	case g.Born < d.notBefore(t.PublicURL):
		because = "notBefore"
	case d.Families.has(g.familyName(), s.Now()):
		because = "family"
	case len(g.Client) > 0 && d.Clients.has(base64.RawURLEncoding.EncodeToString(g.Client), s.Now()):
		because = "client" // that it began with
	case len(d.Users) > 0 && slices.ContainsFunc(usersOf(t), func(prefix string) bool { return d.Users.has(prefix+g.Identity.Subject, s.Now()) }):
		because = "user"
	default:
		return nil
	}
	return invalidGrant("this login was ended by the operator; authorize again").because(fmt.Errorf("%w: %s", errDenied, because))
}

// usersOf are what entries of the tenant's users begin with. A slash at the end of a provider's
// issuer is easily forgotten or added, and the person would not be denied.
func usersOf(t *tenant) []string {
	issuer := strings.TrimSuffix(t.ProviderIssuer, "/")
	return []string{issuer + "|", issuer + "/|"}
}

// keyDenied is for where a bearer key earns a token.
func (s *Issuer) keyDenied(ctx context.Context, id string) error {
	d, err := s.denyDocument(ctx)
	if err != nil {
		return err
	}
	if d.Keys.has(id, s.Now()) {
		return invalidGrant("this key is not accepted any more").because(fmt.Errorf("%w: key %s", errDenied, id))
	}
	return nil
}

// tenantDeny is what of the document concerns one tenant (docs/hop.md).
type tenantDeny struct {
	Version   int      `json:"v"`
	Serial    int64    `json:"serial"`
	NotBefore int64    `json:"notBefore"`
	Clients   []string `json:"clients"`
	Users     []string `json:"users"`
	Families  []string `json:"families"`
	Keys      []string `json:"keys"`
}

// hopDeny tells the plugin what it must not let pass until it expires by itself.
func (s *Issuer) hopDeny(w http.ResponseWriter, r *http.Request, t *tenant) error {
	d, err := s.denyDocument(r.Context())
	if err != nil {
		return err
	}
	now := s.Now()
	list := func(entries DenyEntries, prefixes ...string) []string {
		found := []string{} // not null in JSON
		for entry := range entries {
			for _, prefix := range prefixes {
				if rest, ok := strings.CutPrefix(entry, prefix); ok && entries.has(entry, now) {
					found = append(found, rest)
				}
			}
		}
		slices.Sort(found)
		return slices.Compact(found)
	}
	body := must(json.Marshal(tenantDeny{
		Version: 1, Serial: d.Serial, NotBefore: d.notBefore(t.PublicURL),
		Clients: list(d.Clients, ""), Users: list(d.Users, usersOf(t)...), Families: list(d.Families, ""), Keys: list(d.Keys, ""),
	}))
	sum := sha256.Sum256(body)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	writeBody(w, http.StatusOK, "application/json", body)
	return nil
}
