//go:build go1.21

package plugin

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/mcpbouncer/mcpbouncer/plugin/dpop"
)

// A token may be bound to a key of its client (RFC 9449, label dpop). It comes with the scheme DPoP
// and with a proof that the key is there, made for this request alone. The package dpop reads
// proofs. Here they are asked for, compared with the token, and let through only once.
//
// Requests with other tokens do not pass through this file.

// These errors say why a request is refused, as those of accesstoken.go do. The names of their
// causes (figures.go) decide how they are answered: proof_… is invalid_dpop_proof.
var (
	errReplayed     = errors.New("the DPoP proof was used before")
	errOtherKey     = errors.New("the DPoP proof is made with another key than the one that the access token is bound to")
	errUnbound      = errors.New("the access token is bound to no key, so it cannot come with the scheme DPoP")
	errOnlyBound    = errors.New("the access token is bound to no key, and this server takes only tokens that are")
	errOnlyProof    = errors.New("a bearer key proves no key, and this server takes only tokens that are bound to one")
	errBound        = errors.New("the access token is bound to a key, so it must come with the scheme DPoP and a proof")
	errProofsAreOff = errors.New("the access token is bound to a key, and this server takes no proofs")
)

// The values of the label dpop.
const (
	proofsOff     = "off"
	proofsAccept  = "accept"
	proofsRequire = "require"
)

// proofHeader is the header DPoP as Go spells it. nonceHeader is DPoP-Nonce.
const (
	proofHeader = "Dpop"
	nonceHeader = "Dpop-Nonce"
)

// comesWithProof says whether credentials have the scheme DPoP (RFC 9449 §7.1).
func comesWithProof(credentials []string) bool {
	if len(credentials) != 1 {
		return false
	}
	value := credentials[0]
	return strings.HasPrefix(value, "DPoP ") || len(value) > 4 && value[4] == ' ' && strings.EqualFold(value[:4], "DPoP")
}

// boundToken returns the token of credentials with the scheme DPoP.
func boundToken(credentials []string) string { return credentials[0][len("DPoP "):] }

// boundName is under what a tokenCache remembers a bound token. No header value holds a line break.
// So no request can name such a token by its Authorization header alone, and recallIdentity on the
// short way never finds one: a bound token is good only together with a proof.
func boundName(token string) []string { return []string{"\n" + token} }

// protectByProof is protect for credentials of the scheme DPoP.
func protectByProof(b *bouncer, rw http.ResponseWriter, req *http.Request, e *endpoint) {
	at := now().Unix()
	nonces, err := noncesOf(e.sidecar.proofs, e.tenant, at)
	if err != nil {
		countFailure(e.sidecar.figures, "hop_key")
		complain(b.name, "hop", err.Error())
		dropSaid(req.Header)
		answerUnavailable(rw, req, http.StatusServiceUnavailable)
		return
	}
	id, proof, err := authenticateByProof(e, req, nonces, at)
	// RFC 9449 §8.2: a client is given its next nonce before the one that it has is too old. One
	// that is refused needs one in any case.
	if err != nil || at-proof.NonceTime > dpop.NonceLife/2 {
		rw.Header()[nonceHeader] = []string{nonces.Make(newestNonce(e.sidecar.proofs, at))}
	}
	if err != nil {
		refuse(e, rw, req, err)
		return
	}
	if !e.kept {
		keepEndpoint(b, req, e)
	}
	pass(b, rw, req, e, id)
	complainOfOwnChallenge(b, rw.Header(), e)
}

