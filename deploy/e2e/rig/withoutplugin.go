package rig

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// Edge stands before a proxy that has no plugin, and keeps what was asked of the token endpoints.
// The public URLs of the tenants are on it.
type Edge struct {
	// Proxy is host:port of the proxy itself, for requests as a stranger sends them.
	Proxy string

	mu     sync.Mutex
	tokens []edgeRequest
}

type edgeRequest struct {
	path string
	TokenRequest
}

// startWithoutPlugin starts a world whose proxy is o.Proxy: gateway, or a proxy that asks the
// sidecar, configured as docs/forward-auth.md shows.
func (w *World) startWithoutPlugin(o Options, webPort int, env map[string]string) {
	w.t.Helper()
	w.Traefik = &Traefik{Web: fmt.Sprintf("http://localhost:%d", webPort)}
	w.http = &http.Client{Transport: w.Secrets.Watch(&http.Transport{})}
	dir := w.t.TempDir()
	for name, content := range o.Image {
		putFile(w.t, filepath.Join(dir, name), content)
	}
	tenants := map[string]any{}
	for _, tn := range w.Tenants() {
		entry := map[string]any{"publicURL": tn.PublicHTTP()}
		for label, value := range tn.options(o) {
			entry[label] = value
		}
		if o.Proxy == "gateway" {
			entry["backend"] = tn.MCP.URL
		}
		tenants[tn.Name] = entry
	}
	b, err := json.MarshalIndent(map[string]any{"tenants": tenants}, "", "  ") // JSON is YAML
	if err != nil {
		w.t.Fatalf("rig: %v", err)
	}
	putFile(w.t, filepath.Join(dir, "tenants.yaml"), b)
	sidecar, proxy := fmt.Sprintf("127.0.0.1:%d", FreePort(w.t)), FreePort(w.t)
	w.Edge = &Edge{Proxy: fmt.Sprintf("127.0.0.1:%d", proxy)}
	command := "serve"
	if o.Proxy == "gateway" {
		command = "gateway"
	}
	cmd := exec.Command(Tool(w.t, "mcpbouncer-gateway"), command)
	cmd.Dir = dir
	cmd.Env = []string{"BOUNCER_LISTEN_ADDR=" + sidecar, "BOUNCER_LOG_LEVEL=debug", "BOUNCER_TENANTS=tenants.yaml", "BOUNCER_GATEWAY_ADDR=" + w.Edge.Proxy}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	process := StartProcess(w.t, w.Logs, "sidecar-a", cmd)
	process.waitFor(w.t, w.Logs, func() error { return expectStatus("http://"+sidecar+"/healthz", http.StatusOK) })
	if o.Proxy != "gateway" {
		w.startAskingProxy(o.Proxy, dir, proxy, sidecar)
	}
	w.Edge.start(w.t, webPort)
	for _, tn := range w.Tenants() {
		WaitFor(w.t, o.Proxy+" to know "+tn.Name, func() error { return expect(w.http, tn.PublicHTTP()+"/anything", http.StatusUnauthorized) })
	}
}

func putFile(t T, name string, content []byte) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.WriteFile(name, content, 0o644)
	}
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
}

func (e *Edge) start(t T, port int) {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	server := &http.Server{Handler: e}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}

func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Held: an answer that comes before the whole body was passed on would be cut off.
	body, err := Hold(r)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	form, _ := url.ParseQuery(string(body))
	(&httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: e.Proxy})
			p.Out.Host = p.In.Host
		},
		ModifyResponse: func(resp *http.Response) error {
			if strings.HasSuffix(r.URL.Path, "/oauth/token") {
				e.mu.Lock()
				defer e.mu.Unlock()
				e.tokens = append(e.tokens, edgeRequest{r.URL.Path, TokenRequest{r.Header.Clone(), form, resp.StatusCode}})
			}
			return nil
		},
	}).ServeHTTP(w, r)
}

func (e *Edge) tokenRequests(name string) []TokenRequest {
	e.mu.Lock()
	defer e.mu.Unlock()
	var of []TokenRequest
	for _, r := range e.tokens {
		if strings.HasPrefix(r.path, "/"+name+"/") {
			of = append(of, r.TokenRequest)
		}
	}
	return of
}

