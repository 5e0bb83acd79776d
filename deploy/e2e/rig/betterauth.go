package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// StartBetterAuth starts better-auth with its OAuth provider (../betterauth/server.mjs), everything
// in its memory.
func StartBetterAuth(t T, logs *Logs, redirect string) *RealProvider {
	p := newRealProvider(t, "better-auth 1.7.5", "/api/auth/oauth2/token")
	base := p.Issuer
	p.Issuer += "/api/auth"
	p.Scopes = "openid email profile offline_access"
	p.Advice = "a replay guard here; `refreshTokenReuseInterval`"
	var proc *Process
	p.runs(t, logs, "/ready", func() *Process {
		_, port, _ := strings.Cut(p.Backend, ":")
		args := []string{port, base, redirect, Password}
		for _, user := range Users {
			args = append(args, Address(user))
		}
		proc = Node(t, logs, "better-auth", "../betterauth/server.mjs", args...)
		return proc
	})
	p.Stop = nil
	p.Clients = map[string]Client{}
	if err := json.Unmarshal([]byte(proc.Say(t, logs, betterAuthClients)), &p.Clients); err != nil {
		t.Fatalf("rig: better-auth: %v", err)
	}
	// Its pages are the program's own: here they post at once what a person would.
	p.Prepare = func(b *Browser) {
		b.Meets = func(ctx context.Context, r *http.Request) (*http.Request, error) {
			for range 4 {
				var path string
				var body map[string]any
				switch {
				case !strings.HasPrefix(r.URL.String(), base):
					return r, nil
				case r.URL.Path == "/login":
					path, body = "/sign-in/email", map[string]any{"email": Address(b.Username), "password": b.Password}
				case r.URL.Path == "/consent":
					path, body = "/oauth2/consent", map[string]any{"accept": true}
				default:
					return r, nil
				}
				body["oauth_query"] = r.URL.RawQuery
				page, err := b.post(ctx, p.Issuer+path, body)
				if err != nil {
					return nil, err
				}
				to := page.Header.Get("Location")
				var answer map[string]any
				_ = json.Unmarshal([]byte(page.Body), &answer)
				for _, name := range []string{"url", "redirect_uri"} {
					if s, _ := answer[name].(string); s != "" && to == "" {
						to = s
					}
				}
				if to == "" {
					return nil, page
				}
				u, err := r.URL.Parse(to)
				if err != nil {
					return nil, err
				}
				if r, err = http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil); err != nil {
					return nil, err
				}
			}
			return r, nil
		}
	}
	ask := func(what, user string) func() {
		return func() {
			administer(t, http.DefaultClient, http.MethodPost, "http://"+p.Backend+"/rig/"+what+"?email="+url.QueryEscape(Address(user)), nil, nil)
		}
	}
	p.Remove = []Removal{{"deleted", Users[1], ask("delete", Users[1])}, {"sessions deleted", Users[2], ask("sessions", Users[2])}}
	p.RotateKeys = ask("keys", Users[0])
	return p
}

var betterAuthClients = regexp.MustCompile(`(?m)^(\{"basic":.*\})$`)

// post is a page's script that posts JSON.
func (b *Browser) post(ctx context.Context, u string, body any) (*Page, error) {
	return b.send(ctx, http.MethodPost, u, body)
}

func (b *Browser) send(ctx context.Context, method, u string, body any) (*Page, error) {
	content, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, u, io.NopCloser(bytes.NewReader(content)))
	if err != nil {
		return nil, err
	}
	r.ContentLength = int64(len(content))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", fmt.Sprintf("%s://%s", r.URL.Scheme, r.URL.Host))
	return b.load(r)
}
