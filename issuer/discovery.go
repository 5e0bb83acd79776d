package issuer

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

// What an operator is told of a discovery that failed: what was received, not what a library says
// of it, and what to do. Almost always it is the label providerIssuer.

// unusable is why a provider that has answered, or a label, cannot be used.
type unusable struct {
	why    string
	passes bool // it is out of order; otherwise no waiting mends it
}

func (e *unusable) Error() string { return e.why }

// noProvider is what client and person are told of a failed discovery. That the provider cannot be
// reached is said only when nothing came from it. Both get 503: whoever waits for the operator
// keeps what it holds.
func noProvider(err error) *Error {
	description := "the sign-in provider cannot be reached"
	var answered *unusable
	switch {
	case needsOperator(err):
		description = "the sign-in provider cannot be used as it is set up here; the server's log says why"
	case errors.As(err, &answered):
		description = "the sign-in provider is not available"
	}
	return temporarilyUnavailable(description, err)
}

// needsOperator says whether a person would be told to wait for what no waiting mends.
func needsOperator(err error) bool {
	var answered *unusable
	return errors.As(err, &answered) && !answered.passes
}

const (
	// discoveryRedirects is how often a document may be somewhere else: one slash more is once.
	discoveryRedirects = 3
	discoveryPath      = "/.well-known/openid-configuration"
)

// sameOriginOnly follows a redirect of the discovery document within scheme, host and port. The
// provider itself says then where its document is, and go-oidc compares the issuer in it with the
// label's, to the byte. Some serve it with a slash at its end only. Another host would be asked in
// the provider's name for what is in nobody's label, which may be an address inside the operator's
// network; another scheme would give up TLS. No other request to a provider follows any redirect.
func sameOriginOnly(r *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) > discoveryRedirects || r.URL.Scheme != first.Scheme || r.URL.Host != first.Host || r.URL.User != nil {
		return http.ErrUseLastResponse
	}
	return nil
}

// discoveryAnswer remembers what came last. It serves one discovery, whose requests follow each
// other.
type discoveryAnswer struct {
	next http.RoundTripper

	status      int // 0: nothing came
	contentType string
	location    string // of a redirect
	size        int
	beginning   [1]byte // of the body
	broke       error   // the body did not come to its end
}

// RoundTrip is http.RoundTripper's.
func (a *discoveryAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	*a = discoveryAnswer{next: a.next}
	resp, err := a.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	a.status = resp.StatusCode
	a.contentType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if to, err := resp.Location(); err == nil {
		to.User, to.RawQuery, to.Fragment = nil, "", "" // a login page's may hold anything
		a.location = to.String()
	}
	resp.Body = &countedBody{resp.Body, a}
	return resp, nil
}

type countedBody struct {
	io.ReadCloser
	a *discoveryAnswer
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.a.size == 0 && n > 0 {
		copy(b.a.beginning[:], p)
	}
	b.a.size += n
	if err != nil && err != io.EOF {
		b.a.broke = err
	}
	return n, err
}

// mayPass says whether discovery failed by what may pass in a moment: no answer, or that of an
// outage. Of a provider that has just kept somebody waiting nothing is expected.
func (a *discoveryAnswer) mayPass(err error) bool {
	return !errors.Is(err, errPaused) && !errors.Is(err, context.DeadlineExceeded) &&
		(a.status == 0 || a.broke != nil || a.status >= http.StatusInternalServerError || a.status == http.StatusTooManyRequests)
}

// explain says what came and what to do about it. What a stranger could have written is bounded and
// cleaned.
func (a *discoveryAnswer) explain(err error) error {
	var mismatch *oidc.IssuerMismatchError
	if errors.As(err, &mismatch) { // OpenID Connect Discovery §4.3: they must be equal
		return &unusable{why: explainMismatch(mismatch.Provided, mismatch.Discovered)}
	}
	if a.status == 0 {
		return explainSilence(err)
	}
	if a.broke != nil {
		return &unusable{why: fmt.Sprintf("the provider's answer %d broke off after %d bytes, or took too long", a.status, a.size), passes: true}
	}
	came := fmt.Sprintf("the provider answers %d %s at %s below it", a.status, cmp.Or(plainText(a.contentType, 80), "without a content type"), strings.TrimPrefix(discoveryPath, "/"))
	const label = "see the label providerIssuer: "
	var remedy string
	passes := a.status == http.StatusTooManyRequests || a.status >= http.StatusInternalServerError
	switch {
	case a.status == http.StatusNotFound, a.status == http.StatusGone:
		remedy = label + "its path is not that of the issuer, as /realms/NAME or /application/o/NAME/ is"
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden, a.status == http.StatusProxyAuthRequired:
		remedy = "what stands in front of the provider must let the sidecar have this document without a login; or " + label + "the path is not the issuer's"
	case a.location != "":
		remedy = fmt.Sprintf("it redirects to %s, and a redirect is followed only within scheme, host and port of the label; %sit must be exactly what \"issuer\" in the document says, or what answers there is a login page", plainText(a.location, 200), label)
	case passes:
		remedy = "the provider, or what stands in front of it, is out of order; the label providerIssuer need not be wrong"
	case a.status != http.StatusOK:
		remedy = label + "that is no answer of a discovery document"
	case a.size >= upstreamMaxBody:
		remedy = label + "that is 1 MB or more, which no discovery document has"
	case a.contentType == "text/html", a.beginning[0] == '<':
		remedy = label + "that is a page, of a login or of another program, and no discovery document"
	case a.size == 0:
		remedy = label + "the document is empty"
	default:
		remedy = label + "that is not a whole discovery document"
	}
	return &unusable{why: came + ": " + remedy, passes: passes}
}

// explainMismatch says in what the label and the document differ.
func explainMismatch(label, document string) string {
	text := fmt.Sprintf("label providerIssuer is %q, and the provider calls itself %.300q: ", label, document)
	withoutScheme := func(s string) string { _, rest, _ := strings.Cut(s, "://"); return strings.TrimSuffix(rest, "/") }
	switch {
	case document == "":
		return text + "a document without \"issuer\" is no discovery document; copy the issuer from the provider's own page"
	case strings.Contains(document, "{"): // Entra ID's common and organizations
		return text + "name one directory in the label: tokens are of that one's issuer"
	case strings.TrimSuffix(label, "/") == strings.TrimSuffix(document, "/"):
		return text + "copy that into the label, to the last slash"
	case withoutScheme(label) == withoutScheme(document) && strings.HasPrefix(document, "http://"):
		return text + "tell the provider that its public URL is https; it stands behind a proxy that ends TLS, and does not know it"
	case withoutScheme(label) == withoutScheme(document):
		return text + "copy that into the label"
	}
	return text + "copy that into the label, and let the sidecar reach the provider under this name; another name that it has inside your network does not do"
}

// explainSilence is for what never got an answer.
func explainSilence(err error) error {
	var authority x509.UnknownAuthorityError
	var notTLS tls.RecordHeaderError
	switch cause := redactUpstream(err); {
	case errors.As(err, &authority):
		return fmt.Errorf("%w; if a private CA signed it, give the sidecar its certificate in a file that SSL_CERT_FILE names", cause)
	case errors.As(err, &notTLS), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w; what listens there speaks no TLS", cause)
	default:
		return cause
	}
}
