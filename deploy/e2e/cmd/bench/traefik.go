package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// nothing is the least that a plugin can be.
const nothing = `package nothing

import (
	"context"
	"net/http"
)

type Config struct{}

func CreateConfig() *Config { return &Config{} }

type middleware struct{ next http.Handler }

func New(_ context.Context, next http.Handler, _ *Config, _ string) (http.Handler, error) {
	return &middleware{next}, nil
}

func (m *middleware) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.next.ServeHTTP(w, r) }
`

// way is a router and its middleware: nil for none.
type way struct {
	name, host string
	middleware map[string]any
	// shared is true for ways that lie on one entry point. Each of the others has its own, so that
	// none is slower because its rule is read after another's.
	shared bool
}

// door is a real Traefik.
type door struct {
	*rig.Traefik
	addr  map[string]string // of each way
	debug string            // where Traefik tells about itself
	file  map[string]any
}

const mcpHost = "mcp.localhost"

// host of one of many tenants.
func host(n int) string { return fmt.Sprintf("t%d.localhost", n) }

// bouncer is the plugin in front of a tenant of the authority.
func bouncer(a *rig.Authority, host string, labels map[string]any) map[string]any {
	all := map[string]any{
		"providerIssuer": "https://accounts.google.com", "clientID": "client",
		"clientSecret": "env:GOOGLE_CLIENT_SECRET", "resource": "wiki", "sidecarURL": a.URL,
		"publicURL": "https://" + host + "/wiki",
	}
	for name, value := range labels {
		all[name] = value
	}
	return map[string]any{"plugin": map[string]any{"mcpbouncer": all}}
}

func doingNothing() map[string]any {
	return map[string]any{"plugin": map[string]any{"nothing": map[string]any{}}}
}

// open starts Traefik with the plugin of a side and the one that does nothing, and waits until all
// its ways are there. Without a side Traefik loads no plugin.
func (b *bench) open(s *side, server string, ways []way) *door {
	local := func() string { return fmt.Sprintf("127.0.0.1:%d", rig.FreePort(b.t)) }
	d := &door{addr: map[string]string{}, debug: local()}
	entries := map[string]any{"traefik": map[string]any{"address": d.debug}}
	routers, middlewares := map[string]any{}, map[string]any{}
	shared := ""
	for _, w := range ways {
		entry := w.name
		if w.shared {
			entry = "shared"
		}
		if d.addr[w.name] = shared; !w.shared || shared == "" {
			d.addr[w.name] = local()
			entries[entry] = map[string]any{"address": d.addr[w.name]}
		}
		if w.shared {
			shared = d.addr[w.name]
		}
		router := map[string]any{
			"rule": "Host(`" + w.host + "`) && PathPrefix(`/wiki`)", "entryPoints": []string{entry}, "service": "wiki",
		}
		if w.middleware != nil {
			router["middlewares"] = []string{w.name}
			middlewares[w.name] = w.middleware
		}
		routers[w.name] = router
	}
	parts := map[string]any{
		"routers": routers,
		"services": map[string]any{"wiki": map[string]any{"loadBalancer": map[string]any{
			"servers": []any{map[string]any{"url": server}},
		}}},
	}
	if len(middlewares) > 0 { // Traefik refuses an empty element
		parts["middlewares"] = middlewares
	}
	d.file = map[string]any{"http": parts}
	config := rig.TraefikConfig{
		WebPort: rig.FreePort(b.t), HopKey: rig.AuthorityHopKey, LogLevel: "ERROR", File: d.file,
		Static: map[string]any{
			"entryPoints": entries, "api": map[string]any{"insecure": true, "debug": true},
			"providers": map[string]any{"providersThrottleDuration": "10ms"},
		},
	}
	if s == nil {
		config.Plain = true
	} else {
		config.PluginRoot, config.Others = s.root, map[string]string{"nothing": nothing}
	}
	d.Traefik = rig.StartTraefik(b.t, &rig.Logs{}, config)
	last := ways[len(ways)-1]
	rig.WaitFor(b.t, "the route "+last.name, func() error {
		w, err := dial(d.addr[last.name])
		if err != nil {
			return err
		}
		defer w.Close()
		answer, err := w.ask(text(http.MethodGet, "/wiki/mcp", last.host, ""))
		if err == nil && (answer.StatusCode == http.StatusNotFound || answer.StatusCode >= 500) {
			err = fmt.Errorf("%s", answer.Status)
		}
		return err
	})
	return d
}

func (d *door) use(t rig.T) func() rig.Usage { return func() rig.Usage { return d.Usage(t) } }

// memory is what Go's runtime in Traefik says of itself.
type memory struct {
	Memstats struct{ Mallocs, TotalAlloc, HeapAlloc float64 }
}

