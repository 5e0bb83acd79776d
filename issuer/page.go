package issuer

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/pages"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// page is what a person's browser gets: a page or, without a template, a redirect to next.
type page struct {
	template string // name in pages.html
	data     map[string]any
	next     string // where a redirect or the continue page leads: the caller has proven it
	status   int    // 200 if zero
	cookies  []*http.Cookie
	refused  *Error // an error that next carries to the client, for the log
}

//go:embed pages.css
var stylesheet pages.CSS

const (
	consentTemplate  = "consent"
	continueTemplate = "continue"
	errorTemplate    = "error"
)

// contentSecurityPolicy allows one style sheet and one form, to ourselves. Our pages have no
// scripts.
const contentSecurityPolicy = "default-src 'none'; style-src '" + pages.StyleHash + "'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// isPrefetch says whether a browser, or a proxy before it, asks before anybody has clicked (WICG
// Prefetch; older browsers say Purpose or X-Moz). The browser may throw such an answer away, with
// the login in its cookies. So the request is refused, nothing is used up, and the browser asks
// again when the person comes to the address.
func isPrefetch(h http.Header) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Moz", "X-Purpose"} {
		value := strings.ToLower(h.Get(name))
		if strings.HasPrefix(value, "prefetch") || strings.HasPrefix(value, "preview") {
			return true
		}
	}
	return false
}

// pageRoutes are for people: whatever goes wrong there is a page too.
func (s *Issuer) pageRoutes() []route {
	return []route{
		{"/oauth/authorize", "GET", false, s.asPage(s.authorize)},
		{"/oauth/consent", "POST", false, s.asPage(s.consent)},
		{"/oauth/callback", "GET", false, s.asPage(s.callback)},
	}
}

// asPage adapts an endpoint for people: its errors become pages, or redirects once the client is
// proven.
func (s *Issuer) asPage(handle func(*http.Request, *tenant) (*page, error)) func(http.ResponseWriter, *http.Request, *tenant) error {
	return func(w http.ResponseWriter, r *http.Request, t *tenant) error {
		if isPrefetch(r.Header) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return nil
		}
		p, err := handle(r, t)
		if err != nil {
			p = s.errorPage(r, t, err)
		} else if p.refused != nil {
			s.logError(r, t, p.refused, "")
		}
		if p.template == "" && !weburl.IsWeb(p.next) {
			// A redirect to a private-use scheme leaves the browser on the page before: the
			// provider's, or none.
			p.template, p.data = continueTemplate, map[string]any{"Title": "Back to the application", "Text": "Your browser may ask whether to open the application. This page can be closed then."}
		}
		h := w.Header()
		policy := contentSecurityPolicy
		if p.template != "" && t.Logo != "" {
			policy += "; img-src data:"
		}
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Frame-Options", "DENY")
		// There is no Cross-Origin-Opener-Policy, which would cut the tie to a web application that
		// opened the login in a window. The referrer policy is not no-referrer, with which browsers
		// would send `Origin: null` with the consent form.
		h.Set("Referrer-Policy", "same-origin")
		for _, c := range p.cookies {
			http.SetCookie(w, c)
		}
		if p.template == "" {
			h.Set("Location", p.next)
			w.WriteHeader(http.StatusSeeOther) // RFC 9700 §4.12: never 307
			return nil
		}
		return p.render(w, t)
	}
}

// writeErrorPage answers a request that did not reach its page, such as one for the address of a
// form that was typed in.
func (s *Issuer) writeErrorPage(w http.ResponseWriter, r *http.Request, t *tenant, err error) {
	refuse := s.asPage(func(*http.Request, *tenant) (*page, error) { return nil, err })
	if err := refuse(w, r, t); err != nil {
		s.writeError(w, r, t, err)
	}
}

