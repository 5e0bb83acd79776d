package rig

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// OtherServer is an MCP server with an authorization server of another project.
type OtherServer struct {
	URL string // of the MCP server

	mu    sync.Mutex
	asked []Passed
}

// Passed is a request that passed on its way to such a server.
type Passed struct {
	Method, Path string
	Body         []byte
	Status       int
}

// Asked lists what passed, after the first n requests. Only the TypeScript SDK's server has it.
func (s *OtherServer) Asked(n int) []Passed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked[min(n, len(s.asked)):])
}

// StartTypeScriptDemo starts the TypeScript SDK's demonstration server and its authorization
// server, which asks nobody. What they are asked is kept.
func StartTypeScriptDemo(t T, logs *Logs) *OtherServer {
	t.Helper()
	s := &OtherServer{}
	mcp, mcpAt := s.wire(t)
	as, asAt := s.wire(t)
	s.URL = "http://localhost:" + mcp + "/mcp"
	env := []string{"MCP_PORT=" + mcp, "MCP_AUTH_PORT=" + as, "LISTEN_ELSEWHERE=" + mcp + ":" + mcpAt + "," + as + ":" + asAt,
		"NODE_OPTIONS=--import=" + filepath.Join(Root(), "deploy/e2e/authservers/elsewhere.mjs")}
	p := NodeWith(t, logs, env, "TypeScript SDK's server", "node_modules/@modelcontextprotocol/sdk/dist/esm/examples/server/simpleStreamableHttp.js", "--oauth", "--oauth-strict")
	s.serves(t, logs, p, "http://localhost:"+as)
	return s
}

// StartCloudflaresLibrary starts a worker on Cloudflare's library for authorization servers.
func StartCloudflaresLibrary(t T, logs *Logs) *OtherServer {
	t.Helper()
	at := fmt.Sprintf("localhost:%d", FreePort(t))
	cmd := exec.Command(Installed(t, "authservers/node_modules/@cloudflare/workerd-linux-*/bin/workerd"), "serve", "workerd.capnp", "--socket-addr", "http="+strings.Replace(at, "localhost", "127.0.0.1", 1))
	cmd.Dir = filepath.Join(Root(), "deploy", "e2e", "authservers")
	cmd.Env = []string{}
	s := &OtherServer{URL: "http://" + at + "/mcp"}
	s.serves(t, logs, StartProcess(t, logs, "workerd", cmd), "http://"+at)
	return s
}

// StartFastMCP starts a server on FastMCP with its proxy for OAuth.
func StartFastMCP(t T, logs *Logs) *OtherServer {
	t.Helper()
	Installed(t, "authservers/node_modules/fastmcp")
	port := fmt.Sprint(FreePort(t))
	s := &OtherServer{URL: "http://localhost:" + port + "/mcp"}
	s.serves(t, logs, Node(t, logs, "FastMCP", "../authservers/fastmcp.mjs", port), "http://localhost:"+port)
	return s
}

// serves waits for the metadata.
func (s *OtherServer) serves(t T, logs *Logs, p *Process, issuer string) {
	t.Helper()
	p.waitFor(t, logs, func() error {
		return expectStatus(issuer+"/.well-known/oauth-authorization-server", http.StatusOK)
	})
}

// wire keeps what is asked at one port, and leads it to another.
func (s *OtherServer) wire(t T) (port, to string) {
	to = fmt.Sprint(FreePort(t))
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "127.0.0.1:" + to})
	proxy.FlushInterval = -1
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := Hold(r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		asked := Passed{Method: r.Method, Path: r.URL.Path, Body: body}
		one := *proxy
		one.ModifyResponse = func(resp *http.Response) error {
			asked.Status = resp.StatusCode
			s.mu.Lock()
			defer s.mu.Unlock()
			s.asked = append(s.asked, asked)
			return nil
		}
		one.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	_, port, _ = strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	return port, to
}
