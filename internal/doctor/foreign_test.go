package doctor_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
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
			w.Header().Set("Location", q.Get("redirect_uri")+"?code=x&iss="+url.QueryEscape(f.URL)+"&state="+q.Get("state"))
			w.WriteHeader(http.StatusFound)
		})
	})
	r, text := f.examine(t, nil)
	if !hasLine(text, "WRONG consent", "nobody was asked", "fault: server") || slices.ContainsFunc(r.Verdicts, func(v report.Verdict) bool { return !v.Works && !strings.Contains(v.Client, "Raycast") }) {
		t.Error(text)
	}
}

// answersAtOnce sends everybody back with a code.
func answersAtOnce(mux *http.ServeMux) {
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.FormValue("redirect_uri")+"?code=x&state="+r.FormValue("state"), http.StatusFound)
	})
}

// Each of these is another server's way that real clients live with.
func TestDoctorSaysWhomAWayOfAnotherServerHinders(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(f *foreign, mux *http.ServeMux)
		line  []string
		works string // a client that works, but
	}{
		{"a loopback address with its own port only", func(_ *foreign, mux *http.ServeMux) {
			mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
				if uri := r.FormValue("redirect_uri"); strings.Contains(uri, ":51234/") || strings.Contains(uri, "attacker") {
					w.WriteHeader(http.StatusBadRequest)
					fmt.Fprint(w, `{"error":"invalid_request","error_description":"Unregistered redirect_uri"}`)
				}
			})
		}, []string{"WRONG authorization: ", "for http://127.0.0.1:51234/, which was registered with another port", "fault: server; hinders: VS Code;", "RFC 8252 section 7.3"}, "VS Code"},
		{"answers without iss, which nobody promised", func(f *foreign, mux *http.ServeMux) {
			delete(f.server, "authorization_response_iss_parameter_supported")
			answersAtOnce(mux)
		}, []string{"WRONG iss: expected iss in the answer with the code; seen none; fault: server; breaks: Gemini CLI;"}, ""},
		{"answers without iss, which was promised", func(_ *foreign, mux *http.ServeMux) { answersAtOnce(mux) },
			[]string{"WRONG iss: ", "as the metadata promises", "breaks: every client"}, ""},
		{"a resource above", func(f *foreign, _ *http.ServeMux) { f.resource["resource"] = f.URL },
			[]string{"WRONG resource: ", "hinders: VS Code, Go SDK;"}, "Go SDK"},
		{"a challenge that pages do not see", func(f *foreign, mux *http.ServeMux) {
			f.everywhere = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Access-Control-Allow-Origin", "*")
				w.Header().Set("Access-Control-Allow-Headers", "authorization, content-type, mcp-protocol-version")
				return r.Method == http.MethodOptions
			}
		}, []string{"note  CORS: ", "of the 401 everything but WWW-Authenticate", "hinders: use-mcp and other pages of browsers"}, "use-mcp and other pages of browsers"},
		{"a limit for registrations", func(_ *foreign, mux *http.ServeMux) {
			var n atomic.Int32
			mux.HandleFunc("POST /register", func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) > 3 {
					w.WriteHeader(http.StatusTooManyRequests)
					return
				}
				w.WriteHeader(http.StatusCreated)
				fmt.Fprint(w, `{"client_id":"c1"}`)
			})
		}, []string{"note  registration: ", "a rate limit (429) after 3 registrations of doctor's own", "hinders: VS Code, Cursor, Codex, "}, "Codex"},
		{"registrations without null", func(_ *foreign, mux *http.ServeMux) {
			mux.HandleFunc("POST /register", func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if strings.Contains(string(body), "null") {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				w.WriteHeader(http.StatusCreated)
				fmt.Fprint(w, `{"client_id":"c1"}`)
			})
		}, nil, "Python SDK"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, text := newForeign(t, c.spoil).examine(t, nil)
			if len(c.line) > 0 && !hasLine(text, c.line...) {
				t.Errorf("no line with %q\n%s", c.line, text)
			}
			for _, v := range r.Verdicts {
				if v.Client == c.works && (!v.Works || len(v.But) == 0 && len(c.line) > 0) {
					t.Errorf("%+v\n%s", v, text)
				}
			}
		})
	}
}
