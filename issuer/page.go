package issuer

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"strings"
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

// contentSecurityPolicy allows one style sheet and one form, to ourselves. There is no script to allow.
var contentSecurityPolicy = func() string {
	sum := sha256.Sum256([]byte(stylesheet))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
}()

// page adapts an endpoint for people: its errors become pages, or redirects once the client is proven.
func (s *Issuer) page(handle func(*http.Request, *tenant) (*answer, error)) func(http.ResponseWriter, *http.Request, *tenant) error {
	return func(w http.ResponseWriter, r *http.Request, t *tenant) error {
		a, err := handle(r, t)
		if err != nil {
			a = s.errorAnswer(r, t, err)
		} else if a.refused != nil {
			s.logError(r, t, a.refused, "")
		}
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		// Not no-referrer: browsers would send `Origin: null` with the consent form.
		h.Set("Referrer-Policy", "same-origin")
		for _, c := range a.cookies {
			http.SetCookie(w, c)
		}
		if a.page == nil {
			h.Set("Location", a.next)
			w.WriteHeader(http.StatusSeeOther) // RFC 9700 §4.12: never 307
			return nil
		}
		return a.render(w)
	}
}

func (a *answer) render(w http.ResponseWriter) error {
	if a.data == nil {
		a.data = map[string]any{}
	}
	a.data["Style"] = stylesheet
	if a.next != "" {
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
func (s *Issuer) errorAnswer(r *http.Request, t *tenant, err error) *answer {
	var redirected *redirectedError
	if errors.As(err, &redirected) {
		s.logError(r, t, redirected.err, "")
		return &answer{next: t.errorURL(redirected)}
	}
	e := asError(err)
	reference := newReference()
	s.logError(r, t, e, reference)
	return &answer{page: errorPage, status: e.Status, data: map[string]any{
		"Server": t.DisplayName, "Description": e.Description, "Code": e.Code, "Reference": reference,
	}}
}
