package issuer

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// about is what a decision is about. What is not known stays empty.
type about struct {
	tenant  *tenant
	client  string // the client_id
	request string // the authorization request
	subject string // of the provider, or of a machine
	login   string // its id
}

// record is the one way by which a decision gets into the log. It names tenant, client, person and
// login in all lines alike, so that lines can be joined.
func (s *Issuer) record(e audit.Event, a about, facts ...any) {
	if ctx, handler := context.Background(), s.Log.Handler(); handler.Enabled(ctx, e.Level) {
		line := s.line(e, a)
		line.Add(facts...)
		_ = handler.Handle(ctx, line)
	}
}

// recordAttrs is record for lines of which there are many: facts that are attributes already take
// no memory each.
func (s *Issuer) recordAttrs(e audit.Event, a about, facts ...slog.Attr) {
	if ctx, handler := context.Background(), s.Log.Handler(); handler.Enabled(ctx, e.Level) {
		line := s.line(e, a)
		line.AddAttrs(facts...)
		_ = handler.Handle(ctx, line)
	}
}

// line is what all lines have in common.
func (s *Issuer) line(e audit.Event, a about) slog.Record {
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.String("event", e.Name))
	if a.tenant != nil {
		attrs = append(attrs, a.tenant.provider.Named)
	}
	if a.client != "" {
		attrs = append(attrs, slog.String("client", sealing.Fingerprint(a.client)))
		if isDocumentURL(a.client) { // other ids are long, and the check reads them whole
			if _, err := checkDocumentURL(a.client); err == nil {
				attrs = append(attrs, slog.String("document", a.client))
			}
		}
	}
	if a.request != "" {
		attrs = append(attrs, slog.String("request", a.request))
	}
	if a.subject != "" {
		attrs = append(attrs, slog.String("subject", s.Ring.Pseudonym(a.tenant.id, a.subject)))
		if s.LogSubjects {
			attrs = append(attrs, slog.String("sub", a.subject))
		}
	}
	if a.login != "" {
		attrs = append(attrs, slog.String("family", a.login))
	}
	// A line is made here and not by the logger, which would look for its caller each time.
	line := slog.NewRecord(time.Now(), e.Level, e.Message, 0)
	line.AddAttrs(attrs...)
	return line
}

// announce tells the operator what else the first person who fails would find out. It does so when
// the sidecar first meets a tenant, and when the labels have changed. The plugin asks for keys when
// Traefik loads a configuration, so that is the moment.
func (s *Issuer) announce(t *tenant) {
	s.announceChange(t)
	s.announcePeople(t)
	s.announceSecret(t)
	s.announceForgetful(t)
}

// announceForgetful says why a label has no effect: people are asked at each login all the same.
func (s *Issuer) announceForgetful(t *tenant) {
	if t.RememberConsent == 0 {
		return
	}
	if why := s.forgetful(t); why != "" && s.announced.First("remember", t.PublicURL, why) {
		s.Log.Warn("the label rememberConsent has no effect: consent is asked at each login", t.named(), "because", why)
	}
}

// announcePeople says who can log in, what must be registered at the provider for that, and whether
// the provider can be used at all. The provider is asked now, so that a mistake shows when Traefik
// loads the labels and not at the first person's click. No request waits for it. On Lambda it is
// not asked: a process that is frozen between requests would lose the answer, and take that for
// silence. There the line comes at each cold start, and is never a warning: it would be most of all
// warnings, and hide the others.
func (s *Issuer) announcePeople(t *tenant) {
	words, everybody := t.whoMayComeIn()
	words += t.otherWaysIn()
	if !s.announced.First("people", t.PublicURL, t.ProviderIssuer, t.ClientID, t.ClientAuth, words, hex.EncodeToString(t.id[:])) {
		return
	}
	event := audit.AccessAnnounced
	if everybody {
		if !s.OnLambda {
			event.Level = event.Raised
		}
		words += "; to say who may, set allowedEmails, allowedDomains, allowedGroups or allowedSubjects"
	}
	say := func(document string) {
		facts := []any{"who", words, "client_id", t.ClientID, "redirect URI to register at the provider", t.callbackURL()}
		if t.ClientAuth == provider.PrivateKeyJWT {
			facts = append(facts, "JWKS URL to register at the provider", t.clientJWKS())
		}
		s.record(event, about{tenant: t}, append(facts, "provider", t.ProviderIssuer, "its discovery document", document, "tenant_id", hex.EncodeToString(t.id[:]))...)
	}
	const notYet = "is read at the first login"
	// Hosts that strangers invent are tenants too, where publicURL is not set: they must not fill
	// the memory with what waits for a slow provider.
	if s.OnLambda || s.asking.Add(1) > askingAtATime {
		if !s.OnLambda {
			s.asking.Add(-1)
		}
		say(notYet)
		return
	}
	s.Background(func() {
		defer s.asking.Add(-1)
		up, err := s.providers.Discover(context.Background(), &t.provider)
		if err != nil {
			say("cannot be used: " + err.Error())
			return
		}
		say("read" + up.AuthNote())
		if err := up.KeyFault(); err != nil {
			s.Log.Error("nobody can log in: the client cannot prove itself at the provider", t.named(), "provider", t.ProviderIssuer, "cause", err)
		}
	})
}

