package issuer

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
	"github.com/mcpbouncer/mcpbouncer/issuer/clientdoc"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// Error is an OAuth error (RFC 6749 §5.2). Description is fixed text for the client's developer,
// the cause is for the operator's log. Neither ever holds what a provider answered.
type Error struct {
	Status      int
	Code        string
	Description string

	cause      error
	client     string // the client_id, for the log
	subject    string // the provider's subject, for the log
	login      string // id of the login, for the log
	retryAfter int    // seconds, with 503
	basic      bool   // the client used the Authorization header (RFC 6749 §5.2: answer in kind)
}

func (e *Error) Error() string { return e.Code + ": " + e.Description }
func (e *Error) Unwrap() error { return e.cause }

func (e *Error) because(cause error) *Error {
	e.cause = cause
	return e
}

// ofClient names the client in the operator's log. It makes a copy: some errors are shared.
func ofClient(clientID string, err error) error {
	e := *asError(err)
	e.client = clientID
	if redirected := (*redirectedError)(nil); errors.As(err, &redirected) {
		return &redirectedError{&e, redirected.to}
	}
	return &e
}

// ofLogin names the login and its person in the operator's log, where they are known. It makes a
// copy too.
func ofLogin(g grant, err error) error {
	if err == nil || g.Login == [16]byte{} {
		return err
	}
	e := *asError(err)
	e.subject, e.login = g.Identity.Subject, g.loginID()
	return &e
}

func badRequest(code, description string) *Error {
	return &Error{Status: http.StatusBadRequest, Code: code, Description: description}
}

func invalidRequest(description string) *Error { return badRequest("invalid_request", description) }
func invalidGrant(description string) *Error   { return badRequest("invalid_grant", description) }

var errRedirectURI = badRequest("invalid_redirect_uri", "The address that the answer should go to is not one that this application registered.")

// temporarilyUnavailable says that the client may try again, with everything that it holds.
func temporarilyUnavailable(description string, cause error) *Error {
	return &Error{Status: http.StatusServiceUnavailable, Code: "temporarily_unavailable", Description: description, cause: cause, retryAfter: 5}
}

// serverError makes an error that the operator must mend. The client must not conclude anything
// about itself.
func serverError(description string, cause error) *Error {
	return &Error{Status: http.StatusInternalServerError, Code: "server_error", Description: description, cause: cause}
}

// redirectedError is an error that the client is told through the browser (RFC 6749 §4.1.2.1). Make
// one only for a request whose client and redirect URI are proven: anything else would be an open
// redirector.
type redirectedError struct {
	err *Error
	to  authorizationRequest
}

func (e *redirectedError) Error() string { return e.err.Error() }
func (e *redirectedError) Unwrap() error { return e.err }

// asError turns whatever a handler returned into what may be shown.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if e = providerError(err); e != nil {
		return e
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &Error{Status: http.StatusRequestEntityTooLarge, Code: "invalid_request", Description: "the request body is too large"}
	}
	return serverError("something went wrong here", err)
}

// writeError is the only place where an error becomes JSON.
func (s *Issuer) writeError(w http.ResponseWriter, r *http.Request, t *tenant, err error) {
	e := asError(err)
	s.logError(r, t, e, "")
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	if e.basic {
		w.Header()["WWW-Authenticate"] = []string{`Basic realm="token endpoint"`}
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, e.Status, map[string]string{"error": e.Code, "error_description": plainDescription(e.Description)})
}

// plainDescription writes a text in the characters that RFC 6749 §5.2 and §4.1.2.1 allow in
// error_description: US-ASCII without quotation mark, backslash and control characters. Some texts
// quote what the client sent, and strict clients take an answer with more than that for none.
func plainDescription(text string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '"':
			return '\''
		case c == '\\' || c < ' ' || c > '~':
			return '?'
		}
		return c
	}, text)
}

// logError tells the operator what the client or person was told, and why. A status below 500 is a
// mistake of somebody outside; from 500 on it is ours or the provider's.
func (s *Issuer) logError(r *http.Request, t *tenant, e *Error, reference string) {
	event := audit.RequestRefused
	switch {
	case e.Status >= 500:
		event.Level = event.Raised
	case errors.Is(e, errDenied):
		event = audit.RequestDenied
	case errors.Is(e, errNotAdmitted), errors.Is(e, errWithheld), e.Code == "unmet_authentication_requirements":
		event = audit.PersonRefused
	case errors.Is(e, errBinding):
		event = audit.BindingBroken
	case errors.Is(e, errProof):
		event = audit.ProofRefused
	case e.Code == "use_dpop_nonce":
		event = audit.NonceAsked
	}
	endpoint := r.URL.Path
	if e.Code == "not_found" {
		endpoint = "unknown" // such a path may be anything, a mistyped token too
	}
	measured := endpoint
	if document, below := splitDocument(r.URL.Path); below != "" && e.Code != "not_found" {
		measured = document // below it stands what a stranger writes
	}
	s.Metrics.Refused(t.Resource, measured, refusalCause(e))
	args := []any{"endpoint", endpoint, "status", e.Status, "error", e.Code, "description", e.Description, "remote", remoteIP(r)}
	if e.cause != nil {
		args = append(args, "cause", e.cause.Error())
	}
	if reference != "" {
		args = append(args, "reference", reference)
	}
	s.record(event, about{tenant: t, client: e.client, subject: e.subject, login: e.login}, args...)
}

