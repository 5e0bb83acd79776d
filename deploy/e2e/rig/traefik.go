package rig

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Module is the path of the root module, which is also the plugin's name towards Traefik.
const Module = "github.com/mcpbouncer/mcpbouncer"

// Traefik is the real Traefik with the plugin loaded from this repository.
type Traefik struct {
	// Web is http://localhost:port.
	Web string
	// WebSecure is host:port of the TLS entry point, by default with a self-signed certificate for
	// mcp.localhost and localhost.
	WebSecure string
	Roots     *x509.CertPool
	CA        []byte // the same, PEM

	dynamic string // folder of the file provider
	start   func(t T, hopKey string)
	proc    *Process
}

// Restart stops Traefik and starts it again, with a hop key. It knows nothing of before.
func (tr *Traefik) Restart(t T, hopKey string) {
	t.Helper()
	tr.proc.Kill()
	tr.start(t, hopKey)
}

// Stop asks Traefik to end, as docker stop does, and does not wait for it. Ended says whether it
// has.
func (tr *Traefik) Stop() { _ = tr.proc.cmd.Process.Signal(syscall.SIGTERM) }

// Terminate asks Traefik to end and waits until it is gone.
func (tr *Traefik) Terminate(t T) {
	t.Helper()
	tr.proc.Terminate(t)
}

// Ended says whether the process has ended.
func (tr *Traefik) Ended() bool { return tr.proc.Exited() }

// TraefikConfig says where Traefik takes its dynamic configuration from: Docker, or File, or both.
type TraefikConfig struct {
	WebPort int
	Docker  *Docker
	File    map[string]any // of the file provider
	HopKey  string
	// LogLevel is DEBUG if it is empty.
	LogLevel string
	// Plain is Traefik with no plugin at all.
	Plain bool
	// PluginRoot is the root of another revision, whose plugin is taken; empty for this one.
	PluginRoot string
	// Others are further local plugins: the source of the only file, by the last element of the
	// module's name, which is also the plugin's.
	Others map[string]string
	// Plugin edits the plugin's sources, such as plugin/hop.go. Without it they are as here.
	Plugin func(file, text string) string
	Env    []string // further variables
	// Static is the static configuration to start from. Addresses, providers and log level are the
	// rig's.
	Static map[string]any
	// TLS replaces the rig's self-signed certificate: dynamic configuration, and the authority
	// that clients trust, PEM.
	TLS map[string]any
	CA  []byte
	// WebSecureTLS is `tls` of the TLS entry point, beside what Static says.
	WebSecureTLS map[string]any
}

// PutPlugin lays the plugin out under a GOPATH, as Traefik and Yaegi look for it. Its tests come
// along on request.
func PutPlugin(t T, gopath string, tests bool) {
	t.Helper()
	putPlugin(t, Root(), gopath, tests)
}

func putPlugin(t T, root, gopath string, tests bool) {
	t.Helper()
	to := filepath.Join(gopath, "src", filepath.FromSlash(Module))
	put := func(name string) error {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), b, 0o644)
	}
	err := put(".traefik.yml")
	if err == nil {
		err = put("go.mod")
	}
	if err == nil {
		err = fs.WalkDir(os.DirFS(root), "plugin", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			isTest := strings.HasSuffix(path, "_test.go") || strings.Contains(path, "testdata/")
			if isTest && !tests || !isTest && filepath.Ext(path) != ".go" {
				return nil
			}
			return put(path)
		})
	}
	if err == nil && tests {
		err = put("docs/limits.md") // a test compares it with what it measures
	}
	if err != nil {
		t.Fatalf("rig: plugin: %v", err)
	}
}

func putOther(t T, dir, module, source string) {
	t.Helper()
	err := os.MkdirAll(dir, 0o755)
	for name, text := range map[string]string{
		"go.mod": "module " + module + "\n", "main.go": source,
		".traefik.yml": "displayName: " + module + "\nsummary: " + module + "\ntype: middleware\nimport: " + module + "\ntestData: {}\n",
	} {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
		}
	}
	if err != nil {
		t.Fatalf("rig: plugin: %v", err)
	}
}

// editPlugin makes another version of the plugin.
func editPlugin(t T, root string, edit func(file, text string) string) {
	t.Helper()
	files := 0
	err := fs.WalkDir(os.DirFS(root), "plugin", func(file string, d fs.DirEntry, err error) error {
		if err != nil || path.Ext(file) != ".go" {
			return err
		}
		files++
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(root, file), []byte(edit(file, string(text))), 0o644)
	})
	if err != nil || files == 0 {
		t.Fatalf("rig: plugin: %d files, %v", files, err)
	}
}

// TraefikVersions are the versions that tools.sh builds, oldest first.
func TraefikVersions(t T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(), "deploy", "e2e", "traefik", "versions.txt"))
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	var versions []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			versions = append(versions, line)
		}
	}
	return versions
}

// TraefikTool names the Traefik of the version that TRAEFIK_VERSION says, by default of the newest.
func TraefikTool(t T) string {
	t.Helper()
	versions := TraefikVersions(t)
	wanted := os.Getenv("TRAEFIK_VERSION")
	if wanted == "" || wanted == versions[len(versions)-1] {
		return Tool(t, "traefik")
	}
	if !slices.Contains(versions, wanted) {
		t.Fatalf("rig: TRAEFIK_VERSION %q is not in deploy/e2e/traefik/versions.txt", wanted)
	}
	return Tool(t, "traefik-"+wanted)
}

