package issuer

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/plugin/dpop"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const (
	hopHeader    = "X-Mcpb-Hop"
	reasonHeader = "X-Mcpb-Reason" // of a refusal, sealed for the plugin

	// MarkHeader is on every answer of the sidecar: sealing.Hop's mark if the request had a hop
	// header that is served, else UnboundMark. The plugin passes on nothing that does not bear the
	// mark of its header.
	MarkHeader  = "X-Mcpb-Sidecar"
	UnboundMark = "1"
)

// hopVersion is the version of the payload that is understood here. docs/hop.md says what raises
// it.
const hopVersion = "1"

// openedHop is what a hop header says: whom the sidecar serves, and the mark of the answer.
type openedHop struct {
	tenant   *tenant
	mark     []string // a header's value
	issuedAt time.Time
}

// openHop returns the tenant that the plugin speaks for. It remembers opened headers: the plugin
// sends the same one for some seconds. late says that the request may come from a middleware that
// Traefik has replaced. The error is a *refusal.
func (s *Issuer) openHop(value string, late bool) (openedHop, error) {
	now := s.Now()
	if known, ok := s.hops.get(value, now); ok {
		return known, nil
	}
	hop, err := s.Ring.OpenHop(value, now)
	if hop == nil {
		return openedHop{}, s.strangeHop(value)
	}
	age := now.Sub(hop.IssuedAt).Truncate(time.Second)
	if err != nil {
		return openedHop{}, (&refusal{reason: fmt.Sprintf("clock %d", age/time.Second), cause: clocksDiffer(age), kind: "clock"}).sealFor(hop)
	}
	t, err := parseTenant(hop.Payload)
	if err != nil {
		var r *refusal
		errors.As(err, &r)
		return openedHop{}, r.sealFor(hop)
	}
	if t.DPoP != dpopOff {
		t.nonces = dpop.NewNonces(s.Ring.DPoPNonceKeys(hop, t.PublicURL)...)
	}
	if t.upstream.On {
		t.hop = hop
	}
	t.now = s.Now
	if age > hopDrift+hopReuse || age < -hopDrift {
		s.warnOfDrift(age)
	}
	opened := openedHop{t, []string{hop.Mark()}, hop.IssuedAt}
	if late && s.met.has(t) {
		// Told as a change, labels of a moment ago would be the log's last word. The header is not
		// remembered, so that a request of a person with it is still told.
		return opened, nil
	}
	s.hops.put(value, opened, now)
	s.announce(t)
	s.announceKey()
	return opened, nil
}

const (
	// hopReuse is how long the plugin sends one header.
	hopReuse = 20 * time.Second
	// hopDrift is how far clocks may differ without a warning. From sealing.Skew on, the header is
	// refused.
	hopDrift = 2 * time.Minute
)

func (s *Issuer) warnOfDrift(age time.Duration) {
	if s.hopLines.allow("drift", s.Now(), 10*time.Minute) {
		s.Log.Warn("clocks differ", "cause", clocksDiffer(age)+"; from 5 minutes on the sidecar refuses all requests")
	}
}

func clocksDiffer(age time.Duration) string {
	if age < 0 {
		return fmt.Sprintf("hop header made %d s in the future: the clock of Traefik is ahead of the sidecar's; set both", -age/time.Second)
	}
	return fmt.Sprintf("hop header made %d s ago: the clock of Traefik is behind the sidecar's; set both", age/time.Second)
}

// strangeHop says for the log what is wrong with a header that does not authenticate. The header
// has key id and time in clear, so that an operator whose plugin has another key need not guess.
func (s *Issuer) strangeHop(value string) *refusal {
	id, issuedAt, err := sealing.ReadHop(value)
	mine := s.Ring.HopKeyIDs()
	switch {
	case value == "":
		return &refusal{kind: "missing", cause: "no hop header: whoever asks is not the plugin"}
	case err != nil:
		return &refusal{kind: "malformed", cause: "a hop header that is malformed, or of another format"}
	case slices.Contains(mine, id):
		return &refusal{kind: "forged", cause: "a hop header that was changed, or is forged (key id " + id + ")"}
	}
	return &refusal{kind: "key " + id, cause: fmt.Sprintf("hop header of another master (key id %s; mine: %s; made at %s): give Traefik this sidecar's BOUNCER_HOP_KEY",
		id, strings.Join(mine, ", "), issuedAt.UTC().Format(time.RFC3339))}
}

