// Demo starts a whole MCPBouncer installation on this machine and logs in to it once, telling each
// step.
//
//	demo [-once] [-clients] [-traefik] [-addr localhost:8090] [-picture FILE [-load 4m]]
//
// Everything runs in this process: an OpenID provider with two users, the sidecar, an MCP server,
// and the plugin in front of it, compiled into a plain reverse proxy. With -traefik the plugin runs
// in the real Traefik (build/traefik) instead, configured by a file as any Traefik is.
//
// With -clients it logs in to nothing itself: it prints how Claude Code, Codex, VS Code and the MCP
// Inspector are added to it, and says when one of them has logged in.
//
// With -picture the demo in the real Traefik is put under load, a real Prometheus looks on, and the
// dashboard of deploy/observe is drawn of what it saw.
package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/plugin"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const (
	clientID     = "mcpbouncer-demo"
	clientSecret = "demo-secret" // of the demo's own provider, which ends with the demo
	username     = "test-user@localhost"
	password     = "verysecure"
)

func main() {
	once := flag.Bool("once", false, "end after the scripted login, with its result as exit status")
	clients := flag.Bool("clients", false, "print how clients are added, and say when they have logged in")
	documents := flag.Bool("documents", true, "whether clients may introduce themselves by documents on the internet; without it they register")
	traefik := flag.Bool("traefik", false, "run the plugin in the real Traefik")
	addr := flag.String("addr", "localhost:8090", "where the MCP server is reachable")
	file := flag.String("picture", "", "draw the dashboard of a demo under load into this file, and end")
	load := flag.Duration("load", 4*time.Minute, "how long the load lasts for -picture")
	flag.Parse()
	var shot *picture
	if *file != "" {
		shot, *traefik = &picture{file: *file, lasts: *load, figures: metrics.New()}, true
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var waiting *arrivals
	if *clients {
		waiting = newArrivals()
	}
	if err := demo(ctx, *addr, *traefik, *once, *documents, waiting, shot); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, addr string, traefik, once, documents bool, waiting *arrivals, shot *picture) (err error) {
	t := rig.NewLife(ctx, "demo")
	defer t.End(&err)

	public := "http://" + addr + "/wiki"
	provider := startProvider(t, public+"/oauth/callback", shot)
	keys := newKeys(t)
	sidecar := startSidecar(t, keys, documents, waiting, shot)
	mcp := rig.StartMCPServer(t, false)
	labels := plugin.Config{
		ProviderIssuer: provider, ClientID: clientID, ClientSecret: clientSecret,
		Resource: "wiki", Scopes: "openid email profile offline_access", SidecarURL: sidecar,
	}
	if traefik {
		startTraefik(t, addr, keys, labels, mcp, shot)
	} else {
		startProxy(t, addr, keys, labels, mcp)
	}

	fmt.Printf(`
MCPBouncer demo
  MCP server        %s/mcp      <- paste this URL into an MCP client on this machine
  users             %s and test-user2@localhost, password %s
  OpenID provider   %s
  sidecar           %s
  plugin            in %s
`, public, username, password, provider, sidecar, map[bool]string{true: "the real Traefik", false: "a plain reverse proxy"}[traefik])

	if waiting != nil {
		if err := showClients(public + "/mcp"); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	if err := scriptedLogin(ctx, public); err != nil {
		return err
	}
	if shot != nil {
		return shot.take(t, public, sidecar)
	}
	if once {
		return nil
	}
	fmt.Println("\nEverything goes on running. Connect a client of your own, or press Ctrl-C to end. What clients find here, in another terminal:\n  go run ./cmd/mcpbouncer doctor " + public + "/mcp")
	<-ctx.Done()
	return nil
}

func startProvider(t *rig.Life, callback string, shot *picture) string {
	listener := listen(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	issuer := "http://localhost:" + port
	storage.RegisterClients(storage.WebClient(clientID, clientSecret, callback))
	// names the users …@localhost
	store := storage.NewStorage(storage.NewUserStore("http://localhost:0/"))
	quiet := slog.New(slog.DiscardHandler)
	var handler http.Handler = exampleop.SetupServer(issuer, store, quiet, false)
	if shot != nil {
		handler = shot.slow(handler)
	}
	serve(t, listener, handler)
	return issuer
}

// keys are made anew for each demo, as `mcpbouncer keygen` makes them.
type keys struct {
	ring *sealing.Ring
	hop  string
}

func newKeys(t *rig.Life) keys {
	ring, err := sealing.ParseRing(newMasterSecret())
	if err != nil {
		t.Fatalf("%v", err)
	}
	return keys{ring, ring.HopKey()}
}

func startSidecar(t *rig.Life, k keys, documents bool, waiting *arrivals, shot *picture) string {
	config := issuer.Config{
		Ring: k.ring, Schedule: sealing.Schedule{Rotation: 30 * 24 * time.Hour, Overlap: 24 * time.Hour},
		AccessTokenTTL: time.Hour, RefreshTokenTTL: 30 * 24 * time.Hour, SessionTTL: 24 * time.Hour,
		Log:               slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		MetadataDocuments: &documents,
	}
	if waiting != nil {
		config.Log = slog.New(slog.NewJSONHandler(waiting, nil))
	}
	if shot != nil {
		figures := listen(t, "127.0.0.1:0")
		config.Version, config.Metrics, config.Log = "demo", shot.figures, slog.New(slog.DiscardHandler)
		var errs [2]error
		config.ReplayGuard, errs[0] = replay.Open("memory", config.RefreshTokenTTL, config.RefreshTokenTTL, time.Now)
		config.Deny, errs[1] = deny.Open(`{"v":1,"serial":17}`, http.DefaultTransport)
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatalf("%v", err)
		}
		serve(t, figures, shot.figures.Handler())
		shot.sidecar = figures.Addr().String()
	}
	iss, err := issuer.New(config)
	if err != nil {
		t.Fatalf("%v", err)
	}
	listener := listen(t, "127.0.0.1:0")
	serve(t, listener, iss.Handler())
	return "http://" + listener.Addr().String()
}

// startProxy puts the plugin, compiled, where Traefik would run it.
func startProxy(t *rig.Life, addr string, k keys, labels plugin.Config, mcp *rig.MCPServer) {
	if err := os.Setenv("BOUNCER_HOP_KEY", k.hop); err != nil {
		t.Fatalf("%v", err)
	}
	backend, err := url.Parse(mcp.URL)
	if err != nil {
		t.Fatalf("%v", err)
	}
	next := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(backend); r.SetXForwarded() }, FlushInterval: -1}
	handler, err := plugin.New(t.Context(), next, &labels, "demo")
	if err != nil {
		t.Fatalf("%v", err)
	}
	serve(t, listen(t, addr), handler)
}

