package rig

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/plugin/dpop/dpoptest"
)

// Prover is a client's key, to which its tokens are bound (RFC 9449), and what the client remembers
// of the server: one nonce for the origin, and always the newest (§8.2).
type Prover struct {
	key *dpoptest.Key

	mu    sync.Mutex
	nonce string
}

// NewProver makes a key for ES256 or EdDSA.
func NewProver(alg string) *Prover { return &Prover{key: dpoptest.NewKey(alg)} }

// Proof makes a proof for a request, with the newest nonce. Without a token there is no ath.
func (p *Prover) Proof(method, address, token string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	address, _, _ = strings.Cut(address, "?")
	return p.key.Proof(method, address, token, p.nonce, time.Now().Unix())
}

func (p *Prover) observe(h http.Header) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if nonce := h.Get("DPoP-Nonce"); nonce != "" {
		p.nonce = nonce
	}
}

// wantsNonce says whether an answer asks for a proof with its nonce (RFC 9449 §8, §9).
func (a *Answer) wantsNonce() bool {
	return a.Header.Get("DPoP-Nonce") != "" && (a.Status == http.StatusBadRequest && a.Member("error") == "use_dpop_nonce" ||
		a.Status == http.StatusUnauthorized && strings.Contains(strings.Join(a.Header.Values("WWW-Authenticate"), ","), `error="use_dpop_nonce"`))
}