// authenticateByProof finds out who sends a request, as authenticate does. The token is judged
// before the proof: a client whose token has expired needs another one, whatever its proof says.
func authenticateByProof(e *endpoint, req *http.Request, nonces *dpop.Nonces, at int64) (*identity, *dpop.Proof, error) {
	token := boundToken(req.Header["Authorization"])
	// RFC 9449 §4.3 item 1. With two, the plugin and something behind it might each look at
	// another.
	proofs := req.Header[proofHeader]
	if len(proofs) == 0 {
		return nil, nil, dpop.ErrNone
	}
	if len(proofs) > 1 {
		return nil, nil, dpop.ErrRepeated
	}
	t := e.tenant
	id, err := identityOfBound(t, req, token)
	if err != nil {
		return nil, nil, err
	}
	// The URL is that of the label publicURL, or of the host that Traefik vouches for. A header
	// that a client sends has no part in it (§4.3 item 9).
	proof, err := dpop.Verify(proofs[0], &dpop.Want{Method: req.Method, URL: t.origin + req.URL.EscapedPath(), AccessToken: token, Nonces: nonces, Now: at})
	if err != nil {
		return nil, nil, err
	}
	// §4.3 item 12: whoever copied the token has no such key.
	if proof.Thumbprint != id.thumbprint {
		return nil, nil, errOtherKey
	}
	if err := useProof(e.sidecar.proofs, proof, at); err != nil {
		return nil, nil, err
	}
	return id, proof, nil
}

// identityOfBound verifies a token that comes with a proof, or remembers it. Whoever calls it looks
// at the proof.
func identityOfBound(t *tenant, req *http.Request, token string) (*identity, error) {
	if len(token) > maxToken {
		return nil, errMalformed
	}
	name := boundName(token)
	id := recallIdentity(t.sidecar, name)
	if id != nil {
		return id, nil
	}
	id = reviveIdentity(t, req, name)
	if id != nil {
		return id, nil
	}
	return verifyToken(t, req, name[0], token, proofKnown)
}

// The ways in which a token comes, for verifyToken.
const (
	asBearer   = 0
	asKey      = 1 // a bearer key was exchanged for it
	proofKnown = 2 // with the scheme DPoP
)

// bind compares how a token came with what it is bound to (RFC 9449 §6.1, §7.1). It is not called
// for a bearer token without cnf where no proofs are taken.
func bind(t *tenant, token *accessToken, way int) error {
	thumbprint := ""
	if token.claims.Confirmation != nil {
		confirmation, _ := token.claims.Confirmation.(map[string]any)
		thumbprint, _ = confirmation["jkt"].(string)
		if thumbprint == "" { // bound to something that is not known here
			return errMalformed
		}
	}
	switch {
	case thumbprint != "" && t.dpop == proofsOff:
		return errProofsAreOff
	case thumbprint != "" && way != proofKnown:
		return errBound // §7.2: otherwise a thief would only have to change the scheme
	case thumbprint == "" && way == proofKnown:
		return errUnbound
	case thumbprint == "" && t.dpop == proofsRequire:
		return errOnlyBound
	}
	token.identity.thumbprint = thumbprint
	return nil
}

// refuseScheme says why a token with the scheme DPoP is refused where no proofs are taken. The
// token is verified first: nobody without one may make the log say that the label was taken back.
func refuseScheme(t *tenant, req *http.Request, credentials []string) (*identity, error) {
	token := boundToken(credentials)
	if len(token) > maxToken {
		return nil, errMalformed
	}
	return verifyToken(t, req, boundName(token)[0], token, proofKnown)
}

// complainOfProofs tells the operator what a token that is bound does at a server that takes no
// proofs.
func complainOfProofs(t *tenant, err error) {
	if !errors.Is(err, errProofsAreOff) {
		return
	}
	complain(t.hop.name, "dpop", "a client sends a token that is bound to a key, and the label dpop is off: it got the token while the label was accept or require, and has to log in again. To let such clients go on, set the label to accept")
}

// refuseKey says under what label dpop a bearer key is no way in: it is copied as easily as any
// other text.
func refuseKey(t *tenant) error {
	if t.dpop != proofsRequire {
		return nil
	}
	complain(t.hop.name, "dpop", "a bearer key is refused, since the label dpop is require and nothing is bound to a key with it: let its machine come as a client that proves a key (mcpbouncer client create), or set the label to accept")
	return errOnlyProof
}

