package issuer

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"

	"github.com/mcpbouncer/mcpbouncer/plugin/dpop"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// A client may prove with a token request that it holds a key (RFC 9449). What it gets is bound to
// that key, so that a copy is worth nothing to whoever does not hold it.
//
// A proof is not remembered here. It travels beside what can be used up, or beside credentials of
// the client, and what comes out is bound to its key: whoever sends a copy of the whole request
// gets what only the client can use.

// proven returns the thumbprint (RFC 7638) of the key that a token request proves; empty: it brings
// no proof and needs none. It comes before anything that could be used up is looked at. It gives
// the answer a nonce where the client needs another one.
func (s *Issuer) proven(w http.ResponseWriter, r *http.Request, t *tenant, c client) (thumbprint string, err error) {
	if t.DPoP == dpopOff {
		return "", nil
	}
	proofs := r.Header.Values("DPoP")
	now := s.Now().Unix()
	renew := true
	defer func() {
		if renew {
			w.Header()["DPoP-Nonce"] = []string{t.nonces.Make(now)}
		}
	}()
	switch {
	case len(proofs) > 1: // RFC 9449 §4.3: the first check
		return "", invalidProof(dpop.ErrRepeated, "")
	case len(proofs) == 0 && t.DPoP == dpopRequire:
		return "", invalidProof(dpop.ErrNone, "the label dpop is require: use a client that sends proofs, or set it to accept")
	case len(proofs) == 0 && c.DPoPBound:
		return "", invalidProof(dpop.ErrNone, "the client said when it registered that it always sends one (dpop_bound_access_tokens)")
	case len(proofs) == 0:
		renew = false
		return "", nil
	}
	url := t.PublicURL + "/oauth/token"
	// A client that comes again once with the nonce that it was just given may meet a replica whose
	// clock is behind. No proof is remembered here, so none has to be forgotten in time.
	proof, err := dpop.Verify(proofs[0], &dpop.Want{Method: r.Method, URL: url, Nonces: t.nonces, Now: now, Ahead: int64(sealing.Skew.Seconds())})
	switch {
	case dpop.WantsNonce(err):
		return "", badRequest("use_dpop_nonce", "put the nonce of this answer's DPoP-Nonce header into the DPoP proof").because(err)
	case errors.Is(err, dpop.ErrURL):
		return "", invalidProof(err, "its htu must be "+url)
	case err != nil:
		return "", invalidProof(err, "")
	}
	renew = now-proof.NonceTime > dpop.NonceLife/2
	return proof.Thumbprint, nil
}

// errProof is in the chain of each refusal of a proof, errBinding of each refusal of what is bound
// to a key and comes without it.
var (
	errProof   = errors.New("proof of possession")
	errBinding = errors.New("bound to a key")
)

// invalidProof refuses a request for its proof (RFC 9449 §5). The client's developer is told what
// is wrong with it, the operator also what to do.
func invalidProof(why error, remedy string) *Error {
	cause := fmt.Errorf("%w: %w", errProof, why)
	if remedy != "" {
		cause = fmt.Errorf("%w; %s", cause, remedy)
	}
	return badRequest("invalid_dpop_proof", why.Error()).because(cause)
}

// holds refuses a code or a refresh token that is bound to another key than this request proves;
// nil: it is not bound, or to this key.
func (c client) holds(t *tenant, bound []byte) error {
	switch {
	case bound == nil || c.thumbprint != "" && c.thumbprint == base64.RawURLEncoding.EncodeToString(bound):
		return nil
	case t.DPoP == dpopOff:
		return invalidGrant("this login is bound to a key, and this server does not ask for keys any more; authorize again").
			because(errors.New("the label dpop is off, and the login began while it was not: with accept such logins go on"))
	case c.thumbprint == "":
		return badRequest("invalid_dpop_proof", "this is bound to a key: send a DPoP proof by that key").
			because(fmt.Errorf("%w, and came without a proof: a copy in somebody else's hands, or a client that lost its key", errBinding))
	}
	return invalidGrant("this is bound to another key; authorize again").
		because(fmt.Errorf("%w, and came with a proof by another: a copy in somebody else's hands, or a client that lost its key", errBinding))
}

// bind binds a login's refresh tokens to the key that a public client proves (RFC 9449 §5). What a
// confidential client gets is bound to its credentials already, and its key may change.
func (g *grant) bind(c client) {
	if c.public() && c.thumbprint != "" {
		g.Thumbprint = decodeThumbprint(c.thumbprint)
	}
}

// decodeThumbprint returns the 32 bytes of a thumbprint; nil if it is none.
func decodeThumbprint(text string) []byte {
	if !dpop.IsThumbprint(text) {
		return nil
	}
	b, _ := base64.RawURLEncoding.DecodeString(text) // it has been decoded before
	return b
}
