package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func tenantsFile(t *testing.T, public, backend string) string {
	t.Helper()
	content := "tenants:\n  wiki:\n    publicURL: " + public + "\n    resource: wiki\n    providerIssuer: https://idp.invalid\n    clientID: c\n    clientSecret: env:WIKI_CLIENT_SECRET\n"
	if backend != "" {
		content += "    backend: " + backend + "\n"
	}
	return write(t, content)
}

// What the gateway cannot start with is named with its variable and the remedy.
func TestGatewayRefusesToStart(t *testing.T) {
	const backend = "http://127.0.0.1:1"
	secure := tenantsFile(t, "https://mcp.example.com/wiki", backend)
	for _, c := range []struct {
		name      string
		variables map[string]string
		says      []string
	}{
		{"no tenants file", nil, []string{"BOUNCER_TENANTS is not set: name the tenants file"}},
		{"a file that is not there", map[string]string{"BOUNCER_TENANTS": "/nowhere.yaml"}, []string{"BOUNCER_TENANTS", "/nowhere.yaml", "no such file"}},
		{"a file with a fault", map[string]string{"BOUNCER_TENANTS": tenantsFile(t, "https://mcp.example.com/wiki", "")}, []string{"line 3", `tenant "wiki"`, "backend"}},
		{"https and no certificate", map[string]string{"BOUNCER_TENANTS": secure}, []string{`tenant "wiki"`, "set BOUNCER_TLS_CERT and BOUNCER_TLS_KEY, or BOUNCER_ACME_DIR, or BOUNCER_TLS_ELSEWHERE=true"}},
		{"http and a certificate", map[string]string{"BOUNCER_TENANTS": tenantsFile(t, "http://localhost/wiki", backend), "BOUNCER_ACME_DIR": t.TempDir()}, []string{`tenant "wiki"`, "speaks TLS alone", "write https there"}},
		{"a certificate without its key", map[string]string{"BOUNCER_TENANTS": secure, "BOUNCER_TLS_CERT": "cert.pem"}, []string{"BOUNCER_TLS_KEY", "set both"}},
		{"a certificate that is not there", map[string]string{"BOUNCER_TENANTS": secure, "BOUNCER_TLS_CERT": "/none.pem", "BOUNCER_TLS_KEY": "/none.key"}, []string{"BOUNCER_TLS_CERT", "/none.pem", "name a certificate"}},
		{"two ways to TLS", map[string]string{"BOUNCER_TENANTS": secure, "BOUNCER_ACME_DIR": "/tmp/acme", "BOUNCER_TLS_ELSEWHERE": "true"}, []string{"BOUNCER_ACME_DIR", "BOUNCER_TLS_ELSEWHERE", "keep one"}},
		{"an authority without a folder", map[string]string{"BOUNCER_TENANTS": secure, "BOUNCER_ACME_EMAIL": "you@example.com"}, []string{"BOUNCER_ACME_EMAIL", "BOUNCER_ACME_DIR"}},
		{"a folder that cannot be", map[string]string{"BOUNCER_TENANTS": secure, "BOUNCER_ACME_DIR": "/dev/null/acme"}, []string{"BOUNCER_ACME_DIR", "may write to"}},
		{"an address that cannot be", map[string]string{"BOUNCER_TENANTS": secure, "BOUNCER_TLS_ELSEWHERE": "true", "BOUNCER_GATEWAY_ADDR": "nowhere"}, []string{"BOUNCER_GATEWAY_ADDR", "give a free address"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			variables := map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne, "BOUNCER_LISTEN_ADDR": "127.0.0.1:0"}
			for name, value := range c.variables {
				variables[name] = value
			}
			out, err := program(variables, "gateway").CombinedOutput()
			if err == nil {
				t.Fatal("it started")
			}
			for _, part := range c.says {
				if !strings.Contains(string(out), part) {
					t.Errorf("does not say %q: %s", part, out)
				}
			}
		})
	}
	// the sidecar with a tenants file too
	out, err := program(map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne, "BOUNCER_LISTEN_ADDR": "127.0.0.1:0", "BOUNCER_TENANTS": secure}, "serve").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "backend: it is for `mcpbouncer gateway`") {
		t.Errorf("%v %s", err, out)
	}
}

func overwrite(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// entries starts a program, and returns a function that waits for a line of its log with one of
// these messages.
func entries(t *testing.T, p *exec.Cmd) func(messages ...string) map[string]any {
	t.Helper()
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() })
	lines := bufio.NewReader(out)
	return func(messages ...string) map[string]any {
		t.Helper()
		for {
			line, err := lines.ReadString('\n')
			var entry map[string]any
			if err != nil {
				t.Fatalf("no line %q: %v", messages, err)
			}
			_ = json.Unmarshal([]byte(line), &entry) // other lines have no message
			if message, _ := entry["msg"].(string); slices.Contains(messages, message) {
				return entry
			}
		}
	}
}

