//go:build !lambda.norpc || gateway

package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/mcpbouncer/mcpbouncer/internal/gateway"
)

// runGateway runs a sidecar and the proxy before the MCP servers until SIGINT or SIGTERM.
func runGateway(out io.Writer) error {
	e, err := loadEnvironment()
	if err != nil {
		return err
	}
	if e.Tenants == "" {
		return errors.New("BOUNCER_TENANTS is not set: name the tenants file (docs/gateway.md)")
	}
	if err := e.checkTLS(); err != nil {
		return err
	}
	log := e.logger(out)
	ballast := newBallast()
	defer runtime.KeepAlive(ballast)
	side, err := newSidecar(e, log)
	if err != nil {
		return err
	}
	defer side.stop()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	g := &gateway.Gateway{File: e.Tenants, Sidecar: side.url(), Log: log, Behind: e.TLSElsewhere}
	server := g.Server()
	if server.TLSConfig, err = e.tlsConfig(g, log); err != nil {
		return err
	}
	g.TLS = server.TLSConfig != nil
	side.start() // the plugin asks it as soon as it is loaded
	if err := watchTenants(ctx, e, log, g.Load); err != nil {
		return err
	}
	standard := ":8000"
	if server.TLSConfig != nil {
		standard = ":443"
	}
	addr := cmp.Or(e.GatewayAddr, standard)
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("BOUNCER_GATEWAY_ADDR=%q: %w; give a free address such as :8443", addr, err)
	}
	log.Info("gateway", "addr", listener.Addr().String(), "tls", server.TLSConfig != nil)
	failed := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			failed <- server.ServeTLS(listener, "", "")
			return
		}
		failed <- server.Serve(listener)
	}()
	select {
	case err := <-failed:
		return err
	case err := <-side.failed:
		return err
	case <-ctx.Done():
	}
	log.Info("stopping: running requests may finish", "seconds", int(drainTime/time.Second))
	return errors.Join(drainGateway(server), side.drain())
}

// drainTime is for requests that end by themselves. A stream does not: its client opens another at
// the next process.
const drainTime = 20 * time.Second

func drainGateway(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return server.Close()
}

// answerProxies has the sidecar answer at /forward-auth, and clients at the OAuth paths of the
// tenants.
func (s *sidecar) answerProxies(ctx context.Context, e *environment, log *slog.Logger) error {
	a := &gateway.ForwardAuth{File: e.Tenants, Sidecar: s.url(), Log: log, Hop: s.server.Handler}
	s.server.Handler = a
	return watchTenants(ctx, e, log, a.Load)
}

// url is where the plugin's code in this process reaches the sidecar: by the same way and with the
// same hop header as in Traefik.
func (s *sidecar) url() string {
	addr := s.listener.Addr().(*net.TCPAddr)
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, fmt.Sprint(addr.Port))
}

// watchTenants loads the tenants file, and again when it changes or the process is told SIGHUP.
func watchTenants(ctx context.Context, e *environment, log *slog.Logger, load func([]byte) error) error {
	// The plugin reads the hop key from its environment, and writes with package log.
	if err := os.Setenv("BOUNCER_HOP_KEY", e.ring.HopKey()); err != nil {
		return err
	}
	stdlog.SetFlags(0)
	stdlog.SetOutput(pluginLog{log})
	content, err := gateway.ReadFile(e.Tenants)
	if err == nil {
		err = load(content)
	}
	if err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	w := &gateway.Watcher{File: e.Tenants, Content: content, Load: load, Log: log}
	go w.Run(ctx, hangup)
	return nil
}

// pluginLog makes lines of the sidecar's log of those that the plugin writes for its operator.
type pluginLog struct{ log *slog.Logger }

func (p pluginLog) Write(line []byte) (int, error) {
	text := strings.TrimSuffix(strings.TrimPrefix(string(line), "mcpbouncer: "), "\n")
	if strings.HasSuffix(text, "answers and accepts the hop key") {
		p.log.Info("plugin", "says", text)
	} else {
		p.log.Warn("plugin", "says", text)
	}
	return len(line), nil
}

// checkTLS refuses variables that contradict each other.
func (e *environment) checkTLS() error {
	ways := 0
	for _, set := range []bool{e.TLSCert != "" || e.TLSKey != "", e.ACMEDir != "", e.TLSElsewhere} {
		if set {
			ways++
		}
	}
	switch {
	case ways > 1:
		return errors.New("BOUNCER_TLS_CERT, BOUNCER_ACME_DIR and BOUNCER_TLS_ELSEWHERE are three ways of which one can be: keep one")
	case (e.TLSCert == "") != (e.TLSKey == ""):
		return errors.New("BOUNCER_TLS_CERT and BOUNCER_TLS_KEY belong together: set both")
	case e.ACMEDir == "" && (e.ACMEServer != "" || e.ACMEEmail != ""):
		return errors.New("BOUNCER_ACME_SERVER and BOUNCER_ACME_EMAIL mean nothing without BOUNCER_ACME_DIR: name a folder for the certificates")
	}
	return nil
}

// tlsConfig is nil for a gateway without TLS of its own.
func (e *environment) tlsConfig(g *gateway.Gateway, log *slog.Logger) (*tls.Config, error) {
	switch {
	case e.TLSCert != "":
		c, err := gateway.OpenCertificate(e.TLSCert, e.TLSKey, g.Serves, log)
		return &tls.Config{GetCertificate: c.Get, MinVersion: tls.VersionTLS12}, err
	case e.ACMEDir != "":
		if err := os.MkdirAll(e.ACMEDir, 0o700); err != nil {
			return nil, fmt.Errorf("BOUNCER_ACME_DIR=%q: %w; name a folder that this process may write to", e.ACMEDir, err)
		}
		m := &autocert.Manager{
			Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(e.ACMEDir), HostPolicy: g.Serves, Email: e.ACMEEmail,
			Client: &acme.Client{DirectoryURL: cmp.Or(e.ACMEServer, autocert.DefaultACMEDirectory), UserAgent: "mcpbouncer/" + version()},
		}
		config := m.TLSConfig()
		config.MinVersion = tls.VersionTLS12
		get := config.GetCertificate
		var said atomic.Int64 // Unix seconds: strangers cause the lines
		config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := get(hello)
			if now := time.Now().Unix(); err != nil && g.Serves(context.Background(), hello.ServerName) == nil && now-said.Load() >= 10 {
				said.Store(now)
				log.Error("no certificate by ACME", "host", hello.ServerName, "cause", err.Error())
			}
			return cert, err
		}
		return config, nil
	}
	return nil, nil
}