func (p *page) render(w http.ResponseWriter, t *tenant) error {
	p.data["Style"] = stylesheet
	p.data["Server"] = t.DisplayName
	p.data["Logo"] = pages.URL(t.Logo) // parseTenant has checked that it is a picture
	if p.next != "" {
		p.data["To"] = "the application"
		if weburl.IsWeb(p.next) {
			p.data["To"] = weburl.HostOf(p.next)
		}
		// Checked before: package pages would drop a client's private-use scheme.
		p.data["Next"] = pages.URL(p.next)
	}
	b := pageBuffers.Get().(*bytes.Buffer)
	defer func() {
		if b.Cap() <= maxPageBuffer {
			b.Reset()
			pageBuffers.Put(b)
		}
	}()
	if err := pages.Execute(b, p.template, p.data); err != nil {
		return err
	}
	status := p.status
	if status == 0 {
		status = http.StatusOK
	}
	writeBody(w, status, htmlType, b.Bytes())
	return nil
}

// pageBuffers are for pages that are being made. Whoever writes an answer keeps nothing of it.
var pageBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPageBuffer is more than a page with a logo has.
const maxPageBuffer = 64 << 10

// errorPage is the only place where an error becomes a page or a redirect.
//
// An error for the client goes there at once only if the client is a program on the person's own
// machine. Anybody can register any other address, so a link to our endpoint with a wrong parameter
// would forward people to wherever an attacker likes (RFC 9700 §4.11.2). There people get the page,
// with a link to press.
func (s *Issuer) errorPage(r *http.Request, t *tenant, err error) *page {
	e := asError(err)
	var redirected *redirectedError
	next, back := "", ""
	if errors.As(err, &redirected) {
		host, loopback := redirecturi.Shown(redirected.to.RedirectURI)
		next, back = t.errorURL(redirected), host
		if loopback {
			s.logError(r, t, e, "")
			return &page{next: next}
		}
	}
	reference := newReference()
	s.logError(r, t, e, reference)
	title, advice := explain(e)
	return &page{template: errorTemplate, status: e.Status, next: next, data: map[string]any{
		"Title": title, "Description": sentence(e.Description), "Advice": advice, "Code": e.Code, "Reference": reference, "Back": back,
	}}
}

// explain says in a person's words what an error means and what to do about it.
func explain(e *Error) (title, advice string) {
	switch {
	case errors.As(e, new(unsentError)):
		return "This account may not come in", "Tell whoever runs this server the reference below. If you have another account, go back to the application and connect again with that."
	case errors.Is(e, errNotAdmitted):
		return "This account may not come in", "Go back to the application and connect again with another account, or ask whoever runs this server to admit this one."
	case errors.Is(e, errSignIn):
		return "This sign-in is not enough here", "Go back to the application and connect again; where your sign-in provider asks how you want to sign in, choose the strongest way. If you see this page again, tell whoever runs this server the reference below."
	case errors.Is(e, errWithheld):
		return "You could do nothing here", "Tell whoever runs this server what this page says."
	case e.Code == "invalid_client":
		return "This application is not known here", "Remove the server from the application and add it again."
	case e.Code == "invalid_client_metadata":
		return "This application cannot be accepted", "Tell whoever makes the application what this page says."
	case e.Code == "invalid_redirect_uri":
		return "This request is not safe to answer", "Close this page. If you have begun this yourself, remove the server from the application and add it again."
	case errors.Is(e, provider.ErrSetUp):
		return "You cannot sign in at the moment", "Tell whoever runs this server the reference below."
	case e.Code == "temporarily_unavailable":
		return "You cannot sign in at the moment", "Wait a moment, then reload this page."
	case e.Status >= http.StatusInternalServerError:
		return "This did not work", "Try again. If you see this page again, tell whoever runs this server the reference below."
	}
	return "You cannot go on from here", "Go back to the application and connect again."
}

// sentence makes a sentence of a description that was written for a client's developer.
func sentence(s string) string {
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".") + "."
}

// scopeWords says in a person's words what the scopes with a well-known meaning allow (OpenID
// Connect Core §5.4); empty for any other.
func scopeWords(scope string) string {
	switch scope {
	case openID:
		return "know who you are"
	case "email":
		return "see your e-mail address"
	case "profile":
		return "see your name and picture"
	case "address":
		return "see your postal address"
	case "phone":
		return "see your phone number"
	}
	return ""
}

