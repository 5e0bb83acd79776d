package issuer

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// tokenResponse is RFC 6749 §5.1.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope"`
}

// grantTypes are those of the metadata too.
var grantTypes = []string{"authorization_code", "refresh_token", "client_credentials"}

// token answers the grants. The client was authenticated before anything is looked at that could be
// used up.
func (s *Issuer) token(w http.ResponseWriter, r *http.Request, t *tenant, c client, form url.Values) error {
	grantType := form.Get("grant_type")
	if slices.Contains(grantTypes, grantType) && c.machine() != (grantType == "client_credentials") {
		return badRequest("unauthorized_client", "this client may not use this grant_type")
	}
	var resp tokenResponse
	var err error
	switch grantType {
	case "authorization_code":
		resp, err = s.redeemCode(r.Context(), t, c, form)
	case "refresh_token":
		resp, err = s.refresh(r.Context(), t, c, form)
	case "client_credentials":
		resp, err = s.clientCredentials(r.Context(), t, c, form)
	case "":
		err = invalidRequest("grant_type is missing")
	default:
		err = badRequest("unsupported_grant_type", "grant_type must be one of "+strings.Join(grantTypes, ", "))
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, resp)
	return nil
}

// tokenForm reads parameters from the body only, each at most once (RFC 6749 §3.2): one in the URL
// would stand in logs.
func tokenForm(r *http.Request) (url.Values, error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil, invalidRequest("the body must be application/x-www-form-urlencoded")
	}
	if r.URL.RawQuery != "" {
		return nil, invalidRequest("parameters belong into the body")
	}
	if err := r.ParseForm(); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, err
		}
		return nil, invalidRequest("the body is not a well-formed form")
	}
	for name, values := range r.PostForm {
		if len(values) > 1 && name != "resource" {
			return nil, invalidRequest("a parameter is repeated")
		}
	}
	return r.PostForm, nil
}

// redeemCode is RFC 6749 §4.1.3. Every check of ours comes before the upstream code is used up, so
// a thief without the verifier cannot spoil it, and the provider decides, last, whether this is the
// first time.
func (s *Issuer) redeemCode(ctx context.Context, t *tenant, c client, form url.Values) (tokenResponse, error) {
	var code authorizationCode
	sealedAt, err := s.openDated(sealing.KindCode, t, clientContext(c.hash()), form.Get("code"), &code)
	if err != nil {
		return tokenResponse{}, invalidGrant("the authorization code is not valid for this client, or too old").because(err)
	}
	if code.KeyRequired && !c.proved {
		return tokenResponse{}, errKeyMissing
	}
	// OAuth 2.1 §4.1.3 no longer asks for redirect_uri here; a client that sends it must mean the
	// same.
	if uri := form.Get("redirect_uri"); uri != "" && !redirecturi.Same(uri, code.RedirectURI) {
		return tokenResponse{}, invalidGrant("redirect_uri is not the one of the authorization request")
	}
	resource, err := t.narrowResource(form, code.Resource)
	if err != nil {
		return tokenResponse{}, err
	}
	if !verifyChallenge(code.Challenge, form.Get("code_verifier")) {
		return tokenResponse{}, invalidGrant("code_verifier does not match the code_challenge")
	}
	if err := s.redirectDenied(ctx, code.RedirectURI); err != nil {
		return tokenResponse{}, err
	}
	mark := code.mark(t)
	done, err := s.redeeming.turn(ctx, mark)
	if err != nil {
		return tokenResponse{}, temporarilyUnavailable("another request with this code is being answered; try again", err)
	}
	defer done()
	handBack, err := s.markCode(ctx, t, code, mark)
	if err != nil {
		return tokenResponse{}, err
	}
	var who identity
	var withheld []string
	if code.Identity != nil {
		who = *code.Identity
	} else {
		if who, withheld, err = s.redeem(ctx, t, code.Seed, string(code.UpstreamCode), false); err != nil {
			// Nothing was given for it. It may still be good; or it never was, and strangers who
			// invent codes would fill the guard with them.
			handBack()
			return tokenResponse{}, err
		}
		code.Scope = withoutScopes(code.Scope, withheld)
	}
	g := grant{Identity: who, Scope: code.Scope, Resource: code.Resource, Family: [16]byte(random(16)), Born: min(sealedAt.Unix(), s.Now().Unix()), KeyRequired: c.proved}
	if c.interchangeable() {
		g.Client, _ = base64.RawURLEncoding.DecodeString(sealing.Fingerprint(c.id))
	}
	if err := s.loginDenied(ctx, t, g); err != nil {
		return tokenResponse{}, err
	}
	if err := s.admitLogin(t, who, withheld); err != nil {
		return tokenResponse{}, err
	}
	if err := t.givesScope(g, ""); err != nil {
		return tokenResponse{}, err
	}
	next := renewal{grant: g, token: s.sealGrant(t, c, g)}
	next.Resource = resource // of the access token only
	return s.issue(t, c, next, "", "authorization_code")
}