// refuseAsProver is refuse for a tenant that takes proofs.
//
// RFC 9449 §7.1: the challenge has the scheme of the request. To a request without a token both are
// offered where both are good, each in a header line of its own and Bearer first: some clients read
// the first line, some the first scheme, and most know only Bearer.
func refuseAsProver(e *endpoint, rw http.ResponseWriter, req *http.Request, err error) {
	status := http.StatusUnauthorized
	code := "unauthorized"
	why := faultOfToken(e, err)
	end := endOfChallenge(e, req, err)
	cause := causes[err.Error()]
	switch {
	case errors.Is(err, errKeysUnavailable):
		answerUnavailable(rw, req, http.StatusServiceUnavailable)
		return
	case errors.Is(err, errNoToken):
		complainOfTwo(e, req)
		why = ""
	case errors.Is(err, errRepeated):
		status = http.StatusBadRequest
		code = "invalid_request"
		why = `error="invalid_request", error_description="` + err.Error() + `", `
	case errors.Is(err, errScope):
		status = http.StatusForbidden
		code = "insufficient_scope"
		why = `error="insufficient_scope", `
	case dpop.WantsNonce(err):
		why = `error="use_dpop_nonce", error_description="` + err.Error() + `", `
	case strings.HasPrefix(cause, "proof_"):
		why = `error="invalid_dpop_proof", error_description="` + err.Error() + `", `
	default:
		complainOfTwo(e, req)
	}
	body := `{"error":"` + code + `"}`
	if e.tenant.dpop == proofsRequire || comesWithProof(req.Header["Authorization"]) {
		answerChallenge(rw, req, status, []string{"DPoP " + why + algs + ", " + end}, body)
		return
	}
	first := "Bearer " + why + end
	if why == "" {
		first = challengeWithoutToken(req, e)
	}
	answerChallenge(rw, req, status, []string{first, "DPoP " + algs}, body)
}

const algs = `algs="` + dpop.Algorithms + `"`

// challengeFor is the challenge to somebody who was let in, for a request that needs more.
func challengeFor(id *identity, parameters string) []string {
	if id.thumbprint != "" {
		return []string{"DPoP " + parameters + ", " + algs}
	}
	return []string{"Bearer " + parameters}
}

// proofMemory knows each proof that was let through, for as long as its nonce would let it through
// again. The sidecarStates of one origin have one, so neither a reload of Traefik's configuration
// nor a change of labels clears it.
//
// What it holds to: a proof whose nonce is not older than oldest and was let through is in young or
// old. To forget, it makes oldest later. Then clients whose nonces are older are asked to come
// again with a new one. So nothing that is full or new lets a copied proof pass, and nobody has to
// log in again. Where the clock was set back by minutes it must forget too, or all would be shut
// out until their time comes again: only then may a copy pass once more.
//
// A proof belongs to young or old by the time of its nonce, and nonces are good for less than
// generationLife: what has left both is refused by its age.
type proofMemory struct {
	mu         sync.Mutex
	generation int64 // of young: time of a nonce / generationLife
	young      map[[16]byte]bool
	old        map[[16]byte]bool
	most       int   // proofs in young and old together
	oldest     int64 // Unix seconds
	newest     int64 // of the nonces that came with proofs since forget; 0: none

	key    []byte // the hop key of nonces
	nonces *dpop.Nonces
}

const generationLife = dpop.NonceLife + dpop.NonceAhead // seconds

// maxProofs bounds what a proofMemory holds. At more than about 90 requests a second each client is
// asked for a new nonce after so many requests of all. Nothing gets in here without a bound token
// and its key.
const maxProofs = 1 << 16