// StartTraefik starts Traefik. It returns when its entry point answers; routes may still be on
// their way.
func StartTraefik(t T, logs *Logs, c TraefikConfig) *Traefik {
	t.Helper()
	dir := t.TempDir()
	plugins := filepath.Join(dir, "plugins-local")
	putPlugin(t, cmp.Or(c.PluginRoot, Root()), plugins, false)
	local := map[string]any{}
	if !c.Plain {
		local["mcpbouncer"] = map[string]any{"moduleName": Module}
	}
	for name, source := range c.Others {
		module := "example.com/" + name
		putOther(t, filepath.Join(plugins, "src", module), module, source)
		local[name] = map[string]any{"moduleName": module}
	}
	if c.Plugin != nil {
		editPlugin(t, filepath.Join(plugins, "src", filepath.FromSlash(Module)), c.Plugin)
	}
	tr := &Traefik{
		Web:       fmt.Sprintf("http://localhost:%d", c.WebPort),
		WebSecure: fmt.Sprintf("127.0.0.1:%d", FreePort(t)),
		dynamic:   filepath.Join(dir, "dynamic"),
	}
	if err := os.Mkdir(tr.dynamic, 0o700); err != nil {
		t.Fatalf("rig: %v", err)
	}
	if c.TLS != nil {
		tr.Roots = x509.NewCertPool()
		tr.Roots.AppendCertsFromPEM(c.CA)
		tr.CA = c.CA
	} else {
		cert, key := tr.selfSigned(t, dir)
		c.TLS = map[string]any{"tls": map[string]any{"stores": map[string]any{"default": map[string]any{
			"defaultCertificate": map[string]any{"certFile": cert, "keyFile": key},
		}}}}
	}
	tr.SetFile(t, "tls.yaml", c.TLS)
	if c.File != nil {
		tr.SetFile(t, "dynamic.yaml", c.File)
	}
	if c.WebSecureTLS == nil {
		c.WebSecureTLS = map[string]any{}
	}
	providers := map[string]any{"file": map[string]any{"directory": tr.dynamic, "watch": true}}
	if c.Docker != nil {
		providers["docker"] = map[string]any{"endpoint": c.Docker.URL, "exposedByDefault": false}
	}
	ping := fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	static := map[string]any{
		"global": map[string]any{"checkNewVersion": false, "sendAnonymousUsage": false},
		"log":    map[string]any{"level": cmp.Or(c.LogLevel, "DEBUG")},
		"entryPoints": map[string]any{
			"web": map[string]any{"address": fmt.Sprintf("127.0.0.1:%d", c.WebPort)},
			"websecure": map[string]any{
				"address": tr.WebSecure, "http": map[string]any{"tls": c.WebSecureTLS},
			},
			"ping": map[string]any{"address": ping},
		},
		"ping":      map[string]any{"entryPoint": "ping"},
		"providers": providers,
	}
	if len(local) > 0 { // Traefik refuses an empty element
		static["experimental"] = map[string]any{"abortOnPluginFailure": true, "localPlugins": local}
	}
	static = merge(c.Static, static)
	file := writeJSON(t, "traefik.yaml", static)
	tr.start = func(t T, hopKey string) {
		t.Helper()
		cmd := exec.Command(TraefikTool(t), "--configFile="+file)
		cmd.Dir = dir
		cmd.Env = []string{"BOUNCER_HOP_KEY=" + hopKey, "PATH=" + os.Getenv("PATH")}
		cmd.Env = append(cmd.Env, c.Env...)
		tr.proc = StartProcess(t, logs, "traefik", cmd)
		tr.proc.waitFor(t, logs, func() error { return expectStatus("http://"+ping+"/ping", http.StatusOK) })
	}
	tr.start(t, c.HopKey)
	return tr
}

// merge lays over upon under, member by member.
func merge(under, over map[string]any) map[string]any {
	merged := maps.Clone(under)
	if merged == nil {
		merged = map[string]any{}
	}
	for k, v := range over {
		above, ok1 := v.(map[string]any)
		below, ok2 := merged[k].(map[string]any)
		if ok1 && ok2 {
			v = merge(below, above)
		}
		merged[k] = v
	}
	return merged
}

// SetFile writes a file of the file provider, which Traefik then reads again.
func (tr *Traefik) SetFile(t T, name string, config map[string]any) {
	t.Helper()
	from := writeJSON(t, name, config)
	if err := os.Rename(from, filepath.Join(tr.dynamic, name)); err != nil {
		t.Fatalf("rig: %v", err)
	}
}

// SetText writes such a file as it is: YAML or TOML, by its name.
func (tr *Traefik) SetText(t T, name, text string) {
	t.Helper()
	from := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(from, []byte(text), 0o600); err != nil {
		t.Fatalf("rig: %v", err)
	}
	if err := os.Rename(from, filepath.Join(tr.dynamic, name)); err != nil {
		t.Fatalf("rig: %v", err)
	}
}

func (tr *Traefik) selfSigned(t T, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"mcp.localhost", "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, b := range map[string][]byte{
		certFile: certPEM, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatalf("rig: %v", err)
		}
	}
	tr.Roots = x509.NewCertPool()
	tr.Roots.AppendCertsFromPEM(certPEM)
	tr.CA = certPEM
	return certFile, keyFile
}

// SelfSigned writes a certificate for localhost, of which it is the authority itself, and its key.
func SelfSigned(t T, dir string) (certFile, keyFile string) {
	t.Helper()
	return (&Traefik{}).selfSigned(t, dir)
}