// askingAtATime is how many tenants' providers are asked ahead of a login at one time.
const askingAtATime = 16

// announceSecret says that nobody will be able to log in because the client's secret is missing.
func (s *Issuer) announceSecret(t *tenant) {
	if !s.announced.First("secret", t.PublicURL, t.ProviderIssuer, t.ClientID, t.ClientSecret) {
		return
	}
	if err := s.providers.CheckSecret(&t.provider); err != nil {
		s.Log.Error("nobody can log in: there is no client secret for the provider", t.named(), "provider", t.ProviderIssuer, "cause", err)
	}
}

// announceChange says what differs from a moment ago. Each change is said once a day: tenants that
// alternate, as two middlewares of one public URL do, must not fill the log.
func (s *Issuer) announceChange(t *tenant) {
	t = t.withoutTexts()
	if old := s.met.replace("resource "+t.Resource, t); old != nil && old.PublicURL != t.PublicURL &&
		s.announced.First("resource", t.Resource, old.PublicURL, t.PublicURL) {
		s.record(audit.ResourceMoved, about{tenant: t}, "before", old.PublicURL)
	}
	old := s.met.replace("issuer "+t.PublicURL, t)
	if old == nil || old.sum == t.sum {
		return
	}
	today := s.Now().UTC().Format(time.DateOnly)
	for i, now := range t.labels() {
		before := old.labels()[i]
		if before != now && s.announced.First("change", today, t.PublicURL, now.name, before.value, now.value) {
			s.record(audit.LabelChanged, about{tenant: t}, "label", now.name, "before", before.shown(), "now", now.shown())
		}
	}
}

// labelValue is a label as the operator wrote it, or as it counts if it was left out.
type labelValue struct{ name, value string }

// labels are all that the plugin sends, so that no label can change in silence.
func (t *tenant) labels() []labelValue {
	fields := reflect.ValueOf(t).Elem()
	all := make([]labelValue, len(hopMembers()))
	for i, m := range hopMembers() {
		value := fields.Field(m.field).Interface()
		text := fmt.Sprint(value)
		if list, ok := value.([]string); ok {
			text = strings.Join(list, separatorOf(m.name))
		}
		all[i] = labelValue{labelOf(m.name), text}
	}
	return all
}

// separatorOf is what stands between the parts of a list in its label (docs/labels.md).
func separatorOf(member string) string {
	switch member {
	case "scopes", "requiredScopes", "scopesSupported":
		return " "
	case "providerParameters":
		return "&"
	}
	return ","
}

// labelOf is the label of a member: another name than the member's has one only.
func labelOf(member string) string {
	if member == "identityClaims" {
		return "identityHeaders"
	}
	return member
}

// maxShown is how many bytes of a label a line holds: a logo has thousands.
const maxShown = 500

// shown is what may stand in the log: of a secret, the name of its variable and nothing else.
func (l labelValue) shown() string {
	switch {
	case l.name == "clientSecret" && l.value != "" && !strings.HasPrefix(l.value, "env:"):
		return "(a secret, not shown)"
	case len(l.value) > maxShown:
		return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(l.value[:maxShown], ""), len(l.value))
	}
	return l.value
}

// announceKey says that another signing key signs from now on. It is called where a hop header is
// opened: a timer would stand still in a frozen process. On Lambda each process lives too short for
// the line to mean anything.
func (s *Issuer) announceKey() {
	now := s.Now()
	epoch := s.Schedule.Epoch(now)
	if before := s.epoch.Swap(epoch); before != epoch && !s.OnLambda {
		s.record(audit.KeyChanged, about{}, "epoch", epoch, "before", before, "next key", s.Schedule.NextKey(now).Format(time.RFC3339))
	}
}

