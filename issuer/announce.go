package issuer

import (
	"context"
	"strings"
	"sync"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// announce tells the operator, when the sidecar first meets a tenant or its labels have changed,
// what would otherwise be found out by the first person who fails. The plugin asks for keys when
// Traefik loads a configuration, so that is when it is said.
func (s *Issuer) announce(t *tenant) {
	s.announceChange(t)
	s.announcePeople(t)
	s.announceSecret(t)
}

// announcePeople says who can log in, what must be registered at the provider for that, and whether
// the provider can be used at all. It is asked now, so that a mistake shows when Traefik loads the
// labels and not at the first person's click; no request waits for it. On Lambda it is not: a
// process that is frozen between requests would lose the answer, and take that for silence. There
// it is said at each cold start: a warning would then be most of all warnings, and hide the others.
func (s *Issuer) announcePeople(t *tenant) {
	words, everybody := t.whoMayComeIn()
	if !s.announced.First("people", t.PublicURL, t.ProviderIssuer, t.ClientID, t.ClientAuth, words) {
		return
	}
	log := s.Log.Info
	if everybody {
		if !s.OnLambda {
			log = s.Log.Warn
		}
		words += "; to say who may, set allowedEmails, allowedDomains, allowedGroups or allowedSubjects"
	}
	say := func(document string) {
		facts := []any{t.named(), "who", words, "client_id", t.ClientID, "redirect URI to register at the provider", t.callbackURL()}
		if t.ClientAuth == provider.PrivateKeyJWT {
			facts = append(facts, "JWKS URL to register at the provider", t.clientJWKS())
		}
		log("who may come in", append(facts, "provider", t.ProviderIssuer, "its discovery document", document)...)
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

// announceSecret says that nobody will be able to log in for want of the client's secret.
func (s *Issuer) announceSecret(t *tenant) {
	if !s.announced.First("secret", t.PublicURL, t.ProviderIssuer, t.ClientID, t.ClientSecret) {
		return
	}
	if err := s.providers.CheckSecret(&t.provider); err != nil {
		s.Log.Error("nobody can log in: there is no client secret for the provider", t.named(), "provider", t.ProviderIssuer, "cause", err)
	}
}

// announceChange says what is not as it was a moment ago. A tenant whose labels are back at what
// they were, or two that alternate, are not said again.
func (s *Issuer) announceChange(t *tenant) {
	if old := s.met.replace("resource "+t.Resource, t); old != nil && old.PublicURL != t.PublicURL &&
		s.announced.First("resource", t.Resource, old.PublicURL, t.PublicURL) {
		s.Log.Warn("another public URL for the same resource: after a change of publicURL clients log in anew; two middlewares of one resource do not accept each other's tokens",
			t.named(), "before", old.PublicURL)
	}
	old := s.met.replace("issuer "+t.PublicURL, t)
	if old == nil {
		return
	}
	for _, c := range []struct{ label, before, now string }{
		{"providerIssuer", old.ProviderIssuer, t.ProviderIssuer},
		{"clientID", old.ClientID, t.ClientID},
		{"clientAuth", old.ClientAuth, t.ClientAuth},
		{"providerParameters", strings.Join(old.ProviderParameters, "&"), strings.Join(t.ProviderParameters, "&")},
		{"scopes", strings.Join(old.Scopes, " "), strings.Join(t.Scopes, " ")},
		{"requiredScopes", strings.Join(old.RequiredScopes, " "), strings.Join(t.RequiredScopes, " ")},
	} {
		if c.before != c.now && s.announced.First("change", t.PublicURL, c.label, c.before, c.now) {
			s.Log.Info("label changed", t.named(), "label", c.label, "before", c.before, "now", c.now)
		}
	}
}

// lastTenants holds the last tenant under each key. It forgets one when it is full.
type lastTenants struct {
	mu sync.Mutex // guards m for one access
	m  map[string]*tenant
}

func (l *lastTenants) replace(key string, t *tenant) (old *tenant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old = l.m[key]
	forget.Put(&l.m, key, t, 2*hopCacheLimit)
	return old
}
