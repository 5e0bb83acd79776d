package issuer_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// documentHosts plays all hosts of client metadata documents: it has what is at each URL, and
// counts how often each was fetched.
type documentHosts struct {
	mu    sync.Mutex // guards the maps for one access
	at    map[string]func(*http.Request) (*http.Response, error)
	asked map[string]int
}

func (d *documentHosts) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	address := r.URL.String()
	if d.asked == nil {
		d.asked = map[string]int{}
	}
	d.asked[address]++
	answer := d.at[address]
	d.mu.Unlock()
	if answer == nil {
		return nil, errors.New("no route to " + address)
	}
	return answer(r)
}

// count returns how often a URL was fetched, or without a URL how often any was.
func (d *documentHosts) count(address string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if address != "" {
		return d.asked[address]
	}
	all := 0
	for n := range maps.Values(d.asked) {
		all += n
	}
	return all
}

func (d *documentHosts) handle(address string, answer func(*http.Request) (*http.Response, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at == nil {
		d.at = map[string]func(*http.Request) (*http.Response, error){}
	}
	d.at[address] = answer
}

// put makes a URL answer like this. headers are pairs of name and value.
func (d *documentHosts) put(address string, status int, body string, headers ...string) {
	d.handle(address, func(r *http.Request) (*http.Response, error) {
		h := http.Header{"Content-Type": {"application/json"}}
		for i := 0; i+1 < len(headers); i += 2 {
			h[headers[i]] = append(h[headers[i]], headers[i+1])
			if headers[i] == "Content-Type" {
				h[headers[i]] = []string{headers[i+1]}
			}
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewReader([]byte(body))), Request: r}, nil
	})
}

// fail makes a URL fail.
func (d *documentHosts) fail(address string) {
	d.handle(address, func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset by peer") })
}

const documentURL = "https://app.example/client.json"

// documentMembers returns the members of a good document at a URL, with some changed; a nil member
// is removed.
func documentMembers(address string, changes map[string]any) map[string]any {
	members := map[string]any{
		"client_id": address, "client_name": "Test App", "redirect_uris": []string{callback}, "token_endpoint_auth_method": "none",
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "client_uri": "https://app.example",
	}
	for name, v := range changes {
		if members[name] = v; v == nil {
			delete(members, name)
		}
	}
	return members
}

// publish puts a document at a URL and returns its application.
func (w *world) publish(address string, changes map[string]any) *app {
	w.docs.put(address, 200, mustJSON(w.t, documentMembers(address, changes)))
	return w.documentApp(address)
}

func (w *world) documentApp(address string) *app {
	return &app{w: w, base: w.wiki.PublicURL, id: address, redirect: callback, verifier: newVerifier(), state: "client-state"}
}

// page opens the authorization page of an app.
func (a *app) page(changes ...string) *issuertest.Page {
	a.w.t.Helper()
	return issuertest.NewBrowser(a.w.t, a.w.net).Get(a.authorizeURL(changes...))
}

// waitFor waits until holds is true, which another goroutine brings about.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatal("not within 5 s: " + what)
		case <-tick.C:
		}
	}
}

// The keys of clients are made once, because RSA keys take their time.
var (
	rsaKey = sync.OnceValue(func() *jose.JSONWebKey { return clientKey("rsa", must(rsa.GenerateKey(rand.Reader, 2048))) })
	ecKey  = sync.OnceValue(func() *jose.JSONWebKey { return clientKey("ec", must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))) })
	edKey  = sync.OnceValue(func() *jose.JSONWebKey { return clientKey("ed", newEdKey()) })
)

func newEdKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(rand.Text() + rand.Text())[:32])
}

func clientKey(kid string, key any) *jose.JSONWebKey { return &jose.JSONWebKey{Key: key, KeyID: kid} }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// jwks returns a JWK Set of keys, or of what a test puts in their place.
func jwks(keys ...any) map[string]any { return map[string]any{"keys": keys} }