// memory asks Traefik. It is without what was garbage when collect is true.
func (d *door) memory(t rig.T, collect bool) (m memory) {
	if collect {
		d.ask(t, "/debug/pprof/heap?gc=1")
	}
	if err := json.Unmarshal([]byte(d.ask(t, "/debug/vars")), &m); err != nil {
		t.Fatalf("Traefik's memory: %v", err)
	}
	return m
}

func (d *door) goroutines(t rig.T) (n float64) {
	if _, err := fmt.Sscanf(d.ask(t, "/debug/pprof/goroutine?debug=1"), "goroutine profile: total %g", &n); err != nil {
		t.Fatalf("Traefik's goroutines: %v", err)
	}
	return n
}

func (d *door) ask(t rig.T, path string) string {
	answer, err := http.Get("http://" + d.debug + path)
	if err != nil {
		t.Fatalf("Traefik: %v", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("Traefik: %s: %s %v", path, answer.Status, err)
	}
	return string(body)
}

// mcpServer stands for an MCP server. It says whom it saw.
func (b *bench) mcpServer() string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		h := w.Header()
		h["Content-Type"] = []string{"application/json"}
		h["X-Saw"] = r.Header["X-Mcp-Sub"]
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":7,"result":{}}`)
	}))
	b.t.Cleanup(server.Close)
	return server.URL
}

// answer is what a forwardAuth server is at the very least: it says yes to everybody. It is a
// process of its own, so that its processor time can be told from that of the load.
func answer(addr string) error {
	return http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Mcp-Sub", "bench")
	}))
}

func (b *bench) answerer() (*rig.Process, string) { return b.self("answer") }

// self starts this program once more: what, an address to listen at, and further arguments.
func (b *bench) self(what string, args ...string) (process *rig.Process, addr string) {
	program, err := os.Executable()
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	addr = fmt.Sprintf("127.0.0.1:%d", rig.FreePort(b.t))
	process = rig.StartProcess(b.t, &rig.Logs{}, what, exec.Command(program, append([]string{what, addr}, args...)...))
	b.listens(addr)
	return process, addr
}

// call is a message of about so many bytes, as SDKs write them.
func call(bytes int) string {
	const head = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search","arguments":{"text":"`
	return head + strings.Repeat("word ", (bytes-140)/5) + `"},"_meta":{"progressToken":7}}}`
}

// request is one with the fifteen headers of a client in a browser or Node; of a message if there
// is one.
func request(host, token, message string) []byte {
	headers := []string{
		"Accept", "application/json, text/event-stream", "Accept-Encoding", "gzip, deflate, br", "Accept-Language", "*",
		"Cache-Control", "no-cache", "Mcp-Protocol-Version", "2025-06-18", "Mcp-Session-Id", "a1b2c3d4e5f6",
		"Pragma", "no-cache", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Site", "cross-site",
		"User-Agent", "node", "Origin", "https://" + host,
	}
	if token != "" {
		headers = append(headers, "Authorization", "Bearer "+token)
	}
	if message == "" {
		return text(http.MethodGet, "/wiki/mcp", host, "", headers...)
	}
	return text(http.MethodPost, "/wiki/mcp", host, message, append(headers, "Content-Type", "application/json")...)
}

// connections of a load at Traefik, and the requests of each in a round.
const connections, requestsEach = 16, 100