// refusal is why a hop header that authenticated is not served.
type refusal struct {
	// reason is what the plugin is told: a word of docs/hop.md, and what it is about.
	reason string
	// cause is for the sidecar's log.
	cause string
	// kind is what is logged once in ten seconds. Empty: cause.
	kind string
	// sealed is the reason, for the plugin that made the header. Empty: the header did not
	// authenticate.
	sealed string
}

func (r *refusal) sealFor(hop *sealing.Hop) *refusal {
	r.sealed = hop.SealReason(r.reason)
	return r
}

// word is the refusal in the metrics: the first word of the reason, or of what is logged once.
func (r *refusal) word() string {
	word, _, _ := strings.Cut(cmp.Or(r.reason, r.kind), " ")
	return word
}

func (r *refusal) Error() string { return r.cause }

// badValue refuses the value of a member that is known.
func badValue(member, what string) error {
	return &refusal{reason: "value " + member, cause: "label " + member + ": " + what}
}

// parseTenant reads the payload of a hop header. Its errors are a *refusal.
func parseTenant(payload []byte) (*tenant, error) {
	t := &tenant{sum: sha256.Sum256(payload)}
	if err := decodeTenant(payload, t); err != nil {
		return nil, err
	}
	if err := t.complete(); err != nil {
		return nil, err
	}
	return t, nil
}

// decodeTenant reads the payload: each member at most once, spelt exactly, and none that is unknown
// here. A member that the operator has set must not be ignored: an access rule would open.
// go-jose's decoder refuses repeated members and compares names to the byte. A payload without v
// comes from a plugin that sent every member.
func decodeTenant(payload []byte, t *tenant) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(payload, &members); err != nil || members == nil {
		return &refusal{reason: "value", cause: "the configuration is not a JSON object, or a member is repeated"}
	}
	if v, ok := members["v"]; ok && string(v) != hopVersion {
		return &refusal{reason: "version " + hopVersion, cause: "the plugin speaks another version of the hop than " + hopVersion + ": upgrade the sidecar first, then the plugin"}
	}
	delete(members, "v")
	if err := unknownLabels(members); err != nil {
		return err
	}
	fields := reflect.ValueOf(t).Elem()
	for _, m := range hopMembers() {
		name := m.name
		text, sent := members[name]
		switch {
		case !sent && m.standard == nil:
			return badValue(name, "missing")
		case !sent && m.value.IsValid():
			fields.Field(m.field).Set(m.value)
			continue
		case !sent:
			text = m.standard
		case string(text) == "null":
			return badValue(name, "null")
		case string(text) == `""` && (m.standard == nil || name == "audience"):
			return badValue(name, "must not be empty")
		}
		if err := json.Unmarshal(text, fields.Field(m.field).Addr().Interface()); err != nil {
			return badValue(name, "of another type")
		}
	}
	if t.Audience == "" {
		t.Audience = t.Resource
	}
	return nil
}

// unknownLabels names a member that is not known here: a label of a later version, which is set.
// One name is enough to see what is to be done.
func unknownLabels(members map[string]json.RawMessage) error {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !slices.ContainsFunc(hopMembers(), func(m hopMember) bool { return m.name == name }) {
			return &refusal{
				reason: "label " + name[:min(len(name), 100)],
				cause:  fmt.Sprintf("label %.100q is not known to this version of the sidecar: upgrade the sidecar first, then the plugin", name),
			}
		}
	}
	return nil
}

type hopMember struct {
	name string
	// field is its index in tenant.
	field int
	// standard is its default; nil: the member must be sent.
	standard json.RawMessage
	// value is the default, read once: most members are at theirs in most tenants. It is not valid
	// where tenants must not share it, because it is a list with elements.
	value reflect.Value
}

// hopMembers are the members of the payload, in the order of tenant's fields. They are not made
// when the program starts: a cold start on AWS Lambda counts each byte.
var hopMembers = sync.OnceValue(func() (members []hopMember) {
	for f := range reflect.TypeFor[tenant]().Fields() {
		if name, ok := f.Tag.Lookup("json"); ok {
			m := hopMember{name: name, field: f.Index[0]}
			if standard, ok := f.Tag.Lookup("default"); ok {
				if f.Type.Kind() == reflect.String {
					standard = strconv.Quote(standard)
				}
				m.standard = json.RawMessage(standard)
				value := reflect.New(f.Type)
				if json.Unmarshal(m.standard, value.Interface()) == nil && (f.Type.Kind() != reflect.Slice || value.Elem().Len() == 0) {
					m.value = value.Elem()
				}
			}
			members = append(members, m)
		}
	}
	return members
})

