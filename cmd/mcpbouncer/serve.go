package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/issuer/trace"
)

const (
	readTimeout = 10 * time.Second
	// writeTimeout is counted from the end of the header: 10 s for the body, 38 for everything that
	// is waited for, 12 for the work itself. An answer that is cut off may have cost the client its
	// refresh token.
	writeTimeout = readTimeout + issuer.LongestAnswer + 12*time.Second
)

// serve runs until SIGINT or SIGTERM, then lets running requests finish.
func serve(out io.Writer) error {
	e, err := loadEnvironment()
	if err != nil {
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
	if e.Tenants != "" {
		if err := side.answerProxies(ctx, e, log); err != nil {
			return err
		}
	}
	side.start()
	select {
	case err := <-side.failed:
		return err
	case <-ctx.Done():
	}
	log.Info("stopping: running requests may finish")
	return side.drain()
}

// sidecar is what `serve` and `gateway` both run.
type sidecar struct {
	iss      *issuer.Issuer
	server   *http.Server
	listener net.Listener
	failed   chan error
	stop     func() error // ends the metrics
}

// newSidecar listens and does not serve yet: what its addresses say is known, and wrong ones end
// the start.
func newSidecar(e *environment, log *slog.Logger) (*sidecar, error) {
	iss, err := newIssuer(e, log)
	if err != nil {
		return nil, err
	}
	if err := checkStores(iss, log); err != nil {
		return nil, err
	}
	s := &sidecar{iss: iss, server: newServer(iss.Handler(), writeTimeout, log), failed: make(chan error, 1), stop: func() error { return nil }}
	if s.listener, err = net.Listen("tcp", e.ListenAddr); err != nil {
		return nil, fmt.Errorf("BOUNCER_LISTEN_ADDR=%q: %w; give a free address such as :8080", e.ListenAddr, err)
	}
	if iss.Metrics != nil {
		if s.stop, err = serveMetrics(e.MetricsAddr, iss.Metrics, log); err != nil {
			return nil, err
		}
	}
	if e.DBPath != "" {
		log.Info("BOUNCER_DB_PATH is set and ignored: no database is kept")
	}
	log.Info("serving", "addr", s.listener.Addr().String(), "version", version(), "masters", e.ring.MasterIDs(), "hop_keys", e.ring.HopKeyIDs(), "replay_guard", iss.ReplayGuard.Kind(), "days to the next key", daysToNextKey(iss))
	return s, nil
}

func (s *sidecar) start() { go func() { s.failed <- s.server.Serve(s.listener) }() }

// drain lets running requests finish.
func (s *sidecar) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	defer flushTraces(s.iss, stopFlush)
	return s.server.Shutdown(ctx)
}

// newBallast makes a block that nobody writes into, so that it takes address space and no memory.
// The garbage collector runs when the heap has doubled: with the block in it that is once in some
// 10 MB of garbage, and without it once in 2, which is a hundred requests. A percentage would do
// the same, and multiply what a guard remembers too. Whoever sets GOGC has decided otherwise.
func newBallast() []byte {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	return make([]byte, ballastSize)
}

const ballastSize = 8 << 20

// newServer bounds what a connection may take. write is counted from the end of the header.
func newServer(handler http.Handler, write time.Duration, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       readTimeout,
		WriteTimeout:      write,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    issuer.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelError),
	}
}

const (
	// stopFlush is how long a stop waits for the collector, and freezeFlush how long an invocation
	// of Lambda does: the client waits too.
	stopFlush   = 5 * time.Second
	freezeFlush = 500 * time.Millisecond
)

// flushTraces sends the spans that wait.
func flushTraces(iss *issuer.Issuer, atMost time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), atMost)
	defer cancel()
	iss.Trace.Flush(ctx)
}

// serveMetrics serves /metrics at an address of its own: everybody reaches the other one through
// the plugin.
func serveMetrics(addr string, m *metrics.Metrics, log *slog.Logger) (stop func() error, err error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("BOUNCER_METRICS_ADDR=%q: %w; give a free address such as :9090, or none", addr, err)
	}
	server := newServer(m.Handler(), readTimeout, log)
	log.Info("serving metrics", "addr", listener.Addr().String())
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the metrics are not served any more: restart the sidecar", "cause", err)
		}
	}()
	return server.Close, nil
}

// daysToNextKey has one decimal.
func daysToNextKey(iss *issuer.Issuer) float64 {
	now := iss.Now()
	return math.Round(iss.Schedule.NextKey(now).Sub(now).Hours()/24*10) / 10
}

