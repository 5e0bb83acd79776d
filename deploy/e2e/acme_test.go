//go:build proxies

package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// docs/gateway.md: with BOUNCER_ACME_DIR the gateway gets a certificate from a real authority
// (Pebble), which looks for the host at the gateway by TLS-ALPN-01, and uses it again after a
// restart. For a host of no tenant none is asked for.
func TestGatewayGetsItsCertificateByACME(t *testing.T) {
	t.Parallel()
	dir, logs := t.TempDir(), &rig.Logs{}
	port := func() string { return fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t)) }
	names, directory, management, gateway, sidecar := port(), port(), port(), port(), port()
	_, tlsPort, _ := strings.Cut(gateway, ":")
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	certificate, key := rig.SelfSigned(t, dir)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": directory, "managementListenAddress": management, "certificate": certificate, "privateKey": key, "httpPort": 1, "tlsPort": json.Number(tlsPort),
		"profiles": map[string]any{"default": map[string]any{"description": "for tests", "validityPeriod": 3600}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	rig.StartProcess(t, logs, "names", exec.Command(rig.Tool(t, "pebble-challtestsrv"), "-dnsserver", names, "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", port(), "-defaultIPv6", ""))
	pebble := exec.Command(rig.Tool(t, "pebble"), "-config", write("pebble.json", string(config)), "-dnsserver", names)
	pebble.Env = []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"}
	rig.StartProcess(t, logs, "pebble", pebble)
	rig.WaitFor(t, "the authority", func() error {
		conn, err := net.Dial("tcp", directory)
		if err == nil {
			conn.Close()
		}
		return err
	})
	keys := rig.Keygen(t, &rig.Secrets{})
	tenants := write("tenants.yaml", "tenants:\n  wiki:\n    publicURL: https://mcp.example.com/wiki\n    backend: http://127.0.0.1:1\n    resource: wiki\n    providerIssuer: https://idp.invalid\n    clientID: c\n    clientSecret: env:WIKI_CLIENT_SECRET\n")
	start := func() *rig.Process {
		cmd := exec.Command(rig.Tool(t, "mcpbouncer-gateway"), "gateway")
		cmd.Env = []string{"BOUNCER_ENCRYPTION_KEY=" + keys.Encryption, "BOUNCER_LISTEN_ADDR=" + sidecar, "BOUNCER_GATEWAY_ADDR=" + gateway, "BOUNCER_TENANTS=" + tenants,
			"BOUNCER_ACME_DIR=" + filepath.Join(dir, "acme"), "BOUNCER_ACME_SERVER=https://localhost:" + strings.TrimPrefix(directory, "127.0.0.1:") + "/dir", "SSL_CERT_FILE=" + certificate}
		return rig.StartProcess(t, logs, "gateway", cmd)
	}
	serial := func() (serial string) {
		t.Helper()
		rig.WaitFor(t, "a certificate", func() error {
			conn, err := tls.Dial("tcp", gateway, &tls.Config{ServerName: "mcp.example.com", InsecureSkipVerify: true})
			if err != nil {
				return err
			}
			defer conn.Close()
			leaf := conn.ConnectionState().PeerCertificates[0]
			if leaf.VerifyHostname("mcp.example.com") != nil || !strings.Contains(leaf.Issuer.CommonName, "Pebble") {
				return fmt.Errorf("%v of %v", leaf.DNSNames, leaf.Issuer)
			}
			serial = leaf.SerialNumber.String()
			return nil
		})
		return serial
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(logs.Tail("gateway", 5), logs.Tail("pebble", 12), logs.Tail("names", 4))
		}
	})
	process := start()
	first := serial()
	if _, err := tls.Dial("tcp", gateway, &tls.Config{ServerName: "elsewhere.example.com", InsecureSkipVerify: true}); err == nil {
		t.Error("a host of no tenant has a certificate")
	}
	if strings.Contains(logs.Text("pebble"), "elsewhere.example.com") {
		t.Error("a certificate was asked for a host of no tenant")
	}
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{ServerName: "mcp.example.com", InsecureSkipVerify: true}}}
	r, err := http.NewRequest("GET", "https://"+gateway+"/wiki/mcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "mcp.example.com"
	resp, err := client.Do(r)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || resp.ProtoMajor != 2 {
		t.Errorf("%v %v", resp, err)
	}
	if code := process.Terminate(t); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	start()
	if second := serial(); second != first {
		t.Error("another certificate after a restart")
	}
}
