package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// A prover is doctor's own key, for one run. It makes the proofs of RFC 9449 section 4.2 where a
// server takes no tokens but bound ones.
type prover struct {
	key   *ecdsa.PrivateKey
	nonce string // the last that the server gave
}

// proof proves the key for one request; token is empty where none comes along.
func (p *prover) proof(method, url, token string) string {
	for p.key == nil { // which a random number is, but for one in 2^32
		scalar := make([]byte, 32)
		rand.Read(scalar)
		p.key, _ = ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	}
	point, _ := p.key.PublicKey.Bytes() // 4, x, y
	encode := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`"jti":%q,"htm":%q,"htu":%q,"iat":%d`, rand.Text(), method, withoutQuery(url), time.Now().Unix())
	if p.nonce != "" {
		nonce, _ := json.Marshal(p.nonce) // whatever the server wrote
		claims += `,"nonce":` + string(nonce)
	}
	if token != "" {
		hash := sha256.Sum256([]byte(token))
		claims += `,"ath":"` + encode(hash[:]) + `"`
	}
	head := `{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":"` + encode(point[1:33]) + `","y":"` + encode(point[33:]) + `"}}`
	text := encode([]byte(head)) + "." + encode([]byte("{"+claims+"}"))
	hash := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, hash[:])
	if err != nil {
		return ""
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + encode(signature)
}

// demandsProofs says whether the server takes only tokens that are bound to a key (RFC 9728
// section 2).
func (d *doctor) demandsProofs() bool { return d.resource != nil && d.resource.Bound }

// askWithProof is ask for a request to the token endpoint of a server that demands proofs, or with
// a token of it. A server that wants a nonce is asked a second time with it.
func (d *doctor) askWithProof(ctx context.Context, method, raw string, header http.Header, body string) *answer {
	token, bound := strings.CutPrefix(header.Get("Authorization"), "Bearer ")
	if !d.demandsProofs() || !bound && (d.server == nil || raw != d.server.Token) {
		return d.askOnce(ctx, method, raw, header, body)
	}
	header = header.Clone()
	if bound {
		header.Set("Authorization", "DPoP "+token)
	} else {
		token = ""
	}
	for again := false; ; again = true {
		header.Set("DPoP", d.prover.proof(method, raw, token))
		a := d.askOnce(ctx, method, raw, header, body)
		nonce := a.header.Get("DPoP-Nonce")
		if nonce != "" {
			d.prover.nonce = nonce
		}
		code, _ := a.oauthError()
		if again || nonce == "" || code != "use_dpop_nonce" && !strings.Contains(a.header.Get("WWW-Authenticate"), "use_dpop_nonce") {
			return a
		}
	}
}