func startTraefik(t *rig.Life, addr string, k keys, labels plugin.Config, mcp *rig.MCPServer, shot *picture) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatalf("-addr: %v", err)
	}
	webPort, err := strconv.Atoi(port)
	if err != nil {
		t.Fatalf("-addr: %v", err)
	}
	logs := &rig.Logs{}
	var static map[string]any
	if shot != nil {
		shot.traefik = fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t))
		static = map[string]any{
			"metrics":     map[string]any{"prometheus": map[string]any{"addRoutersLabels": true}},
			"entryPoints": map[string]any{"traefik": map[string]any{"address": shot.traefik}},
		}
	}
	rig.StartTraefik(t, logs, rig.TraefikConfig{Static: static, WebPort: webPort, HopKey: k.hop, File: map[string]any{"http": map[string]any{
		"routers": map[string]any{"wiki": map[string]any{
			"rule": "Host(`" + host + "`) && " + rig.PathRule("/wiki"), "entryPoints": []string{"web"},
			"middlewares": []string{"mcpb-wiki"}, "service": "wiki",
		}},
		"middlewares": map[string]any{"mcpb-wiki": map[string]any{"plugin": map[string]any{"mcpbouncer": map[string]any{
			"providerIssuer": labels.ProviderIssuer, "clientID": labels.ClientID, "clientSecret": labels.ClientSecret,
			"resource": labels.Resource, "scopes": labels.Scopes, "sidecarURL": labels.SidecarURL,
		}}}},
		"services": map[string]any{"wiki": map[string]any{"loadBalancer": map[string]any{"servers": []any{map[string]any{"url": mcp.URL}}}}},
	}}})
	rig.WaitFor(t, "route to the MCP server", func() error {
		resp, err := http.Get("http://" + addr + "/wiki/mcp")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	})
}

func listen(l *rig.Life, addr string) net.Listener {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		l.Fatalf("%v (choose another address with ADDR=localhost:PORT)", err)
	}
	return listener
}

func serve(l *rig.Life, listener net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler}
	l.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
}

func newMasterSecret() string {
	secret := make([]byte, 32)
	rand.Read(secret)
	return base64.StdEncoding.EncodeToString(secret)
}