// forget begins anew, with nonces from oldest on. m.mu is held, or nobody knows m yet.
func (m *proofMemory) forget(oldest int64) {
	m.oldest = oldest
	m.newest = 0
	m.generation = m.oldest / generationLife
	m.young = map[[16]byte]bool{}
	m.old = map[[16]byte]bool{}
}

// newProofMemory knows nothing of the proofs that were let through before. The last of them may
// have had a nonce of a machine whose clock is ahead.
func newProofMemory(at int64) *proofMemory {
	m := &proofMemory{most: maxProofs}
	m.forget(at + dpop.Apart)
	return m
}

// prepareForProofs gives a state a memory of proofs: that of its origin, if another state has one.
// A proof is for a URL and a token, and both may come to middlewares with other labels: on another
// router, or before and after a change.
func prepareForProofs(s *sidecarState) {
	sidecarStates.Lock()
	defer sidecarStates.Unlock()
	if s.proofs != nil {
		return
	}
	for _, other := range sidecarStates.named[s.origin] {
		if other.proofs != nil {
			s.proofs = other.proofs
			return
		}
	}
	for _, other := range sidecarStates.strangers {
		if other.origin == s.origin && other.proofs != nil {
			s.proofs = other.proofs
			return
		}
	}
	s.proofs = newProofMemory(now().Unix())
}

// useProof lets a proof through, once.
func useProof(m *proofMemory, p *dpop.Proof, at int64) error {
	name := nameOf(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.oldest > at+dpop.NonceAhead { // the clock was set back
		m.forget(at + dpop.Apart)
	}
	if p.NonceTime < m.oldest {
		return dpop.ErrNonceOld
	}
	if m.young[name] || m.old[name] {
		return errReplayed
	}
	generation := p.NonceTime / generationLife
	if generation > m.generation {
		m.turn(generation)
	}
	if len(m.young)+len(m.old) >= m.most {
		m.makeRoom(at)
		return dpop.ErrNonceOld
	}
	if m.newest < p.NonceTime {
		m.newest = p.NonceTime
	}
	if generation == m.generation {
		m.young[name] = true
	} else {
		m.old[name] = true
	}
	return nil
}

// makeRoom forgets all proofs, unless a nonce that none of them had would be too far ahead; m.mu is
// held. Then it is a second later before the next try has another outcome.
func (m *proofMemory) makeRoom(at int64) {
	oldest := at + dpop.Apart
	if oldest <= m.newest {
		oldest = m.newest + 1
	}
	if oldest <= at+dpop.NonceAhead {
		m.forget(oldest)
	}
}

// turn makes the young ones old, and forgets the old ones; m.mu is held.
func (m *proofMemory) turn(generation int64) {
	m.old = map[[16]byte]bool{}
	if generation == m.generation+1 {
		m.old = m.young
	}
	m.young = map[[16]byte]bool{}
	m.generation = generation
	first := (generation - 1) * generationLife
	if m.oldest < first {
		m.oldest = first
	}
}

// nameOf is under what a proof is remembered: 16 bytes of a hash over the thumbprint, which has 43
// characters, and the jti. The keys of two clients must not be able to spend each other's jti.
func nameOf(p *dpop.Proof) [16]byte {
	hash := sha256.Sum256([]byte(p.Thumbprint + p.ID))
	var name [16]byte
	copy(name[:], hash[:16])
	return name
}

// newestNonce is the time of the nonces that clients are given.
func newestNonce(m *proofMemory, at int64) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.oldest > at && m.oldest <= at+dpop.NonceAhead {
		return m.oldest
	}
	return at
}

// noncesOf returns the nonces of a tenant. They change with the hop key.
func noncesOf(m *proofMemory, t *tenant, at int64) (*dpop.Nonces, error) {
	ticket, err := t.hop.header(at)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nonces == nil || !bytes.Equal(m.key, ticket.key) {
		m.key = ticket.key
		m.nonces = dpop.NewNonces(dpop.NonceKey(ticket.key, t.publicURL))
	}
	return m.nonces, nil
}