// refusalCause is the cause in the metrics: a word for what is behind an OAuth error, or its code.
func refusalCause(e *Error) string {
	for _, known := range []struct {
		kind error
		word string
	}{
		{errDenied, "denied"}, {errClientNotAllowed, "client_not_allowed"}, {errWithheld, "scope_withheld"}, {errNotAdmitted, "not_admitted"}, {errBinding, "binding_broken"},
		{provider.ErrOurFault, "provider_refuses_us"}, {provider.ErrSetUp, "provider_set_up"}, {provider.ErrAway, "provider_away"},
		{provider.ErrRefused, "provider_answer"}, {provider.ErrEnded, "provider_ended"},
		{clientdoc.ErrUnreadable, "document_unreadable"}, {clientdoc.ErrWithdrawn, "document_withdrawn"},
	} {
		if errors.Is(e.cause, known.kind) {
			return known.word
		}
	}
	return e.Code
}

// newReference names an error page in the log, so that a person can report it.
func newReference() string { return rand.Text()[:8] }

// responseURL returns the redirect back to the client with these parameters, `state` and `iss` (RFC
// 9207 §2) added.
func (t *tenant) responseURL(req authorizationRequest, params url.Values) string {
	params.Set("iss", t.PublicURL)
	if req.State != "" {
		params.Set("state", req.State)
	}
	sep := "?"
	if strings.Contains(req.RedirectURI, "?") {
		sep = "&"
	}
	return req.RedirectURI + sep + params.Encode()
}

func (t *tenant) errorURL(e *redirectedError) string {
	return t.responseURL(e.to, url.Values{"error": {e.err.Code}, "error_description": {plainDescription(e.err.Description)}})
}

// providerError is the one place where an error of package provider becomes an error that a client
// or person may see; nil if it is not one. The text of err is the cause in the operator's log.
func providerError(err error) *Error {
	is := func(kind error) bool { return errors.Is(err, kind) }
	fault := (*provider.TokenFault)(nil)
	switch {
	case is(provider.ErrRefused) && errors.As(err, &fault):
		return badRequest("access_denied", fault.Told+"; tell whoever runs this server").because(err)
	case is(provider.ErrUpstreamToken) && errors.As(err, &fault):
		return invalidGrant(fault.Told + "; authorize again").because(err)

	case is(provider.ErrCode):
		return invalidGrant("the authorization code is no longer valid; authorize again").because(err)
	case is(provider.ErrAssertion):
		return invalidGrant("the assertion is not accepted; the server's log says why").because(err)
	case is(provider.ErrLost):
		return invalidGrant("the sign-in provider's answer was lost; authorize again").because(err)
	case is(provider.ErrNeverRead):
		return invalidGrant("the sign-in provider's answers about this login were not accepted; authorize again").because(err)
	case is(provider.ErrNeedsMore):
		return invalidGrant("this server needs to know more of the person than was read at this login; authorize again").because(err)
	case is(provider.ErrEnded):
		return invalidGrant("the sign-in provider ended this login; authorize again").because(err)

	case is(provider.ErrRefused):
		// At invalid_grant SDKs begin a new login, which would end in the same way.
		return badRequest("access_denied", "the sign-in provider's answer was not accepted; the server's log says why").because(err)

	// All of these are 503, so that clients keep what they hold.
	case is(provider.ErrSetUp):
		return temporarilyUnavailable("the sign-in provider cannot be used as it is set up here; the server's log says why", err)
	case is(provider.ErrUnavailable):
		return temporarilyUnavailable("the sign-in provider is not available", err)
	case is(provider.ErrUnclear):
		return temporarilyUnavailable("the sign-in provider gave no clear answer", err)
	case is(provider.ErrUnreadable):
		return temporarilyUnavailable("the answer of the sign-in provider cannot be used", err)
	case is(provider.ErrAway):
		return temporarilyUnavailable("the sign-in provider cannot be reached", err)

	case is(provider.ErrConfiguration):
		return serverError("the sign-in provider is not configured correctly", err)
	case is(provider.ErrOurFault):
		// The provider may have said invalid_client. It is never passed on: that was about the
		// operator's client, and SDKs would throw away their own.
		return serverError("the sign-in provider did not accept this server; its operator must act", err)
	}
	return nil
}
