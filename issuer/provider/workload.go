package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Workload is what the issuer of a machine's JWT says of it, verified (RFC 7523 §3): a job of a CI
// system, a service account, a SPIFFE identity.
type Workload struct {
	Subject string // 1 to 255 bytes
	claims  claims
}

// workloadJWT refuses a JWT that says that it is something else: an access token, an identity
// assertion, a logout token (RFC 8725 §3.11).
var workloadJWT = grantKind{[]string{"", "jwt", "jose"}, "its typ is that of something else than a workload's JWT"}

// maxWorkloadLife bounds exp: a token that lives longer was not made for this.
const maxWorkloadLife = 24 * time.Hour

// Values are what stands in a claim, or at a dotted path: a text, a number or a boolean as it is
// written, and each entry of a list. Anything else is nothing.
func (w Workload) Values(path string) (all []string) {
	v, _ := w.claims.find(path)
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	for _, entry := range list {
		switch entry := entry.(type) {
		case string:
			all = append(all, entry)
		case bool:
			all = append(all, fmt.Sprint(entry))
		case json.Number:
			all = append(all, entry.String())
		}
	}
	return all
}

// WorkloadIssuer says who the JWT of a workload claims to be from, before anything of it is
// believed. The error is ErrAssertion.
func WorkloadIssuer(raw string) (string, error) { return workloadJWT.issuer(raw) }

// VerifyWorkload checks the JWT of a workload for the authorization server whose issuer identifier
// is audience. Whether the workload may come in is the caller's to say. It is not checked that the
// JWT comes only once: a service account's lies in a file and is used until it is replaced.
// thumbprint is that of the key which the request proves; empty: none. The error is ErrAssertion,
// or one of ErrAway where the keys cannot be read.
func (p *Provider) VerifyWorkload(ctx context.Context, raw, audience, thumbprint string) (Workload, error) {
	g, err := p.verifyGrant(ctx, workloadJWT, raw, audience, thumbprint)
	if err != nil {
		return Workload{}, err
	}
	if now := float64(p.all.Now().UnixMilli()) / 1e3; g.expires > now+maxWorkloadLife.Seconds()+sealing.Skew.Seconds() {
		return Workload{}, worthless(errors.New("it lives longer than a day: let the issuer make shorter ones"))
	}
	return Workload{g.subject, g.claims}, nil
}