func (b *bench) traefik() {
	authority, server := rig.StartAuthority(b.t), b.mcpServer()
	auth, authAddr := b.answerer()
	ours := func(labels map[string]any) map[string]any { return bouncer(authority, mcpHost, labels) }
	ways := []way{
		{name: "bare"},
		{name: "nothing", middleware: doingNothing()},
		{name: "known", middleware: ours(nil)},
		{name: "rules", middleware: ours(map[string]any{"toolScopes": "delete_page=wiki:write; *=openid"})},
		{name: "identity", middleware: ours(map[string]any{"identityHeaders": "email=X-Forwarded-User,name,groups,client_id,issuer"})},
		{name: "audit", middleware: ours(map[string]any{"auditCalls": "true"})},
		{name: "handing", middleware: ours(map[string]any{"upstreamToken": "scopes=repo"})},
		{name: "forwardauth", middleware: map[string]any{"forwardAuth": map[string]any{
			"address": "http://" + authAddr, "authResponseHeaders": []string{"X-Mcp-Sub"},
		}}},
	}
	for i := range ways {
		ways[i].host = mcpHost
	}
	doors := map[*side]*door{}
	for _, s := range b.sides {
		doors[s] = b.open(s, server, ways)
	}
	// Tokens that carry one of the provider, of 1,000 characters, have 2,100 themselves.
	upstream := strings.Repeat("t", 1000)
	makers := map[string]func(serial int) string{
		"new":          func(n int) string { return authority.Token("https://"+mcpHost+"/wiki", "bench", n) },
		"new and long": func(n int) string { return authority.Carrying(b.t, "https://"+mcpHost+"/wiki", "bench", n, upstream) },
	}
	token, long := makers["new"](0), makers["new and long"](0)
	small, large := call(1000), call(100_000)
	rows := []struct {
		name, way, token, message string
		each, status              int
	}{
		{"GET, bare", "bare", token, "", requestsEach, 200},
		{"GET, a plugin that does nothing", "nothing", token, "", requestsEach, 200},
		{"GET, known token", "known", token, "", requestsEach, 200},
		{"GET, first sight of a token", "known", "new", "", requestsEach, 200},
		{"GET, known token of 2 KB", "known", long, "", requestsEach, 200},
		{"GET, first sight of a token of 2 KB", "known", "new and long", "", requestsEach, 200},
		{"GET, known token with the provider's", "handing", long, "", requestsEach, 200},
		{"GET, first sight of one with the provider's", "handing", "new and long", "", requestsEach, 200},
		{"GET, no token", "known", "", "", requestsEach, 401},
		{"GET, forwardAuth", "forwardauth", token, "", requestsEach, 200},
		{"1 KB, bare", "bare", token, small, requestsEach, 200},
		{"1 KB, known token", "known", token, small, requestsEach, 200},
		{"1 KB, tool rules", "rules", token, small, requestsEach, 200},
		{"1 KB, identity headers", "identity", token, small, requestsEach, 200},
		{"1 KB, calls in the log", "audit", token, small, requestsEach, 200},
		{"1 KB, forwardAuth", "forwardauth", token, small, requestsEach, 200},
		{"100 KB, bare", "bare", token, large, requestsEach / 4, 200},
		{"100 KB, known token", "known", token, large, requestsEach / 4, 200},
		{"100 KB, tool rules", "rules", token, large, requestsEach / 4, 200},
	}
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = "traefik/" + r.name
	}
	// What a base does not know, such as a label, it does not bring to an end.
	lacks := map[*side]map[string]bool{}
	for _, s := range b.sides[1:] {
		lacks[s] = map[string]bool{}
		for i, r := range rows {
			probe := &load{addr: doors[s].addr[r.way], connections: 1, each: 1, status: r.status}
			probe.request = func(int, int) []byte { return request(mcpHost, r.token, r.message) }
			if makers[r.token] != nil {
				fresh := makers[r.token](0)
				probe.request = func(int, int) []byte { return request(mcpHost, fresh, r.message) }
			}
			if _, err := probe.run(); err != nil {
				lacks[s][names[i]] = true
				fmt.Printf("%s is left out at revision %s: %v\n", names[i], s.revision, err)
			}
		}
	}
	serial := 0
	b.shortTurns(names, func(round, i int, s *side) {
		r, d := rows[i], doors[s]
		if lacks[s][names[i]] {
			return
		}
		l := &load{addr: d.addr[r.way], connections: connections, each: r.each, status: r.status}
		if maker := makers[r.token]; maker != nil {
			// made before anything is measured
			made := make([][]byte, connections*(r.each+1))
			for n := range made {
				serial++
				made[n] = request(mcpHost, maker(serial), "")
			}
			used := make([]int, connections)
			l.request = func(c, _ int) []byte {
				used[c]++
				return made[c*(r.each+1)+used[c]-1]
			}
		} else {
			same := request(mcpHost, r.token, r.message)
			l.request = func(int, int) []byte { return same }
		}
		m := &counted{door: d, auth: auth, withAuth: r.way == "forwardauth"}
		b.loaded(s, names[i], round == 0, func() rig.Usage { return m.use(b.t) }, l)
		if round > 0 {
			b.note(s, names[i], "allocs", (m.after.Memstats.Mallocs-m.before.Memstats.Mallocs)/l.requests())
			b.note(s, names[i], "alloc_kb", (m.after.Memstats.TotalAlloc-m.before.Memstats.TotalAlloc)/1000/l.requests())
			if m.withAuth {
				b.note(s, names[i], "helper_us", float64((m.authAfter-m.authBefore).Nanoseconds())/1000/l.requests())
			}
		}
	})
}

// counted is a Traefik whose allocations are read whenever its processor time is, first outside of
// and then inside what is measured.
type counted struct {
	*door
	auth     *rig.Process
	withAuth bool
	read     bool

	before, after         memory
	authBefore, authAfter time.Duration
}

func (c *counted) use(t rig.T) rig.Usage {
	helper := func() time.Duration {
		if !c.withAuth {
			return 0
		}
		return c.auth.Usage(t).CPU
	}
	if !c.read {
		c.read = true
		c.before, c.authBefore = c.memory(t, false), helper()
		return c.door.Usage(t)
	}
	u := c.door.Usage(t)
	c.after, c.authAfter = c.memory(t, false), helper()
	return u
}
