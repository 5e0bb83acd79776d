package rig

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Kubernetes is the real API server, with etcd behind it (../kubernetes/install.sh). There are no
// controllers, no scheduler and no nodes: what they would make, such as endpoints of a service or a
// pod's token, a test makes.
type Kubernetes struct {
	URL        string          // with TLS; also the issuer of its service accounts' tokens
	CA         []byte          // the authority of its certificate, PEM
	SigningKey *rsa.PrivateKey // of those tokens
	// Rotate starts the API server anew, with another key for tokens. Those of earlier keys stay
	// good.
	Rotate func()

	home string // of the administrator
}

// StartKubernetes starts both and returns when the API server has made its own objects.
func StartKubernetes(t T, logs *Logs) *Kubernetes {
	t.Helper()
	dir := t.TempDir()
	address := func() string { return fmt.Sprintf("127.0.0.1:%d", FreePort(t)) }
	store, peers, server := "http://"+address(), "http://"+address(), address()
	etcd := StartProcess(t, logs, "etcd", exec.Command(Tool(t, "etcd"), "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+store, "--advertise-client-urls="+store,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=default="+peers))
	etcd.waitFor(t, logs, func() error { return expectStatus(store+"/health", http.StatusOK) })

	const admin = "an-administrator-of-a-test"
	k := &Kubernetes{URL: "https://" + server, home: dir}
	_, port, _ := strings.Cut(server, ":")
	certificates := filepath.Join(dir, "certificates") // it makes its own
	tokens := writeFile(t, filepath.Join(dir, "tokens.csv"), admin+",admin,1,system:masters\n")
	var keys []string // flags, of all keys so far
	var proc *Process
	k.Rotate = func() {
		t.Helper()
		var err error
		if k.SigningKey, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatalf("rig: kubernetes: %v", err)
		}
		key := writeFile(t, filepath.Join(dir, fmt.Sprintf("key-%d.pem", len(keys))),
			string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k.SigningKey)})))
		keys = append(keys, "--service-account-key-file="+key)
		if proc != nil {
			proc.Kill()
		}
		proc = StartProcess(t, logs, "kube-apiserver", exec.Command(Tool(t, "kube-apiserver"), append([]string{"--etcd-servers=" + store,
			"--bind-address=127.0.0.1", "--secure-port=" + port, "--cert-dir=" + certificates, "--authorization-mode=RBAC", "--token-auth-file=" + tokens,
			"--service-account-issuer=" + k.URL, "--service-account-jwks-uri=" + k.URL + "/openid/v1/jwks", "--service-account-signing-key-file=" + key}, keys...)...))
		proc.waitFor(t, logs, func() error {
			if k.CA, err = os.ReadFile(filepath.Join(certificates, "apiserver.crt")); err != nil {
				return err
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(k.CA)
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
			return expect(client, k.URL+"/readyz", http.StatusOK)
		})
	}
	k.Rotate()
	config, _ := json.Marshal(map[string]any{ // strings alone
		"apiVersion": "v1", "kind": "Config", "current-context": "rig",
		"contexts": []any{map[string]any{"name": "rig", "context": map[string]any{"cluster": "rig", "user": "rig"}}},
		"clusters": []any{map[string]any{"name": "rig", "cluster": map[string]any{"server": k.URL, "certificate-authority-data": k.CA}}},
		"users":    []any{map[string]any{"name": "rig", "user": map[string]any{"token": admin}}},
	})
	writeFile(t, filepath.Join(dir, "kubeconfig"), string(config))
	return k
}

// Kubectl runs kubectl as an administrator and returns what it writes. in is its standard input.
func (k *Kubernetes) Kubectl(t T, in string, args ...string) string {
	t.Helper()
	cmd := exec.Command(Tool(t, "kubectl"), args...)
	cmd.Env = k.Env()
	cmd.Stdin = strings.NewReader(in)
	var out, failed strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &failed
	if err := cmd.Run(); err != nil {
		t.Fatalf("rig: kubectl %s: %v: %s", strings.Join(args, " "), err, failed.String())
	}
	return out.String()
}

// Env are the variables of an administrator, who finds kubectl in the PATH.
func (k *Kubernetes) Env() []string {
	return []string{"KUBECONFIG=" + filepath.Join(k.home, "kubeconfig"), "HOME=" + k.home, "PATH=" + filepath.Join(Root(), "build") + ":" + os.Getenv("PATH")}
}

// Endpoints gives a service with one port a pod: what listens at backend, a URL of this machine. A
// loopback address is none of a pod's, so a proxy stands on another one.
func (k *Kubernetes) Endpoints(t T, namespace, service, backend string) {
	t.Helper()
	to, err := url.Parse(backend)
	if err != nil {
		t.Fatalf("rig: kubernetes: %v", err)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatalf("rig: kubernetes: %v", err)
	}
	i := slices.IndexFunc(addresses, func(a net.Addr) bool {
		n, is := a.(*net.IPNet)
		return is && n.IP.To4() != nil && n.IP.IsGlobalUnicast()
	})
	if i < 0 {
		t.Fatalf("rig: kubernetes: this machine has no IPv4 address but loopback, and no service can have that")
	}
	listener, err := net.Listen("tcp4", net.JoinHostPort(addresses[i].(*net.IPNet).IP.String(), "0"))
	if err != nil {
		t.Fatalf("rig: kubernetes: %v", err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.Transport, proxy.FlushInterval = frontTransport, -1
	srv := &httptest.Server{Listener: listener, Config: &http.Server{Handler: proxy}}
	srv.Start()
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	host, port, _ := net.SplitHostPort(listener.Addr().String())
	k.Kubectl(t, fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-1, namespace: %[2]s, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
endpoints: [{addresses: [%[3]s]}]
ports: [{name: "", port: %[4]s}]
`, service, namespace, host, port), "apply", "--filename=-")
}