// tenantsMet is how many tenants, under either key, can change and be told: 2,000 that are all in
// use. Strangers who invent hosts can fill it where publicURL is not set, and it is never emptied.
// So it is small, and what was prepared for a tenant does not stay in it.
const tenantsMet = 4_096

// lastTenants holds the last tenant under each key. It forgets one when it is full.
type lastTenants struct {
	mu sync.Mutex // guards m for one access
	m  map[string]*tenant
}

func (l *lastTenants) replace(key string, t *tenant) (old *tenant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old = l.m[key]
	forget.Put(&l.m, key, t, tenantsMet)
	return old
}

func (l *lastTenants) has(t *tenant) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m["issuer "+t.PublicURL] != nil
}

// loginEnded is the operator's record of the end of a login.
func (s *Issuer) loginEnded(t *tenant, c client, g grant, cause, because string) {
	s.Metrics.LoginEnded(t.Resource, cause)
	event := audit.LoginEnded
	if cause == "revoked" {
		event = audit.LoginRevoked
	}
	s.record(event, about{tenant: t, client: c.id, subject: g.Identity.Subject, login: g.loginID()}, "because", because, "generation", g.Step)
}

func (s *Issuer) guardFailed(t *tenant, err error) {
	s.counters.add(guardFailures)
	s.Metrics.GuardFailed()
	s.Log.Error("the replay guard did not answer", t.named(), "cause", err)
}

// staleAnswer is the operator's record of an answer about which nobody could be asked.
func (s *Issuer) staleAnswer(t *tenant, g grant, cause error) {
	s.counters.add(staleAnswers)
	s.record(audit.LoginBridged, about{tenant: t, subject: g.Identity.Subject, login: g.loginID()},
		"provider's last word", time.Unix(g.Identity.CheckedAt, 0).UTC().Format(time.RFC3339), "cause", cause.Error())
}

// A counter counts what happens rarely and what an operator wants to know of. /healthz shows all
// counters, other than on Lambda. Each count has a line in the log.
type counter int

const (
	codesReused    counter = iota // codes presented again, which the guard refused
	tokensRepeated                // refresh tokens presented again within the grace
	loginsReused                  // logins that ended because a refresh token came again later
	loginsRefused                 // logins that the provider ended
	loginsRevoked                 // logins that their client ended
	guardFailures                 // times that the replay guard could not be asked
	upstreamChecks                // times that a provider was asked about a login
	staleAnswers                  // short access tokens for which nobody could be asked
	denyFailures                  // times that the deny document could not be read
	notAdmitted                   // people whom a rule refused
	allCounters
)

var counterNames = [allCounters]string{
	"codes_reused", "tokens_repeated", "families_reused", "families_refused", "families_revoked",
	"guard_failures", "upstream_checks", "stale_answers", "deny_failures", "not_admitted",
}

type counters [allCounters]atomic.Int64

func (c *counters) add(n counter) { c[n].Add(1) }

// snapshot :: name → count since this process began
func (c *counters) snapshot() map[string]int64 {
	all := make(map[string]int64, allCounters)
	for n, name := range counterNames {
		all[name] = c[n].Load()
	}
	return all
}

// signingKey is for the metrics.
func (s *Issuer) signingKey() (epoch uint32, next time.Duration) {
	now := s.Now()
	return s.Schedule.Epoch(now), s.Schedule.NextKey(now).Sub(now)
}

// healthz shows which masters this replica holds, so that an operator can compare replicas before a
// new master is promoted, and when the next signing key begins to sign. Master ids are public: each
// sealed value has one. The counters count this replica alone. Strangers can ask for a function's
// URL too, and learn nothing there: the function's log shows the masters.
func (s *Issuer) healthz(w http.ResponseWriter, r *http.Request) {
	health := map[string]any{"status": "ok"}
	if !s.OnLambda {
		health["version"], health["masters"], health["counters"] = s.Version, s.Ring.MasterIDs(), s.counters.snapshot()
		now := s.Now()
		health["signing_key"] = map[string]any{"epoch": s.Schedule.Epoch(now), "next": s.Schedule.NextKey(now).Format(time.RFC3339)}
	}
	w.Header().Set(MarkHeader, UnboundMark)
	writeJSON(w, http.StatusOK, health)
}