// markCode asks the guard, if there is one, whether this is the first use of the upstream code. A
// guard that does not answer is passed over where the provider will be asked, and is not where
// nobody else counts. What it returns is for a redemption that failed (handOver); should that fail
// too, the person logs in again.
func (s *Issuer) markCode(ctx context.Context, t *tenant, code authorizationCode, mark replay.Key) (handBack func(), err error) {
	use, err := s.ReplayGuard.Use(ctx, mark)
	handBack = func() { s.handOver(context.WithoutCancel(ctx), mark, use) }
	switch {
	case err != nil:
		s.guardFailed(t, err)
		if code.Identity != nil || errors.Is(err, replay.ErrFull) {
			handBack() // it may have been made, and only the answer was lost
			return nil, temporarilyUnavailable("this server cannot tell at the moment whether the code was used before; try again", err)
		}
	case !use.First:
		s.counters.add(codesReused)
		return nil, invalidGrant("the authorization code was used before; authorize again")
	case use.Left != nil:
		s.unfinished.put(mark, use.Left, s.Now())
	}
	return handBack, nil
}

// mark is what the uses of the upstream code are counted by.
func (code authorizationCode) mark(t *tenant) (mark replay.Key) {
	if code.Identity == nil {
		return codeKey(t, string(code.UpstreamCode))
	}
	copy(mark[:], code.Mark)
	return mark
}

// The guard remembers a code for longer than any replica accepts it: the login's cookie, a skew
// longer and from a replica that is a skew ahead; then our code, which it is wrapped in, and its
// skew. A CodeLife that is shorter does not compile.
const _ = uint64(replay.CodeLife - (cookieLife + time.Minute + 3*sealing.Skew))

func codeKey(t *tenant, upstreamCode string) replay.Key {
	return sealing.ReplayMark(t.id, "code", upstreamCode)
}

// issue makes the answer and the operator's record of it: the log is the only list of sessions
// there is. asked may narrow the scope; empty means all.
func (s *Issuer) issue(t *tenant, c client, r renewal, asked, grantType string) (tokenResponse, error) {
	if err := s.admit(t, r.Identity); err != nil {
		return tokenResponse{}, err
	}
	// What is known of the person may have been read for labels of a moment ago: before a repeated
	// answer, or between callback and code.
	outdated := !r.Identity.machine && !t.claimNeeds.Within(r.Identity.Needs)
	if r.outcome.short() || outdated || r.Identity.UnreadSince != 0 {
		r.ends = s.Now().Add(shortLife)
	}
	scope := t.chosenScope(t.scopeOf(r.grant), asked)
	at := s.newAccessToken(t, c, r.grant, scope)
	s.Log.Info("token issued", "grant", grantType, t.named(),
		"client", sealing.Fingerprint(c.id), "subject", s.Ring.Pseudonym(t.id, r.Identity.Subject),
		"family", r.familyName(), "jti", at.id, "scope", scope, "seconds", int64(at.life/time.Second))
	return tokenResponse{AccessToken: at.text, TokenType: "Bearer", ExpiresIn: int64(at.life / time.Second), Scope: scope, RefreshToken: r.token}, nil
}

func (s *Issuer) sealGrant(t *tenant, c client, g grant) string {
	return s.seal(sealing.KindRefresh, t, c.binding, g)
}

// openGrant reads a refresh token of a client, and says when it was sealed. A token that was bound
// to the client_id, as all were once, opens as well.
func (s *Issuer) openGrant(t *tenant, c client, token string) (g grant, sealedAt time.Time, err error) {
	sealedAt, err = s.openDated(sealing.KindRefresh, t, c.binding, token, &g)
	if err != nil && c.interchangeable() {
		g = grant{}
		sealedAt, err = s.openDated(sealing.KindRefresh, t, clientContext(c.hash()), token, &g)
	}
	return g, sealedAt, err
}

// refreshContext binds refresh tokens to their client: to the client_id, which stands for a secret
// or a document's URL, or to what a public client registered. Presented by another client they do
// not open.
func refreshContext(c client) string {
	if c.interchangeable() {
		meaning := c.meaning()
		return "registration " + string(meaning[:])
	}
	return clientContext(c.hash())
}

var codeVerifier = regexp.MustCompile(`^[A-Za-z0-9._~-]+$`)

// verifyChallenge is RFC 7636 §4.6 for S256, the only method. An empty verifier never matches:
// there is no code without a challenge.
func verifyChallenge(challenge [sha256.Size]byte, verifier string) bool {
	sum := sha256.Sum256([]byte(verifier))
	return len(verifier) >= 43 && len(verifier) <= 128 && codeVerifier.MatchString(verifier) && subtle.ConstantTimeCompare(sum[:], challenge[:]) == 1
}
