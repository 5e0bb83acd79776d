package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// BenchmarkTraefikMessage measures what a message of 1 KB with a known token costs the processor in
// real Traefik: its whole process, garbage collection and network included. The routers are asked
// in turn, so that other work on the machine meets all of them; a figure is the median of the
// rounds, in microseconds a request. Run it with -benchtime 1x.
func BenchmarkTraefikMessage(b *testing.B) {
	const (
		rounds      = 9
		connections = 16
		requests    = 150 // of each connection in a round
	)
	a := newAuthority(b)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":7,"result":{}}`))
	}))
	b.Cleanup(server.Close)
	cases := []struct {
		name   string
		labels map[string]any // nil: no middleware
	}{
		{"bare", nil},
		{"plain", map[string]any{}},
		{"rules", map[string]any{"toolScopes": "delete_page=wiki:write; *=openid"}},
		{"calls", map[string]any{"auditCalls": "true"}},
	}
	routers, middlewares := map[string]any{}, map[string]any{}
	for _, c := range cases {
		router := map[string]any{
			"rule":        "Host(`mcp.localhost`) && PathPrefix(`/wiki`) && Header(`X-Case`, `" + c.name + "`)",
			"entryPoints": []string{"web"}, "service": "wiki",
		}
		if c.labels != nil {
			router["middlewares"] = []string{c.name}
			labels := map[string]any{
				"providerIssuer": "https://accounts.google.com", "clientID": "client",
				"clientSecret": "env:GOOGLE_CLIENT_SECRET", "resource": "wiki", "sidecarURL": a.url,
				"publicURL": "https://mcp.localhost/wiki",
			}
			for name, value := range c.labels {
				labels[name] = value
			}
			middlewares[c.name] = map[string]any{"plugin": map[string]any{"mcpbouncer": labels}}
		}
		routers[c.name] = router
	}
	traefik := rig.StartTraefik(b, &rig.Logs{}, rig.TraefikConfig{
		WebPort: rig.FreePort(b), HopKey: benchHopKey,
		LogLevel: "ERROR",
		File: map[string]any{"http": map[string]any{
			"routers": routers, "middlewares": middlewares,
			"services": map[string]any{"wiki": map[string]any{"loadBalancer": map[string]any{
				"servers": []any{map[string]any{"url": server.URL}},
			}}},
		}},
	})
	const head = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search","arguments":{"text":"`
	message := head + strings.Repeat("word ", 180) + `"},"_meta":{"progressToken":7}}}`
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	token := a.token(0)
	send := func(name string) error {
		req, err := http.NewRequest(http.MethodPost, traefik.Web+"/wiki/mcp", strings.NewReader(message))
		if err != nil {
			return err
		}
		req.Host = "mcp.localhost"
		for name, value := range map[string]string{
			"Accept": "application/json, text/event-stream", "Accept-Language": "*",
			"Authorization": "Bearer " + token, "Content-Type": "application/json",
			"Mcp-Protocol-Version": "2025-06-18", "Mcp-Session-Id": "a1", "Sec-Fetch-Mode": "cors",
			"User-Agent": "node", "X-Case": name,
		} {
			req.Header.Set(name, value)
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", name, resp.Status)
		}
		return nil
	}
	for _, c := range cases {
		rig.WaitFor(b, "the route "+c.name, func() error { return send(c.name) })
	}
	took := map[string][]float64{}
	b.ResetTimer()
	for range b.N {
		for round := range rounds + 1 {
			for _, c := range cases {
				before := traefik.Usage(b).CPU
				var wg sync.WaitGroup
				for range connections {
					wg.Go(func() {
						for range requests {
							if err := send(c.name); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				if round > 0 { // the first one warms up
					us := float64((traefik.Usage(b).CPU - before).Microseconds())
					took[c.name] = append(took[c.name], us/connections/requests)
				}
			}
		}
	}
	for _, c := range cases {
		slices.Sort(took[c.name])
		b.ReportMetric(took[c.name][len(took[c.name])/2], c.name+"-us")
	}
}