// rights says what the scopes allow, with a box before each if the person may leave out any of
// them. A scope that only the MCP server can explain stays as it is. Each token says who the person
// is, even without a scope for it: so that line stands before the others about the person.
//
// The list is written here: the templates have no member of a member, and each line needs three.
func (t *tenant) rights(scopes []string) (list pages.HTML, choice bool) {
	at := slices.IndexFunc(scopes, func(scope string) bool { return scopeWords(scope) != "" })
	if at < 0 {
		at = len(scopes)
	}
	all := distinct(slices.Insert(slices.Clone(scopes), at, openID))
	choice = slices.ContainsFunc(all, t.mayBeLeftOut)
	var b strings.Builder
	b.Grow(100 * len(all))
	write := func(parts ...string) {
		for _, part := range parts {
			b.WriteString(part)
		}
	}
	for _, scope := range all {
		words := scopeWords(scope)
		if words == "" {
			words = pages.Escape(scope)
		}
		switch {
		case !choice:
			write("<li>", words, "</li>")
		case t.mayBeLeftOut(scope):
			write(`<li><label><input type="checkbox" name="scope" value="`, pages.Escape(scope), `" checked> `, words, "</label></li>")
		default:
			write(`<li><label><input type="checkbox" checked disabled> `, words, " <small>(needed)</small></label></li>")
		}
	}
	return pages.HTML(b.String()), choice
}

// actsWith says what the MCP server may do at the provider in a person's name. Without an exchange
// its token is that of the login, which has the scopes of that too.
func (t *tenant) actsWith() (words []string) {
	all := t.upstream.Scopes
	if t.upstream.Exchange == "" {
		all = slices.Concat(t.provider.AskedScopes(), all)
	}
	for _, scope := range distinct(all) {
		words = append(words, cmp.Or(scopeWords(scope), scope))
	}
	return words
}

// Each login has one cookie of each kind, so that logins in several tabs do not meet.
const (
	consentCookie = "mcpb-consent-" // the id that a consent page was rendered for
	loginCookie   = "mcpb-flow-"    // the sealed login, while the person is at the provider
	refusedCookie = "mcpb-refused-" // somebody was not admitted here; one for each tenant
	// a consent that is remembered, one for each client and tenant
	rememberedCookie = "mcpb-remembered-"

	cookieLife = 15 * time.Minute // the life of the sealed values in them
	secondTry  = 10 * time.Second // of a person who clicks again
	// maxLogins is how many logins a browser carries, of at most 3.9 KB each: with a hop header of
	// 8 KB they stay below MaxHeaderBytes.
	// One less where the browser remembers consents, which have the room of one.
	maxLogins = 6
	// maxRemembered is how many consents a browser remembers at one host, each of at most
	// maxRememberedSize characters.
	maxRemembered, maxRememberedSize = 4, 900
	// maxConsents is how many open pages a browser can answer, with 60 bytes for each. Browsers
	// keep 50 cookies of a host, or 180, and then drop others: the logins of this host, or another
	// program's cookies.
	maxConsents = 10
	// maxExpired is how many cookies one answer takes back: the header must not get too long.
	maxExpired = 20
)

// The guard remembers a code for longer than any replica accepts it: the login's cookie, a skew
// longer and from a replica that is a skew ahead; then our code, which it is wrapped in, and its
// skew. A CodeLife that is shorter does not compile.
const _ = uint64(replay.CodeLife - (cookieLife + time.Minute + 3*sealing.Skew))

// cookieTag returns the part of an id that names its cookie.
func cookieTag(id string) string { return id[:min(6, len(id))] }

// cookieName adds __Host-, which makes browsers refuse the cookie from any other host or over plain
// http. Only development on localhost without TLS does without it.
func (t *tenant) cookieName(kind, id string) string {
	if t.secure {
		return "__Host-" + kind + cookieTag(id)
	}
	return kind + cookieTag(id)
}

func (t *tenant) cookie(kind, id, value string) *http.Cookie {
	return &http.Cookie{
		Name: t.cookieName(kind, id), Value: value, Path: "/",
		MaxAge: int(cookieLife / time.Second), HttpOnly: true, Secure: t.secure,
		SameSite: http.SameSiteLaxMode, // the way back from the provider is a cross-site navigation
	}
}

func (t *tenant) expiredCookie(kind, id string) *http.Cookie {
	c := t.cookie(kind, id, "")
	c.MaxAge = -1
	return c
}