// forwardAuthExample returns the code block of docs/forward-auth.md in a language.
func forwardAuthExample(t T, language string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(Root(), "docs", "forward-auth.md"))
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	found := regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllSubmatch(page, -1)
	if len(found) != 1 {
		t.Fatalf("rig: docs/forward-auth.md has %d blocks of %s", len(found), language)
	}
	return string(found[0][1])
}

// startAskingProxy configures a proxy by the page's example, which is about wiki, once for each
// tenant.
func (w *World) startAskingProxy(kind, dir string, port int, sidecar string) {
	w.t.Helper()
	of := func(tn *Tenant, text string) string {
		if tn.Name != "wiki" {
			text = regexp.MustCompile(`\bwiki\b`).ReplaceAllString(text, tn.Name)
			// what is there once in the example has a name of its own for each
			text = strings.NewReplacer("service: bouncer", "service: bouncer-"+tn.Name, "    bouncer:", "    bouncer-"+tn.Name+":", "@oauth", "@oauth-"+tn.Name).Replace(text)
		}
		text = strings.ReplaceAll(text, "bouncer:8080", sidecar)
		return strings.ReplaceAll(text, tn.Name+":8000", "127.0.0.1:"+tn.MCP.Port)
	}
	switch kind {
	case "traefik":
		web := w.Traefik.Web
		w.Traefik = StartTraefik(w.t, w.Logs, TraefikConfig{WebPort: port, HopKey: w.Keys.Hop})
		w.Traefik.Web = web
		for _, tn := range w.Tenants() {
			w.Traefik.SetText(w.t, tn.Name+".yaml", strings.ReplaceAll(of(tn, forwardAuthExample(w.t, "yaml")), "mcp.example.com", "localhost"))
		}
	case "caddy":
		inner := regexp.MustCompile(`(?s)^[^\n]*\{\n(.*)\}\n$`).FindStringSubmatch(forwardAuthExample(w.t, "caddyfile"))[1]
		text := fmt.Sprintf("{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}\nhttp://:%d {\n\tbind 127.0.0.1\n", port)
		for _, tn := range w.Tenants() {
			text += of(tn, inner)
		}
		putFile(w.t, filepath.Join(dir, "Caddyfile"), []byte(text+"}\n"))
		cmd := exec.Command(Tool(w.t, "caddy"), "run", "--config", filepath.Join(dir, "Caddyfile"), "--adapter", "caddyfile")
		cmd.Env = []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
		StartProcess(w.t, w.Logs, "caddy", cmd)
	case "nginx":
		parts := regexp.MustCompile(`(?s)^(map .*?\n\}\n)server \{\n(.*)\}\n$`).FindStringSubmatch(forwardAuthExample(w.t, "nginx"))
		head, locations, _ := strings.Cut(parts[2], "\tlocation ")
		locations = "\tlocation " + locations
		head = strings.Replace(head, "listen 443 ssl;", fmt.Sprintf("listen 127.0.0.1:%d;", port), 1)
		head = strings.Replace(head, "server_name mcp.example.com;", "server_name localhost;", 1)
		text := "daemon off;\nmaster_process off;\npid " + dir + "/nginx.pid;\nerror_log stderr notice;\nevents {}\nhttp {\naccess_log off;\n"
		for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
			text += kind + "_temp_path " + dir + "/" + kind + ";\n"
		}
		text += parts[1] + "server {\n" + head
		for _, tn := range w.Tenants() {
			text += of(tn, locations)
		}
		putFile(w.t, filepath.Join(dir, "nginx.conf"), []byte(text+"}\n}\n"))
		StartProcess(w.t, w.Logs, "nginx", exec.Command("nginx", "-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf")))
	default:
		w.t.Fatalf("rig: no proxy %q", kind)
	}
	WaitFor(w.t, kind, func() error {
		conn, err := net.Dial("tcp", w.Edge.Proxy)
		if err == nil {
			conn.Close()
		}
		return err
	})
}
