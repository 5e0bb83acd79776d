package issuer

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/plugin/dpop"
)

// grantTypes are what grant_type may be. The metadata lists the same.
func (t *tenant) grantTypes() []string {
	all := []string{"authorization_code", "refresh_token", "client_credentials"}
	if len(t.believed) > 0 {
		all = append(all, jwtBearerGrant)
	}
	return all
}

// grantProfiles are the kinds of assertion that are taken from clients.
func (t *tenant) grantProfiles() []string {
	if len(t.EnterpriseIssuers) == 0 {
		return nil
	}
	return []string{idJAGProfile}
}

// proofAlgorithms are what DPoP proofs may be signed with; nil: none are looked at.
func (t *tenant) proofAlgorithms() []string {
	if t.DPoP == dpopOff {
		return nil
	}
	return strings.Fields(dpop.Algorithms)
}

// tokenEndpoint is token for a client that authenticates, and for a workload, which is no client.
func (s *Issuer) tokenEndpoint(w http.ResponseWriter, r *http.Request, t *tenant) error {
	form, err := tokenForm(r)
	if err != nil {
		return err
	}
	switch {
	case !t.bringsWorkload(form):
		return s.authenticated(s.token)(w, r, t)
	case bringsCredentials(r, form):
		// They are not needed, and must be good where they come (RFC 7523 §3.1).
		return s.authenticated(func(w http.ResponseWriter, r *http.Request, t *tenant, _ client, form url.Values) error {
			return s.workloadToken(w, r, t, form)
		})(w, r, t)
	}
	return s.workloadToken(w, r, t, form)
}

func (s *Issuer) workloadToken(w http.ResponseWriter, r *http.Request, t *tenant, form url.Values) error {
	thumbprint, err := s.proven(w, r, t, client{})
	if err != nil {
		return err
	}
	resp, err := s.workload(r.Context(), t, form, thumbprint)
	if err != nil {
		return err
	}
	writeBody(w, http.StatusOK, jsonType, resp.written())
	return nil
}

// token handles RFC 6749 §3.2 for each grant_type. The client has proved itself by then, before
// anything that could be used up is looked at.
func (s *Issuer) token(w http.ResponseWriter, r *http.Request, t *tenant, c client, form url.Values) error {
	grantType := form.Get("grant_type")
	offered := slices.Contains(t.grantTypes(), grantType)
	if offered && c.machine() != (grantType == "client_credentials") {
		why := "it was made for client_credentials: for another grant make one without --grant"
		if !c.machine() {
			why = "client_credentials is for clients that `mcpbouncer client create --grant client_credentials` makes"
		}
		return badRequest("unauthorized_client", "this client may not use this grant_type").because(errors.New(why))
	}
	var resp tokenResponse
	var err error
	if c.thumbprint, err = s.proven(w, r, t, c); err != nil {
		return err
	}
	switch {
	case grantType == "":
		err = invalidRequest("grant_type is missing")
	case !offered:
		err = badRequest("unsupported_grant_type", "grant_type must be one of "+strings.Join(t.grantTypes(), ", "))
	case grantType == "authorization_code":
		resp, err = s.redeemCode(r.Context(), t, c, form)
	case grantType == "refresh_token":
		resp, err = s.refresh(r.Context(), t, c, form)
	case grantType == "client_credentials":
		resp, err = s.clientCredentials(r.Context(), t, c, form)
	default:
		resp, err = s.jwtBearer(r.Context(), t, c, form)
	}
	if err != nil {
		return err
	}
	writeBody(w, http.StatusOK, jsonType, resp.written())
	return nil
}