func newIssuer(e *environment, log *slog.Logger) (*issuer.Issuer, error) {
	config := e.issuerConfig(log)
	if err := e.openStores(&config); err != nil {
		return nil, err
	}
	// Nobody is refused a login because what watches it is set up wrongly.
	var err error
	if config.Trace, err = trace.Open(os.Getenv, log, version()); err != nil {
		log.Warn("nothing is traced", "cause", err)
	}
	iss, err := issuer.New(config)
	if err != nil {
		return nil, fmt.Errorf("%w; see BOUNCER_ACCESS_TOKEN_TTL, BOUNCER_REFRESH_TOKEN_TTL, BOUNCER_REFRESH_IDLE_TTL, BOUNCER_SESSION_TTL, BOUNCER_KEY_ROTATION_DAYS and BOUNCER_KEY_OVERLAP_HOURS", err)
	}
	return iss, nil
}

// checkStores refuses a store that would forget what it must remember. One that does not answer may
// come back.
func checkStores(iss *issuer.Issuer, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := iss.ReplayGuard.Check(ctx)
	if errors.Is(err, replay.ErrUnsafe) {
		return fmt.Errorf("BOUNCER_REPLAY_GUARD: %w", err)
	}
	if err != nil {
		log.Error("the replay guard does not answer", "cause", err)
	}
	return nil
}

// healthcheck is for a container without a shell. It prints the health that it read.
func healthcheck(args []string, out io.Writer) error {
	asJSON := slices.Equal(args, []string{"--json"})
	if len(args) > 0 && !asJSON {
		return fmt.Errorf("healthcheck: %q is no flag; there is --json", args[0])
	}
	e, err := readEnvironment()
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(e.ListenAddr)
	if err != nil {
		return fmt.Errorf("BOUNCER_LISTEN_ADDR=%q: %w; give the address that serve listens on, such as :8080", e.ListenAddr, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	client := http.Client{
		Timeout:       3 * time.Second,
		Transport:     &http.Transport{Proxy: nil}, // HTTP_PROXY is for the way to the provider
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Get("http://" + net.JoinHostPort(host, port) + "/healthz")
	if err != nil {
		return fmt.Errorf("healthcheck: no sidecar answers on BOUNCER_LISTEN_ADDR=%q: %w; run it where the sidecar runs, with its variables", e.ListenAddr, err)
	}
	defer resp.Body.Close()
	if resp.Header.Get(issuer.MarkHeader) == "" {
		return fmt.Errorf("healthcheck: what answers on BOUNCER_LISTEN_ADDR=%q is not the sidecar (%s)", e.ListenAddr, resp.Status)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: the sidecar answered %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	return writeHealth(out, body, asJSON, time.Now())
}

// health is what /healthz shows (issuer/operator.go). A sidecar of another version may show less.
type health struct {
	Status     string           `json:"status"`
	Version    string           `json:"version"`
	Masters    []string         `json:"masters"`
	Counters   map[string]int64 `json:"counters"`
	SigningKey struct {
		Epoch uint32    `json:"epoch"`
		Next  time.Time `json:"next"`
	} `json:"signing_key"`
}

// writeHealth prints what was read. Whatever it is, the sidecar serves: an answer in another form
// must not make a container look ill.
func writeHealth(out io.Writer, body []byte, asJSON bool, now time.Time) error {
	var h health
	if asJSON || json.Unmarshal(body, &h) != nil {
		_, err := fmt.Fprintln(out, strings.TrimSpace(string(body)))
		return err
	}
	fmt.Fprintf(out, "status    %s\n", h.Status)
	if h.Version != "" {
		fmt.Fprintf(out, "version   %s\n", h.Version)
	}
	if len(h.Masters) > 0 {
		fmt.Fprintf(out, "masters   %s\n", strings.Join(h.Masters, " "))
	}
	if next := h.SigningKey.Next; !next.IsZero() {
		fmt.Fprintf(out, "next key  %s (in %.1f days; epoch %d signs now)\n", next.UTC().Format(time.RFC3339), next.Sub(now).Hours()/24, h.SigningKey.Epoch)
	}
	if len(h.Counters) > 0 {
		fmt.Fprintln(out, "since this process began:")
	}
	for _, name := range slices.Sorted(maps.Keys(h.Counters)) {
		fmt.Fprintf(out, "  %-18s %d\n", name, h.Counters[name])
	}
	return nil
}
