package issuer

import (
	"context"
	"io"
	"mime"
	"net/http"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
)

// Bounds of a report (docs/hop.md), which the plugin keeps too.
const (
	maxFigures   = 16 << 10 // bytes of the body
	maxPresented = 100      // logins
	maxReported  = 1 << 40  // of each count: sums must not overflow
	maxCauses    = 65       // of each kind: 64, and "other"
	maxLoginID   = 64       // bytes
	maxTokensID  = 2048     // bytes of a client_id
)

// figures are what a plugin has counted since its last report.
type figures struct {
	refusals, failures map[string]uint64
	presented          []map[string]string // sid and client_id
}

// takeFigures counts what only the plugin sees: POST /hop/figures.
func (s *Issuer) takeFigures(w http.ResponseWriter, r *http.Request, t *tenant) error {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return invalidRequest("the body must be application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFigures))
	if err != nil {
		return err
	}
	f, wrong := readFigures(body)
	if wrong != "" {
		return invalidRequest("the plugin's figures are not taken: " + wrong)
	}
	for cause, n := range f.refusals {
		s.Metrics.PluginRefused(t.Resource, cause, n)
	}
	for cause, n := range f.failures {
		s.Metrics.SidecarFailed(t.Resource, cause, n)
	}
	for _, p := range f.presented {
		s.present(t, p["sid"], p["client_id"])
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// readFigures reads a report as a whole or not at all: what is wrong with it, or nothing. go-jose's
// decoder refuses repeated members and compares names to the byte. presented_more is checked and
// not counted: those logins are told again.
func readFigures(body []byte) (f figures, wrong string) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return f, "not a JSON object, or a member is repeated"
	}
	if string(members["v"]) != "1" {
		return f, "another version than 1: upgrade the sidecar first, then the plugin"
	}
	delete(members, "v")
	var more uint64
	for name, into := range map[string]any{"refusals": &f.refusals, "failures": &f.failures, "presented": &f.presented, "presented_more": &more} {
		if text, sent := members[name]; sent && json.Unmarshal(text, into) != nil {
			return f, name + " is of another type"
		}
		delete(members, name)
	}
	if len(members) > 0 {
		return f, "a member is not known here: upgrade the sidecar first, then the plugin"
	}
	for _, counts := range []map[string]uint64{f.refusals, f.failures, {"": more}} {
		if len(counts) > maxCauses {
			return f, "too many causes"
		}
		for _, n := range counts {
			if n > maxReported {
				return f, "a count is too large"
			}
		}
	}
	if len(f.presented) > maxPresented {
		return f, "too many logins"
	}
	for _, p := range f.presented {
		sid, client := p["sid"], p["client_id"]
		if _, sent := p["client_id"]; !sent || len(p) != 2 || sid == "" || len(sid) > maxLoginID || len(client) > maxTokensID {
			return f, "presented has something else than sid and client_id, or one is too long"
		}
	}
	return f, ""
}

// present counts and records that a client has come with the access token of a login. Each Traefik
// that sees the login tells it: it counts once.
func (s *Issuer) present(t *tenant, login, clientID string) {
	if !s.presented.First(t.Resource, login) {
		return
	}
	s.Metrics.Stage(t.Resource, s.productOf(t, clientID), metrics.Presented)
	s.record(audit.LoginPresented, about{tenant: t, client: clientID, login: login})
}

// productOf returns the product of a client_id. No document is fetched for it: its URL says enough.
func (s *Issuer) productOf(t *tenant, clientID string) string {
	c := client{id: clientID}
	if !c.byDocument() {
		// What is not served any more still has a name, and what does not open has none.
		c, _ = s.openClient(context.Background(), t, clientID)
	}
	return c.product()
}
