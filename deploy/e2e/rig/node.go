package rig

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Node starts a program of ../node under the Node.js that is pinned there.
func Node(t T, logs *Logs, name, program string, args ...string) *Process {
	t.Helper()
	return NodeWith(t, logs, nil, name, program, args...)
}

// NodeWith is Node with further variables.
func NodeWith(t T, logs *Logs, env []string, name, program string, args ...string) *Process {
	t.Helper()
	return StartProcess(t, logs, name, NodeCommand(t, env, program, args...))
}

// NodeCommand is such a program, not yet started.
func NodeCommand(t T, env []string, program string, args ...string) *exec.Cmd {
	t.Helper()
	dir := filepath.Join(Root(), "deploy", "e2e", "node")
	cmd := exec.Command(Installed(t, "node/node_modules/node-linux-*/bin/node"), append([]string{filepath.Join(dir, filepath.FromSlash(program))}, args...)...)
	cmd.Dir = t.TempDir()
	// Nothing of the surroundings: no proxy, no options, no npm settings.
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "NO_COLOR=1"}, env...)
	return cmd
}

// Installed names a file of deploy/e2e that comes from npm. Where a pattern matches several, it is
// the first.
func Installed(t T, pattern string) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(Root(), "deploy", "e2e", filepath.FromSlash(pattern)))
	if len(found) == 0 {
		t.Fatalf("rig: %s is not installed, run deploy/e2e/tools.sh", pattern)
	}
	return found[0]
}

// DocumentHost serves client metadata documents over TLS, as a vendor's web site does.
type DocumentHost struct {
	Addr string // host:port, for BOUNCER_TRUSTED_METADATA_HOSTS
	CA   []byte // its certificate, PEM

	url  string
	mu   sync.Mutex
	docs map[string][]byte
	read map[string]int
}

// StartDocumentHost starts the host.
func StartDocumentHost(t T) *DocumentHost {
	h := &DocumentHost{docs: map[string][]byte{}, read: map[string]int{}}
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	h.url, h.Addr = srv.URL, strings.TrimPrefix(srv.URL, "https://")
	h.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	return h
}

// Publish puts a document at path, with the client_id that this makes, which is returned.
func (h *DocumentHost) Publish(t T, path string, document map[string]any) string {
	t.Helper()
	document["client_id"] = h.url + path
	b, err := json.Marshal(document)
	if err != nil {
		t.Fatalf("rig: %s: %v", path, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.docs[path] = b
	return h.url + path
}

// Reads counts how often the document of a client_id was read.
func (h *DocumentHost) Reads(clientID string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.read[strings.TrimPrefix(clientID, h.url)]
}

func (h *DocumentHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	doc, ok := h.docs[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h.read[r.URL.Path]++
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(doc)
}

// CreateClient runs `mcpbouncer client create` for the tenant's plain entry point, as an operator
// does.
func (tn *Tenant) CreateClient(name, auth, redirectURI string) (id, secret string) {
	tn.world.t.Helper()
	return tn.createClient("--redirect-uri", redirectURI, "--auth", auth, "--name", name)
}

// CreateClientAt is the same for another public URL of the tenant's, and HTTP Basic.
func (tn *Tenant) CreateClientAt(public, name, redirectURI string) (id, secret string) {
	tn.world.t.Helper()
	return tn.createClient("--redirect-uri", redirectURI, "--name", name, "--public-url", public)
}

// CreateMachine is the same for a machine.
func (tn *Tenant) CreateMachine(subject, scope string, more ...string) (id, secret string) {
	tn.world.t.Helper()
	return tn.createClient(append([]string{"--grant", "client_credentials", "--subject", subject, "--scope", scope}, more...)...)
}

func (tn *Tenant) createClient(flags ...string) (id, secret string) {
	t := tn.world.t
	t.Helper()
	var client struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	tn.create("client", &client, flags...)
	if client.ID == "" {
		t.Fatalf("rig: mcpbouncer client create printed no client_id")
	}
	if client.Secret != "" {
		tn.world.Secrets.Add("client secret", client.Secret)
	}
	return client.ID, client.Secret
}

// CreateKey runs `mcpbouncer key create`.
func (tn *Tenant) CreateKey(subject, scope, expires string) (key, id string) {
	tn.world.t.Helper()
	var made struct {
		Key string `json:"key"`
		ID  string `json:"key_id"`
	}
	tn.create("key", &made, "--subject", subject, "--scope", scope, "--expires", expires)
	tn.world.Secrets.Add("bearer key", made.Key)
	return made.Key, made.ID
}

// create runs a command of the operator's that makes something for the tenant's plain entry point,
// and reads what it prints.
func (tn *Tenant) create(what string, into any, flags ...string) {
	t := tn.world.t
	t.Helper()
	cmd := exec.Command(Tool(t, "mcpbouncer"), append([]string{what, "create",
		"--public-url", tn.PublicHTTP(), "--resource", tn.Name,
		"--provider-issuer", tn.Provider.Issuer, "--provider-client-id", tn.Provider.ClientID}, flags...)...)
	cmd.Env = []string{"BOUNCER_ENCRYPTION_KEY=" + tn.world.Keys.Encryption}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("rig: mcpbouncer %s create: %v\n%s", what, err, stderr.String())
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("rig: mcpbouncer %s create printed %q: %v", what, out, err)
	}
}