// A gateway serves, takes another tenants file on SIGHUP and keeps the old one where the new one
// has a fault, and on SIGTERM lets a running request finish.
func TestGatewayServesUntilSIGTERM(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wiki/slow" {
			begun <- struct{}{}
			<-release
		}
		fmt.Fprint(w, "reached by ", r.Header.Get("X-Mcp-Sub"))
	}))
	defer server.Close()
	file := tenantsFile(t, "http://localhost/wiki", server.URL)
	p := program(map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne, "BOUNCER_LISTEN_ADDR": "127.0.0.1:0", "BOUNCER_GATEWAY_ADDR": "127.0.0.1:0", "BOUNCER_TENANTS": file}, "gateway")
	next := entries(t, p)
	sidecar := next("serving")["addr"].(string)
	said := map[string]map[string]any{}
	for range 2 { // whichever comes first
		entry := next("gateway", "plugin")
		said[entry["msg"].(string)] = entry
	}
	addr := said["gateway"]["addr"].(string)
	if says := said["plugin"]["says"].(string); !strings.Contains(says, "answers and accepts the hop key") {
		t.Error(says)
	}
	if out, err := program(map[string]string{"BOUNCER_LISTEN_ADDR": sidecar}, "healthcheck").CombinedOutput(); err != nil {
		t.Errorf("healthcheck: %v %s", err, out)
	}
	clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne})
	var made strings.Builder
	if err := run([]string{"key", "create", "--public-url", "http://localhost/wiki", "--resource", "wiki", "--provider-issuer", "https://idp.invalid", "--provider-client-id", "c", "--subject", "robot", "--expires", "1d"}, nil, &made); err != nil {
		t.Fatal(err)
	}
	var key struct{ Key string }
	if err := json.Unmarshal([]byte(made.String()), &key); err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		r, _ := http.NewRequest("GET", "http://"+addr+path, nil)
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer "+key.Key)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if status, body := get("/wiki/mcp"); status != 200 || body != "reached by robot" {
		t.Fatal(status, body)
	}
	overwrite(t, file, "tenants: {}\n")
	_ = p.Process.Signal(syscall.SIGHUP)
	if cause := next("the tenants file has a fault: the tenants stay as they were")["cause"].(string); !strings.Contains(cause, "holds no tenant") {
		t.Error(cause)
	}
	if status, _ := get("/wiki/mcp"); status != 200 {
		t.Error("after a file with a fault", status)
	}
	content := strings.Replace(readText(t, tenantsFile(t, "http://localhost/other", server.URL)), "\n  wiki:", "\n  other:", 1)
	overwrite(t, file, content)
	_ = p.Process.Signal(syscall.SIGHUP)
	if names := fmt.Sprint(next("tenants")["tenants"]); names != "[other]" {
		t.Error(names)
	}
	overwrite(t, file, readText(t, tenantsFile(t, "http://localhost/wiki", server.URL)))
	_ = p.Process.Signal(syscall.SIGHUP)
	next("tenants")
	running := make(chan string)
	go func() {
		_, body := get("/wiki/slow")
		running <- body
	}()
	<-begun
	_ = p.Process.Signal(syscall.SIGTERM)
	next("stopping: running requests may finish")
	release <- struct{}{}
	if body := <-running; body != "reached by robot" {
		t.Errorf("the running request got %q", body)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// acmeCertificate puts a certificate for a host where the gateway keeps those that it got by ACME,
// as golang.org/x/crypto/acme/autocert's DirCache does. It is good for longer than the time at
// which it is renewed.
func acmeCertificate(t *testing.T, dir, host string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 80), DNSNames: []string{host}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	overwrite(t, filepath.Join(dir, host), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))+string(cert))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}

// The three steps of docs/gateway.md and the question at their end, as they stand there, in an
// empty folder. Only the certificate is there already, and the addresses are of this test.
func TestGatewayStartsAsItsPageSays(t *testing.T) {
	page := readText(t, "../../docs/gateway.md")
	block := regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(page, 3)
	asked := regexp.MustCompile("`curl (https://([^/`]+)/[^`]+)` says `([^`]+), …`").FindStringSubmatch(page)
	if len(block) != 3 || block[0][1] != "sh" || block[1][1] != "yaml" || block[2][1] != "sh" || asked == nil {
		t.Fatalf("the page has other steps, or another question: %q, %q", block, asked)
	}
	dir, bin := t.TempDir(), t.TempDir()
	self, err := filepath.Abs(os.Args[0])
	if err == nil {
		err = os.Symlink(self, filepath.Join(bin, "mcpbouncer"))
	}
	if err != nil {
		t.Fatal(err)
	}
	shell := func(commands string) *exec.Cmd {
		c := exec.Command("sh", "-e", "-c", commands)
		c.Dir = dir
		// Let's Encrypt is not to hear of a certificate that was not found in the folder.
		c.Env = []string{"MCPBOUNCER_IS_THE_PROGRAM=1", "PATH=" + bin + ":" + os.Getenv("PATH"),
			"BOUNCER_LISTEN_ADDR=127.0.0.1:0", "BOUNCER_GATEWAY_ADDR=127.0.0.1:0", "BOUNCER_ACME_SERVER=https://127.0.0.1:1"}
		return c
	}
	if out, err := shell(block[0][2]).CombinedOutput(); err != nil || len(out) != 0 {
		t.Fatalf("%v %s", err, out)
	}
	if info, err := os.Stat(filepath.Join(dir, ".env")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the secrets: %v, %v", info, err)
	}
	overwrite(t, filepath.Join(dir, "tenants.yaml"), block[1][2])
	authority := acmeCertificate(t, filepath.Join(dir, "acme"), asked[2])
	// exec: the test ends the gateway and not a shell before it
	start := shell(strings.Replace(block[2][2], "\nmcpbouncer gateway\n", "\nexec mcpbouncer gateway\n", 1))
	var errs bytes.Buffer
	start.Stderr = &errs
	next := entries(t, start)
	addr := next("gateway")["addr"].(string)
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: authority},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}}
	resp, err := client.Get(asked[1])
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), asked[3]) {
		t.Errorf("%s says %s %s, %v; the page says %s", asked[1], resp.Status, body, err, asked[3])
	}
	_ = start.Process.Signal(syscall.SIGTERM)
	if err := start.Wait(); err != nil || errs.Len() != 0 {
		t.Errorf("its end: %v %s", err, &errs)
	}
}
