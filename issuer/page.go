package issuer

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
)

// answer is what a person's browser gets: a page, or with no page a redirect to next.
type answer struct {
	page    *template.Template
	data    map[string]any
	next    string // where a redirect or the continue page leads: proven by the caller
	status  int    // 200 if zero
	cookies []*http.Cookie
	refused *Error // an error that next carries to the client, for the log
}

//go:embed pages.html
var pages string

//go:embed pages.css
var stylesheet template.CSS

var (
	templates    = template.Must(template.New("pages").Parse(pages))
	consentPage  = templates.Lookup("consent")
	continuePage = templates.Lookup("continue")
	errorPage    = templates.Lookup("error")
)

// contentSecurityPolicy allows one style sheet and one form, to ourselves. There is no script to
// allow.
var contentSecurityPolicy = func() string {
	sum := sha256.Sum256([]byte(stylesheet))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
}()

// isPrefetch says whether a browser, or what stands before it, asks before anybody has clicked.
// Such an answer may be thrown away, with the login in its cookies: it is refused, nothing is used
// up, and the browser asks again when it comes to the address (WICG Prefetch; older browsers say
// Purpose or X-Moz).
func isPrefetch(h http.Header) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Moz", "X-Purpose"} {
		value := strings.ToLower(h.Get(name))
		if strings.HasPrefix(value, "prefetch") || strings.HasPrefix(value, "preview") {
			return true
		}
	}
	return false
}

// page adapts an endpoint for people: its errors become pages, or redirects once the client is
// proven.
func (s *Issuer) page(handle func(*http.Request, *tenant) (*answer, error)) func(http.ResponseWriter, *http.Request, *tenant) error {
	return func(w http.ResponseWriter, r *http.Request, t *tenant) error {
		if isPrefetch(r.Header) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return nil
		}
		a, err := handle(r, t)
		if err != nil {
			a = s.errorAnswer(r, t, err)
		} else if a.refused != nil {
			s.logError(r, t, a.refused, "")
		}
		if a.page == nil && !weburl.IsWeb(a.next) {
			// A redirect to a private-use scheme leaves the browser on the page before: the
			// provider's, or none.
			a.page, a.data = continuePage, map[string]any{"Title": "Back to the application", "Text": "Your browser may ask whether to open the application. This page can be closed then."}
		}
		h := w.Header()
		policy := contentSecurityPolicy
		if a.page != nil && t.Logo != "" {
			policy += "; img-src data:"
		}
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Frame-Options", "DENY")
		// No Cross-Origin-Opener-Policy: it would cut the tie to a web application that opened the
		// login in a window. Not no-referrer: browsers would send `Origin: null` with the consent
		// form.
		h.Set("Referrer-Policy", "same-origin")
		for _, c := range a.cookies {
			http.SetCookie(w, c)
		}
		if a.page == nil {
			h.Set("Location", a.next)
			w.WriteHeader(http.StatusSeeOther) // RFC 9700 §4.12: never 307
			return nil
		}
		return a.render(w, t)
	}
}

// writeErrorPage answers a request that did not get as far as its page, such as a form's address
// that was typed in.
func (s *Issuer) writeErrorPage(w http.ResponseWriter, r *http.Request, t *tenant, err error) {
	refuse := s.page(func(*http.Request, *tenant) (*answer, error) { return nil, err })
	if err := refuse(w, r, t); err != nil {
		s.writeError(w, r, t, err)
	}
}

func (a *answer) render(w http.ResponseWriter, t *tenant) error {
	a.data["Style"] = stylesheet
	a.data["Server"] = t.DisplayName
	a.data["Logo"] = template.URL(t.Logo) // parseTenant has checked that it is a picture
	if a.next != "" {
		a.data["To"] = "the application"
		if weburl.IsWeb(a.next) {
			a.data["To"] = weburl.HostOf(a.next)
		}
		// Checked before: html/template would drop a client's private-use scheme.
		a.data["Next"] = template.URL(a.next)
	}
	var b strings.Builder
	if err := a.page.Execute(&b, a.data); err != nil {
		return err
	}
	status := a.status
	if status == 0 {
		status = http.StatusOK
	}
	writeBody(w, status, "text/html; charset=utf-8", []byte(b.String()))
	return nil
}

// errorAnswer is the only place where an error becomes a page or a redirect.
//
// An error that the client should hear goes there at once only if that is a program on the person's
// own machine. Anybody can register any other address, so a link to our endpoint with a wrong
// parameter would forward people to wherever an attacker likes (RFC 9700 §4.11.2): they get the
// page, with a link to press.
func (s *Issuer) errorAnswer(r *http.Request, t *tenant, err error) *answer {
	e := asError(err)
	var redirected *redirectedError
	next, back := "", ""
	if errors.As(err, &redirected) {
		host, loopback := redirecturi.Shown(redirected.to.RedirectURI)
		next, back = t.errorURL(redirected), host
		if loopback {
			s.logError(r, t, e, "")
			return &answer{next: next}
		}
	}
	reference := newReference()
	s.logError(r, t, e, reference)
	title, advice := explain(e)
	return &answer{page: errorPage, status: e.Status, next: next, data: map[string]any{
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

// sentence makes one of a description that was written for a client's developer.
func sentence(s string) string {
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".") + "."
}

// scopeWords are the rights that have a well-known meaning (OpenID Connect Core §5.4), in a
// person's words.
var scopeWords = map[string]string{
	"openid":  "know who you are",
	"email":   "see your e-mail address",
	"profile": "see your name and picture",
	"address": "see your postal address",
	"phone":   "see your phone number",
}

// inWords says what the scopes allow. One that only the server can explain stays as it is. Who the
// person is, every token says, also without a scope for it: that stands first of what is about the
// person.
func inWords(scopes []string) []string {
	at := slices.IndexFunc(scopes, func(scope string) bool { return scopeWords[scope] != "" })
	if at < 0 {
		at = len(scopes)
	}
	words := distinct(slices.Insert(slices.Clone(scopes), at, openID))
	for i, scope := range words {
		if w, known := scopeWords[scope]; known {
			words[i] = w
		}
	}
	return words
}
