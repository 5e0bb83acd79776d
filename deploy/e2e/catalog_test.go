package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// Traefik fetches the plugin from its catalog, here one of our own under the catalog's name, which
// has the source in the form of Go's module proxy. It asks the catalog whether these bytes are
// right, or knows their hash itself; then the plugin guards a route as the local one does.
func TestTraefikFetchesThePluginFromTheCatalog(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "plugin.zip")
	if out, err := exec.Command("go", "-C", filepath.Join(rig.Root(), "deploy", "release"), "run", ".", "module", "-version", "v0.1.0", "-out", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	archive, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	hash := fmt.Sprintf("%x", sha256.Sum256(archive))
	authority := rig.StartAuthority(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "for ", r.Header.Get("X-Mcp-Sub"))
	}))
	t.Cleanup(server.Close)
	for _, c := range []struct {
		name, hash string
		asked      []string
	}{
		{"as the catalog vouches for it", "", []string{"download", "validate " + hash}},
		{"with a hash in Traefik's configuration", hash, []string{"download"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			catalog := startCatalog(t, archive)
			plugin := map[string]any{"moduleName": rig.Module, "version": "v0.1.0"}
			if c.hash != "" {
				plugin["hash"] = c.hash
			}
			logs := &rig.Logs{}
			port := rig.FreePort(t)
			public := fmt.Sprintf("http://localhost:%d/wiki", port)
			rig.StartTraefik(t, logs, rig.TraefikConfig{
				WebPort: port, HopKey: rig.AuthorityHopKey,
				Env:    []string{"HTTPS_PROXY=" + catalog.proxy, "SSL_CERT_FILE=" + catalog.authority},
				Static: map[string]any{"experimental": map[string]any{"plugins": map[string]any{"fetched": plugin}}},
				File: map[string]any{"http": map[string]any{
					"routers": map[string]any{"wiki": map[string]any{"rule": rig.PathRule("/wiki"), "entryPoints": []string{"web"}, "middlewares": []string{"bouncer"}, "service": "wiki"}},
					"middlewares": map[string]any{"bouncer": map[string]any{"plugin": map[string]any{"fetched": map[string]any{
						"publicURL": public, "resource": "wiki", "providerIssuer": "https://accounts.google.com", "clientID": "x", "clientSecret": "env:X_CLIENT_SECRET", "sidecarURL": authority.URL,
					}}}},
					"services": map[string]any{"wiki": map[string]any{"loadBalancer": map[string]any{"servers": []any{map[string]any{"url": server.URL}}}}},
				}},
			})
			ask := func(token string) (int, string) {
				request, err := http.NewRequest(http.MethodGet, public+"/mcp", nil)
				if err != nil {
					t.Fatal(err)
				}
				if token != "" {
					request.Header.Set("Authorization", "Bearer "+token)
				}
				answer, err := http.DefaultClient.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				body, _ := io.ReadAll(answer.Body)
				return answer.StatusCode, string(body)
			}
			rig.WaitFor(t, "the route", func() error {
				if status, body := ask(""); status != http.StatusUnauthorized {
					return fmt.Errorf("%d %s\n%s", status, body, logs.Tail("traefik", 10))
				}
				return nil
			})
			if status, body := ask(authority.Token(public, "alice", 1)); status != http.StatusOK || !strings.HasPrefix(body, "for ") || body == "for " {
				t.Errorf("with a token: %d %s\n%s", status, body, logs.Tail("traefik", 10))
			}
			if got := catalog.requests(); strings.Join(got, ", ") != strings.Join(c.asked, ", ") {
				t.Errorf("the catalog was asked for %q, want %q", got, c.asked)
			}
		})
	}
}

// catalog stands in for plugins.traefik.io.
type catalog struct {
	proxy     string // leads to it
	authority string // file of its certificate

	mu   sync.Mutex
	seen []string
}

func (c *catalog) requests() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

func startCatalog(t *testing.T, archive []byte) *catalog {
	t.Helper()
	const host = "plugins.traefik.io"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c := &catalog{authority: filepath.Join(t.TempDir(), "authority.pem")}
	if err := os.WriteFile(c.authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	const of = "/" + rig.Module + "/v0.1.0"
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch r.URL.Path {
		case "/public/download" + of:
			c.seen = append(c.seen, "download")
			_, _ = w.Write(archive)
		case "/public/validate" + of:
			c.seen = append(c.seen, "validate "+r.Header.Get("X-Plugin-Hash"))
		default:
			c.seen = append(c.seen, r.URL.Path)
			http.NotFound(w, r)
		}
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	c.proxy = rig.StartTunnel(t, host, server.Listener.Addr().String())
	return c
}
