package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/contract"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// swarmPageless is a program that shows no page. It brings identity assertions of a company's
// provider, or the JWT of a workload, and a new one each time.
type swarmPageless struct {
	swarmClient
	does  contract.Action // Assert or Work
	thief credentials     // another program at this server, which finds assertions
	own   credentials     // empty for a workload
	other *rig.Tenant     // the server that the program does not mean
}

// credentials are a client's that proves itself.
type credentials struct{ id, secret string }

func (c credentials) header() http.Header {
	h := formHeader.Clone()
	if c.id != "" {
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.id+":"+c.secret)))
	}
	return h
}

// newPageless makes one program of each kind for each tenant.
func (s *swarm) newPageless() (all []*swarmPageless) {
	for i, tn := range s.w.Tenants()[:2] {
		oauth, other := tn.Client(), s.w.Tenants()[1-i]
		if s.keys && i == 1 {
			oauth.Prover = rig.NewProver("ES256")
		}
		for _, does := range []contract.Action{contract.Assert, contract.Work} {
			p := &swarmPageless{swarmClient: swarmClient{swarm: s, tn: tn, oauth: oauth, name: fmt.Sprintf("%s at %s", does, tn.Name)}, does: does, other: other}
			if does == contract.Assert {
				p.own.id, p.own.secret = tn.CreateClientAt(oauth.Public, "Program", oauth.Redirect)
				p.thief.id, p.thief.secret = tn.CreateClientAt(oauth.Public, "Thief", oauth.Redirect)
			}
			all = append(all, p)
		}
	}
	return all
}

func (p *swarmPageless) live(steps []step) {
	for _, step := range steps {
		p.waitUntil(step.At)
		switch step.Do {
		case "bring":
			p.bring()
		case "call":
			if p.access == "" {
				p.bring()
			}
			p.call()
		case "bring at once":
			jwt := p.issued(p.tn)
			p.atOnce(step.N, func() (contract.Outcome, *tokens) { return p.present(jwt, 0) })
		case "bring and hang up":
			jwt := p.issued(p.tn)
			p.present(jwt, step.Cut)
			p.present(jwt, 0)
		case "bring, and again":
			p.present(p.bring(), 0)
		case "bring what is not for it":
			p.forged()
		default:
			p.t.Errorf("nobody knows how to %q", step.Do)
		}
	}
	// Whatever happened, the next one is taken.
	p.bring()
	p.call()
}

// bring brings a new one until it is answered, and returns the last.
func (p *swarmPageless) bring() (jwt string) {
	for range patience {
		jwt = p.issued(p.tn)
		if outcome, got := p.present(jwt, 0); outcome != contract.Unanswered {
			if got != nil {
				p.access, p.accessOf = got.access, jwt
			}
			return jwt
		}
		p.pause(retryAfter)
	}
	p.t.Errorf("%s did not get in", p.name)
	return jwt
}

// issued is what the company's provider, or the workload's issuer, signs for a server.
func (p *swarmPageless) issued(tn *rig.Tenant) string {
	typ, claims := "JWT", map[string]any{
		"iss": p.enterprise.Issuer, "sub": "repo:acme/wiki:environment:" + p.tn.Name, "aud": tn.PublicHTTP(), "repository": "acme/wiki",
		"iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(),
	}
	if p.does == contract.Assert {
		typ = "oauth-id-jag+jwt"
		maps.Copy(claims, map[string]any{"sub": p.enterprise.Subject, "client_id": p.own.id, "jti": rand.Text(), "resource": tn.PublicHTTP() + "/mcp"})
	}
	jwt, err := p.enterprise.Sign(p.t.Context(), typ, claims)
	if err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
	return jwt
}

func (p *swarmPageless) present(jwt string, cut time.Duration) (contract.Outcome, *tokens) {
	return p.token(contract.Op{Do: p.does, Value: p.nameOf(string(p.does), jwt)}, cut, p.own.header(), bearerForm(jwt))
}

// forged lets another program bring an assertion, which then serves its owner as before; of a
// workload's JWTs it brings one that is for another server.
func (p *swarmPageless) forged() {
	tn, by := p.tn, p.thief
	if p.does == contract.Work {
		tn, by = p.other, p.own
	}
	jwt := p.issued(tn)
	p.token(contract.Op{Do: p.does, Value: p.nameOf(string(p.does), jwt), Forged: true}, 0, by.header(), bearerForm(jwt))
	if tn == p.tn {
		p.present(jwt, 0)
	}
}

func bearerForm(jwt string) url.Values {
	return url.Values{"grant_type": {jwtBearer}, "assertion": {jwt}}
}