// ownAuthorization is a client's Authorization header, where AWS's signature of the plugin stands
// in its place (docs/hop.md).
const ownAuthorization = "X-Mcpb-Authorization"

// restoreAuthorization puts it back. A client that writes both headers itself gains nothing: each
// says only what the client says of itself.
func restoreAuthorization(h http.Header) {
	if strings.HasPrefix(h.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		delete(h, "Authorization")
		if own := h[ownAuthorization]; own != nil {
			h["Authorization"] = own
		}
	}
}

// comesLate says whether the plugin asks this by itself: a middleware that was replaced does so for
// its last figures, and for streams that are open.
func comesLate(path string) bool { return path == "/hop/figures" || path == "/hop/deny" }

// pluginRoutes are for the plugin itself, which forwards no client to them.
func (s *Issuer) pluginRoutes() []route {
	return []route{
		{"/hop/token", "POST", false, s.exchangeKey},
		{"/hop/assertion", "POST", false, s.assertToBackend},
		{"/hop/deny", "GET", false, s.hopDeny},
		{"/hop/figures", "POST", false, s.takeFigures},
	}
}

// refuseHop answers a request that does not come from the plugin, and says nothing more: the
// sidecar may stand on a public address. The reason for the plugin is sealed.
func (s *Issuer) refuseHop(w http.ResponseWriter, r *http.Request, err error) {
	var refused *refusal
	errors.As(err, &refused)
	s.Metrics.HopRefused(refused.word())
	h := w.Header()
	h[hopHeader] = refusedHop
	h[MarkHeader] = unboundMark
	h["Cache-Control"] = noStore
	if refused.sealed != "" {
		h.Set(reasonHeader, refused.sealed)
	}
	writeBody(w, http.StatusForbidden, jsonType, []byte(`{"error":"forbidden"}`))

	// Strangers cause the lines about what does not authenticate: they have a limit of their own.
	lines := &s.hopLines
	if refused.sealed == "" {
		lines = &s.strangerLines
	}
	if lines.allow(cmp.Or(refused.kind, refused.cause), s.Now(), 10*time.Second) {
		s.record(audit.HopRefused, about{}, "cause", refused.cause, "remote", remoteIP(r))
	}
}

// lineLimit keeps strangers from filling the log. The zero value is ready.
type lineLimit struct {
	mu    sync.Mutex // guards lines for one allow
	lines map[string]lineTime
}

type lineTime struct {
	at     time.Time
	period time.Duration
}

// maxLines is how many kinds of line are written within their periods.
const maxLines = 16

// allow says whether a line of this kind may be written: once in each period, and not while too
// many others were.
func (l *lineLimit) allow(kind string, now time.Time, period time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A clock that was set back must not silence the log.
	maps.DeleteFunc(l.lines, func(_ string, line lineTime) bool {
		age := now.Sub(line.at)
		return age < 0 || age >= line.period
	})
	if _, written := l.lines[kind]; written || len(l.lines) >= maxLines {
		return false
	}
	if l.lines == nil {
		l.lines = map[string]lineTime{}
	}
	l.lines[kind] = lineTime{now, period}
	return true
}

// hopCache maps a hop header to what it says, for somewhat longer than the plugin sends it. Only
// headers that opened get in. Strangers can fill it where publicURL is not set, and push nothing
// out: a header without a place is opened anew each time.
type hopCache struct {
	mu sync.RWMutex // guards m for one map access
	m  forget.Aged[string, *openedHop]
}

// hopsKept is enough for 2,000 tenants that are all in use, by one Traefik.
const hopsKept = 8192

func (c *hopCache) get(value string, now time.Time) (openedHop, bool) {
	c.mu.RLock()
	opened := c.m.Get(value)
	c.mu.RUnlock()
	if opened == nil || sealing.HopExpired(opened.issuedAt, now) {
		return openedHop{}, false
	}
	return *opened, true
}

func (c *hopCache) put(value string, opened openedHop, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m.Width = hopReuse + 5*time.Second
	c.m.Turn(now)
	if c.m.Len() < hopsKept {
		c.m.Set(value, &opened)
	}
}

// remoteIP is for the log only; it decides nothing.
func remoteIP(r *http.Request) string {
	if first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ","); first != "" {
		return outgoing.PlainText(strings.TrimSpace(first), 64) // whoever asks has written it
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
