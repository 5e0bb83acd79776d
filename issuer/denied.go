package issuer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// The functions here refuse what the deny document (package deny) names, in the words of OAuth.

// errDenied is in the chain of each refusal because of the deny document.
var errDenied = errors.New("deny document")

// denyDocument returns the current document. Nobody is served before it was read once.
func (s *Issuer) denyDocument(ctx context.Context) (*deny.Document, error) {
	d, err := s.denied.Current(ctx)
	if err != nil {
		return nil, temporarilyUnavailable("this server cannot read its list of revocations", err)
	}
	return d, nil
}

// clientDenied is called wherever a client is known.
func (s *Issuer) clientDenied(ctx context.Context, clientID string) error {
	d, err := s.denyDocument(ctx)
	if err != nil || len(d.Clients) == 0 {
		return err
	}
	if fingerprint := sealing.Fingerprint(clientID); d.Client(fingerprint, s.Now()) {
		return (&Error{Status: http.StatusUnauthorized, Code: "invalid_client", Description: "This application is not served here any more."}).
			because(fmt.Errorf("%w: client %s", errDenied, fingerprint))
	}
	return nil
}

// redirectDenied is called where a person is asked about a redirect URI, and where a code that went
// there is redeemed.
func (s *Issuer) redirectDenied(ctx context.Context, redirectURI string) error {
	d, err := s.denyDocument(ctx)
	if err != nil || len(d.RedirectHosts) == 0 {
		return err
	}
	u, err := url.Parse(redirectURI)
	if err != nil {
		return err // a redirect URI that was accepted can be parsed
	}
	if !d.RedirectHost(u, s.Now()) {
		return nil
	}
	return (&Error{Status: http.StatusForbidden, Code: "access_denied", Description: "Applications at this address are not served here any more."}).
		because(fmt.Errorf("%w: redirect host %s", errDenied, weburl.HostOf(redirectURI)))
}

// loginDenied is called wherever a login gets a token.
func (s *Issuer) loginDenied(ctx context.Context, t *tenant, g grant) error {
	d, err := s.denyDocument(ctx)
	if err != nil || !d.JudgesLogins() {
		return err
	}
	login := deny.Login{
		ID: g.loginID(), Born: g.Born, PublicURL: t.PublicURL, Provider: t.ProviderIssuer, Subject: g.Identity.Subject,
		Client: base64.RawURLEncoding.EncodeToString(g.Client),
	}
	because := d.Login(login, s.Now())
	if because == "" {
		login.Provider, login.Subject = t.splitSubject(g.Identity.Subject)
		because = d.Login(login, s.Now())
	}
	if because == "" {
		return nil
	}
	return ofLogin(g, invalidGrant("this login was ended by the operator; authorize again").because(fmt.Errorf("%w: %s", errDenied, because)))
}

// keyDenied is called where a bearer key gets a token.
func (s *Issuer) keyDenied(ctx context.Context, id string) error {
	d, err := s.denyDocument(ctx)
	if err != nil {
		return err
	}
	if d.Key(id, s.Now()) {
		return invalidGrant("this key is not accepted any more").because(fmt.Errorf("%w: key %s", errDenied, id))
	}
	return nil
}

// hopDeny tells the plugin what it must not let pass until it expires by itself (docs/hop.md).
func (s *Issuer) hopDeny(w http.ResponseWriter, r *http.Request, t *tenant) error {
	d, err := s.denyDocument(r.Context())
	if err != nil {
		return err
	}
	body := must(json.Marshal(d.Part(t.PublicURL, t.ProviderIssuer, t.believed, s.Now())))
	sum := sha256.Sum256(body)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	writeBody(w, http.StatusOK, jsonType, body)
	return nil
}
