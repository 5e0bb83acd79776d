package doctor_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// The TypeScript SDK's demonstration server (1.32) does so: clients work with it.
func TestDoctorSaysThatNobodyWasAskedAndBreaksNoClient(t *testing.T) {
	f := newForeign(t, func(f *foreign, mux *http.ServeMux) {
		mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if strings.Contains(q.Get("redirect_uri"), "attacker") || q.Get("code_challenge") == "" || strings.Contains(q.Get("resource"), "attacker") {
				http.Error(w, "no", http.StatusBadRequest)
				return
			}
			w.Header().Set("Location", q.Get("redirect_uri")+"?code=x&state="+q.Get("state"))
			w.WriteHeader(http.StatusFound)
		})
	})
	r, text := f.examine(t, nil)
	if !hasLine(text, "WRONG consent", "nobody was asked", "fault: server") || slices.ContainsFunc(r.Verdicts, func(v report.Verdict) bool { return !v.Works && !strings.Contains(v.Client, "Raycast") }) {
		t.Error(text)
	}
}
