package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// registered is what a client has for its authorization request.
type registered struct {
	ClientID     string   `json:"client_id"`
	ClientSecret string   `json:"client_secret"`
	RedirectURIs []string `json:"redirect_uris"`
	AuthMethod   string   `json:"token_endpoint_auth_method"`
	// RFC 7592: what takes the registration back
	Management      string `json:"registration_client_uri"`
	ManagementToken string `json:"registration_access_token"`

	byDocument bool
}

// registrations gets each client its client_id, as it would itself.
func (d *doctor) registrations(ctx context.Context) {
	made, removed := 0, 0
	isLimited := false
	var limited []string            // clients that were not tried
	failed := map[string][]string{} // by what was seen
	findings := map[string]report.Finding{}
	fail := func(p program, f report.Finding) {
		key := fmt.Sprint(f.Note, f.Seen)
		if findings[key].Check == "" {
			findings[key] = f
		}
		failed[key] = append(failed[key], p.name)
	}
	for _, p := range programs {
		if d.ways[p.name].server == nil {
			continue
		}
		if d.ClientID != "" {
			d.registered[p.name] = &registered{ClientID: d.ClientID, ClientSecret: d.ClientSecret, RedirectURIs: []string{d.RedirectURI}}
			continue
		}
		if d.usesDocument(p) {
			d.registered[p.name] = &registered{ClientID: p.document, byDocument: true}
		}
		if !d.Register || d.server.Registration == "" {
			continue
		}
		var a *answer
		if !isLimited {
			a = d.ask(ctx, "POST", d.server.Registration, http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}, d.bodyOf(p))
			// What counts registrations has seen all of doctor's: that says nothing of one client.
			isLimited = a.status == http.StatusTooManyRequests
		}
		if isLimited {
			if !d.usesDocument(p) {
				limited = append(limited, p.name)
			}
			continue
		}
		r, err := readRegistration(a)
		if err != nil {
			f := d.explain(a)
			if code, description := a.oauthError(); a.err == nil && a.status == http.StatusBadRequest && code != "" {
				f = report.Finding{Fault: d.fault(report.Label), Remedy: "let the authorization server take this registration: " + report.Printable(description, 200), Page: d.page("docs/clients.md#applications-with-an-address-of-their-own")}
			}
			if d.leftOut(a) {
				f = byAllowedClients
			}
			f.Check, f.Expected, f.Seen = "registration", "201 with a client_id", err.Error()
			if d.usesDocument(p) {
				// It comes with its document as long as that is offered.
				f.Note, f.Fault = true, ""
			}
			fail(p, f)
			continue
		}
		made++
		if r.Management != "" && r.ManagementToken != "" && sameOrigin(r.Management, d.server.Registration) {
			if a := d.ask(ctx, "DELETE", r.Management, http.Header{"Authorization": {"Bearer " + r.ManagementToken}}, ""); a.err == nil && a.status/100 == 2 {
				removed++
				continue // what is gone cannot be used for the next step
			}
		}
		if dropped := without(redirectsOf(p), r.RedirectURIs); len(dropped) > 0 && len(r.RedirectURIs) > 0 && (!p.keepsOne || len(dropped) == len(redirectsOf(p))) {
			fail(p, report.Finding{Check: "registration", Expected: "the redirect URIs as they were sent", Seen: "without " + strings.Join(dropped, " "), Fault: d.fault(report.Label),
				Remedy: "let the server take this address", Page: d.page("docs/clients.md#applications-with-an-address-of-their-own")})
		}
		if d.registered[p.name] == nil {
			if len(r.RedirectURIs) == 0 {
				r.RedirectURIs = redirectsOf(p)
			}
			d.registered[p.name] = r
		}
	}
	for _, seen := range sortedKeys(findings) {
		f := findings[seen]
		if f.Note {
			f.Hinders = failed[seen]
		} else {
			f.Breaks = breaks(failed[seen])
		}
		d.found(&f)
	}
	if isLimited {
		d.note("registration", fmt.Sprintf("a rate limit (429) after %d registrations of doctor's own: these clients were not tried", made), "wait until the limit is over; --no-register leaves registrations out", d.page("docs/routes.md#a-rate-limit"), limited...)
	}
	switch {
	case d.ClientID != "":
	case !d.Register:
		d.note("registration", "not tried (--no-register)", "", "")
	case d.server.Registration == "":
	case d.ours:
		d.good("registration", fmt.Sprintf("%d clients registered; this server keeps nothing of it", made))
	case made > 0:
		d.note("registration", fmt.Sprintf("%d clients were registered with the bodies that real ones send, and %d taken back; the server may keep the others", made, removed), "--no-register leaves this out", "")
	}
}

// bodyOf is the body of a client's registration at this server.
func (d *doctor) bodyOf(p program) string {
	scope := d.scopeOf(p)
	if !p.namesScope || scope == "" {
		return p.registration
	}
	member, _ := json.Marshal(scope)
	return strings.TrimSuffix(p.registration, "}") + `,"scope":` + string(member) + "}"
}

func readRegistration(a *answer) (*registered, error) {
	r := &registered{}
	switch {
	case a.err != nil:
		return nil, a.err
	case a.status != http.StatusCreated && a.status != http.StatusOK:
		return nil, fmt.Errorf("%s", a)
	}
	if err := json.Unmarshal(a.body, r); err != nil || r.ClientID == "" {
		return nil, fmt.Errorf("%s, without a client_id", a)
	}
	return r, nil
}

// redirectsOf are those in the client's body.
func redirectsOf(p program) []string {
	var body struct {
		RedirectURIs []string `json:"redirect_uris"`
	}
	if err := json.Unmarshal([]byte(p.registration), &body); err != nil {
		panic("doctor: internal error: the body of " + p.name + " is not JSON")
	}
	return body.RedirectURIs
}

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(some, s) })
}

func sortedKeys(m map[string]report.Finding) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// byAllowedClients is what stops a client that the operator did not name.
var byAllowedClients = report.Finding{Fault: report.Label, Page: "docs/clients.md#which-clients-may-come",
	Remedy: "the label allowedClients leaves it out: if that is not meant, add it; the sidecar's line \"request refused\" has the entries that would let it in"}

// leftOut recognises the answer by its words, which stand in the page of a person too.
func (d *doctor) leftOut(a *answer) bool {
	return d.ours && a.err == nil && a.status == http.StatusBadRequest && bytes.Contains(a.body, []byte("This application is not one of those that may be used with this server."))
}