// answeredCookie ends a consent page a moment after its answer. At a double click the browser
// abandons the answer to the first click, and may keep its cookies. It shows the answer to the
// second click, which must not be "already answered". Nothing rests on the browser's clock: whoever
// holds the cookie was asked, and the sealed request has a life of its own.
func (t *tenant) answeredCookie(id, decision string) *http.Cookie {
	c := t.cookie(consentCookie, id, id+"."+decision) // no id has a dot
	c.MaxAge = int(secondTry / time.Second)
	return c
}

// reloadedCookie ends a login a minute after its answer. For so long what was learnt is kept
// (code.go): people reload the page that offers to open the application.
func (t *tenant) reloadedCookie(state, sealed string) *http.Cookie {
	c := t.cookie(loginCookie, state, sealed)
	c.MaxAge = int(unfinishedLife / time.Second)
	return c
}

// newConsentID names a rendering of the consent page, by 16 random bytes and the time. The time
// only orders cookies.
func (s *Issuer) newConsentID() string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(randomBytes(16), uint32(s.Now().Unix())))
}

// staleConsents names the oldest consent pages of a browser that has opened too many.
func (t *tenant) staleConsents(r *http.Request) []*http.Cookie {
	return t.stale(r, consentCookie, maxConsents, func(c *http.Cookie) int64 {
		id, _, _ := strings.Cut(c.Value, ".")
		b, err := base64.RawURLEncoding.DecodeString(id)
		if err != nil || len(b) != 20 {
			return 0
		}
		return int64(binary.BigEndian.Uint32(b[16:]))
	})
}

// staleLogins names the oldest logins of a browser that has begun too many: its cookies must stay
// far below what servers take.
func (t *tenant) staleLogins(r *http.Request) []*http.Cookie {
	most := maxLogins
	if slices.ContainsFunc(r.Cookies(), func(c *http.Cookie) bool { return strings.HasPrefix(c.Name, t.cookieName(rememberedCookie, "")) }) {
		most--
	}
	return t.stale(r, loginCookie, most, func(c *http.Cookie) int64 {
		// The time only orders; nothing is trusted because of it.
		at, _ := sealing.IssuedAt(sealing.KindFlow, c.Value)
		return at.Unix()
	})
}

// rememberedID names the cookie of what a browser remembers about a client at this tenant.
func (t *tenant) rememberedID(client [sha256.Size]byte) string {
	sum := sha256.Sum256(append(t.id[:], client[:]...))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// forgotten takes back what the browser remembers about a client, if it does.
func (t *tenant) forgotten(r *http.Request, client [sha256.Size]byte) []*http.Cookie {
	id := t.rememberedID(client)
	if _, err := r.Cookie(t.cookieName(rememberedCookie, id)); err != nil {
		return nil
	}
	return []*http.Cookie{t.expiredCookie(rememberedCookie, id)}
}

// staleRemembered names the oldest consents of a browser that remembers too many. The predecessor
// of the one to come is gone by then: whoever answers the page forgets it.
func (t *tenant) staleRemembered(r *http.Request) []*http.Cookie {
	return t.stale(r, rememberedCookie, maxRemembered, func(c *http.Cookie) int64 {
		at, _ := sealing.IssuedAt(sealing.KindRemembered, c.Value) // orders, and nothing else
		return at.Unix()
	})
}

// stale takes back the oldest cookies of a kind, so that at most so many remain with the one to
// come. Of two with the same age, the browser sends the older first (RFC 6265 §5.4).
func (t *tenant) stale(r *http.Request, kind string, most int, age func(*http.Cookie) int64) []*http.Cookie {
	prefix := t.cookieName(kind, "")
	var all []*http.Cookie
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, prefix) {
			all = append(all, c)
		}
	}
	if len(all) < most {
		return nil
	}
	slices.SortStableFunc(all, func(a, b *http.Cookie) int { return cmp.Compare(age(a), age(b)) })
	stale := all[:min(len(all)-most+1, maxExpired)]
	for i, c := range stale {
		stale[i] = t.expiredCookie(kind, strings.TrimPrefix(c.Name, prefix))
	}
	return stale
}
