package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// What stands before each of some tenants.
const (
	noMiddleware = iota
	nothings
	bouncers
)

// tenants are so many ways on one entry point.
func tenants(a *rig.Authority, n, what int) []way {
	ways := make([]way, n)
	for i := range ways {
		ways[i] = way{name: fmt.Sprint("t", i), host: host(i), shared: true}
		switch what {
		case nothings:
			ways[i].middleware = doingNothing()
		case bouncers:
			ways[i].middleware = bouncer(a, host(i), nil)
		}
	}
	return ways
}

// known is what asks each tenant in turn, with a token that it gets again and again.
func known(a *rig.Authority, n int) func(connection, i int) []byte {
	requests := make([][]byte, n)
	for i := range requests {
		requests[i] = request(host(i), a.Token("https://"+host(i)+"/wiki", "bench", i), "")
	}
	return func(c, i int) []byte { return requests[(c*requestsEach+i)%n] }
}

// middlewares are 1, 10, 100, 400 and 1,000 tenants of one Traefik, each of which is asked in turn.
// Traefik reads its rules one after the other, so that a request takes longer the more there are,
// whatever the middleware does: the rows with a plugin that does nothing say how much. In the first
// row Traefik has no plugin to interpret, neither ours nor that one: both are in memory in all
// others.
func (b *bench) middlewares() {
	authority, server := rig.StartAuthority(b.t), b.mcpServer()
	type kind struct {
		n     int
		what  int
		doors map[*side]*door
		ask   func(connection, i int) []byte
	}
	var kinds []kind
	names := []string{"middlewares/none, and no plugin loaded"}
	kinds = append(kinds, kind{1, noMiddleware, map[*side]*door{}, known(authority, 1)})
	for _, n := range []int{1, 10, 100, 400, 1000} {
		names = append(names, fmt.Sprintf("middlewares/%d that do nothing", n), fmt.Sprintf("middlewares/%d of ours", n))
		for _, what := range []int{nothings, bouncers} {
			kinds = append(kinds, kind{n, what, map[*side]*door{}, known(authority, n)})
		}
	}
	for i, k := range kinds {
		for _, s := range b.sides {
			// what is not ours is the same in both
			if !b.wants(names[i]) || k.what != bouncers && s != b.sides[0] {
				continue
			}
			plugins := s
			if k.what == noMiddleware {
				plugins = nil
			}
			d := b.open(plugins, server, tenants(authority, k.n, k.what))
			k.doors[s] = d
			// Every tenant is asked until it has what it needs.
			at := time.Now()
			err := together(4, func(c int) error {
				w, err := dial(d.addr["t0"])
				if err != nil {
					return err
				}
				defer w.Close()
				for tenant := c; tenant < k.n; tenant += 4 {
					rig.WaitWithin(b.t, time.Minute, host(tenant), func() error {
						answer, err := w.ask(k.ask(0, tenant))
						if err == nil && answer.StatusCode != http.StatusOK {
							err = errors.New(answer.Status)
						}
						return err
					})
				}
				return nil
			})
			if err != nil {
				b.t.Fatalf("%s: %v", names[i], err)
			}
			b.note(s, names[i], "ms", float64(time.Since(at).Microseconds())/1000)
		}
	}
	b.shortTurns(names, func(round, i int, s *side) {
		d := kinds[i].doors[s]
		if d == nil {
			return
		}
		b.loaded(s, names[i], round == 0, d.use(b.t), &load{
			addr: d.addr["t0"], connections: connections, each: requestsEach, status: http.StatusOK, request: kinds[i].ask,
		})
	})
	for i, k := range kinds {
		for s, d := range k.doors {
			b.note(s, names[i], "heap_mb", d.memory(b.t, true).Memstats.HeapAlloc/1e6)
			b.note(s, names[i], "rss_mb", float64(d.Usage(b.t).RSS)/1e6)
		}
	}
}

// reloads of the configuration, with ten middlewares each of which is made anew, while requests go
// on: what stays behind, and who has to wait.
func (b *bench) reloads() {
	const times, of = 150, 10
	authority, server := rig.StartAuthority(b.t), b.mcpServer()
	for _, what := range []int{nothings, bouncers} {
		name := fmt.Sprintf("reloads/%d, %d middlewares that do nothing", times, of)
		if what == bouncers {
			name = fmt.Sprintf("reloads/%d, %d middlewares of ours", times, of)
		}
		for _, s := range b.sides {
			if !b.wants(name) || what == nothings && s != b.sides[0] {
				continue
			}
			d := b.open(s, server, tenants(authority, of, what))
			ask := known(authority, of)
			quiet := b.paced(d, ask, time.Second, nil)
			b.reload(d, "first") // what is made once is there
			before, goroutines, rss := d.memory(b.t, true), d.goroutines(b.t), d.Usage(b.t).RSS
			var took time.Duration
			busy := b.paced(d, ask, 0, func() {
				at := time.Now()
				for i := range times {
					b.reload(d, fmt.Sprint(i))
				}
				took = time.Since(at) / times
			})
			// What a generation leaves behind ends by itself within a moment.
			least := d.goroutines(b.t)
			for deadline := time.Now().Add(5 * time.Second); least > goroutines && time.Now().Before(deadline); {
				<-time.After(100 * time.Millisecond)
				least = min(least, d.goroutines(b.t))
			}
			b.note(s, name, "ms", float64(took.Microseconds())/1000)
			b.note(s, name, "goroutines", least-goroutines)
			b.note(s, name, "heap_mb", (d.memory(b.t, true).Memstats.HeapAlloc-before.Memstats.HeapAlloc)/1e6)
			b.note(s, name, "grown_mb", float64(d.Usage(b.t).RSS-rss)/1e6)
			b.note(s, name, "p50_us", percentile(busy, 0.5))
			b.note(s, name, "p99_us", percentile(busy, 0.99))
			b.note(s, name, "max_ms", busy[len(busy)-1]/1000)
			b.note(s, name+", none meanwhile", "p50_us", percentile(quiet, 0.5))
			b.note(s, name+", none meanwhile", "p99_us", percentile(quiet, 0.99))
			b.note(s, name+", none meanwhile", "max_ms", quiet[len(quiet)-1]/1000)
		}
	}
}

// reload changes the configuration, and returns when the new one serves.
func (b *bench) reload(d *door, version string) {
	path := "/version/" + version
	d.file["http"].(map[string]any)["routers"].(map[string]any)["version"] = map[string]any{
		"rule": "Path(`" + path + "`)", "entryPoints": []string{"shared"}, "service": "wiki",
	}
	d.SetFile(b.t, "dynamic.yaml", d.file)
	w, err := dial(d.addr["t0"])
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	defer w.Close()
	request := text(http.MethodGet, path, mcpHost, "")
	rig.WaitFor(b.t, "configuration "+version, func() error {
		answer, err := w.ask(request)
		if err == nil && answer.StatusCode != http.StatusOK {
			err = errors.New(answer.Status)
		}
		return err
	})
}

// paced sends a request every two milliseconds on each of four connections, for so long or until f
// has ended, and tells how long each took: µs, sorted.
func (b *bench) paced(d *door, ask func(connection, i int) []byte, lasts time.Duration, f func()) []float64 {
	end := make(chan struct{})
	var mu sync.Mutex
	var all []float64
	var wg sync.WaitGroup
	failed := make(chan error, 4)
	for c := range 4 {
		wg.Go(func() {
			w, err := dial(d.addr["t0"])
			if err != nil {
				failed <- err
				return
			}
			defer w.Close()
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			var mine []float64
			for i := 0; ; i++ {
				select {
				case <-end:
					mu.Lock()
					all = append(all, mine...)
					mu.Unlock()
					return
				case <-tick.C:
				}
				at := time.Now()
				answer, err := w.ask(ask(c, i))
				if err == nil && answer.StatusCode != http.StatusOK {
					err = errors.New(answer.Status)
				}
				if err != nil {
					failed <- err
					return
				}
				mine = append(mine, float64(time.Since(at).Nanoseconds())/1000)
			}
		})
	}
	if f != nil {
		f()
	} else {
		<-time.After(lasts)
	}
	close(end)
	wg.Wait()
	select {
	case err := <-failed:
		b.t.Fatalf("while the configuration changed: %v", err)
	default:
	}
	slices.Sort(all)
	return all
}

// streams are 1,000 event streams that stay open, to which the server writes events.
func (b *bench) streams() {
	const open, events = 1000, 20
	authority := rig.StartAuthority(b.t)
	var mu sync.Mutex
	listeners := map[chan string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "text/event-stream" { // is the route there?
			return
		}
		mine := make(chan string, events)
		mu.Lock()
		listeners[mine] = true
		mu.Unlock()
		defer func() {
			mu.Lock()
			delete(listeners, mine)
			mu.Unlock()
		}()
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: open\n\n"))
		for {
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case event := <-mine:
				fmt.Fprintf(w, "data: %s\n\n", event)
			}
		}
	}))
	b.t.Cleanup(server.Close)
	token := authority.Token("https://"+mcpHost+"/wiki", "bench", 0)
	request := text(http.MethodGet, "/wiki/mcp", mcpHost, "", "Accept", "text/event-stream", "Authorization", "Bearer "+token)
	for _, c := range []struct {
		name       string
		middleware map[string]any
	}{
		{fmt.Sprintf("streams/%d, bare", open), nil},
		{fmt.Sprintf("streams/%d, ours", open), bouncer(authority, mcpHost, nil)},
	} {
		for _, s := range b.sides {
			if !b.wants(c.name) || c.middleware == nil && s != b.sides[0] {
				continue
			}
			d := b.open(s, server.URL, []way{{name: "stream", host: mcpHost, middleware: c.middleware}})
			before, rss, goroutines := d.memory(b.t, true), d.Usage(b.t).RSS, d.goroutines(b.t)
			at := time.Now()
			streams := make([]*stream, open)
			err := together(16, func(w int) (err error) {
				for i := w; i < open && err == nil; i += 16 {
					streams[i], err = openStream(d.addr["stream"], request)
				}
				return err
			})
			if err != nil {
				b.t.Fatalf("%s: %v", c.name, err)
			}
			b.note(s, c.name, "per_second", open/time.Since(at).Seconds())
			b.note(s, c.name, "heap_mb", (d.memory(b.t, true).Memstats.HeapAlloc-before.Memstats.HeapAlloc)/1e6)
			b.note(s, c.name, "grown_mb", float64(d.Usage(b.t).RSS-rss)/1e6)
			b.note(s, c.name, "goroutines", d.goroutines(b.t)-goroutines)
			cpu := d.Usage(b.t).CPU
			var delays []float64
			for n := range events {
				sent := time.Now()
				mu.Lock()
				for l := range listeners {
					l <- fmt.Sprint(n)
				}
				mu.Unlock()
				took := make([]float64, open)
				err := together(open, func(i int) error {
					err := streams[i].next(fmt.Sprint(n))
					took[i] = float64(time.Since(sent).Nanoseconds()) / 1000
					return err
				})
				if err != nil {
					b.t.Fatalf("%s: %v", c.name, err)
				}
				delays = append(delays, took...)
			}
			slices.Sort(delays)
			b.note(s, c.name, "cpu_us", float64((d.Usage(b.t).CPU-cpu).Nanoseconds())/1000/open/events)
			b.note(s, c.name, "p50_us", percentile(delays, 0.5))
			b.note(s, c.name, "p99_us", percentile(delays, 0.99))
			for _, one := range streams {
				one.wire.Close()
			}
		}
	}
}

// stream is an event stream that a client has open.
type stream struct {
	wire *wire
	in   *bufio.Reader
}

func openStream(addr string, request []byte) (*stream, error) {
	w, err := dial(addr)
	if err != nil {
		return nil, err
	}
	answer, err := w.send(request)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(answer.Status)
	}
	if err != nil {
		return nil, err
	}
	s := &stream{w, bufio.NewReader(answer.Body)}
	return s, s.next("open")
}

// next reads one event, which must be the one that is due.
func (s *stream) next(event string) error {
	_ = s.wire.SetReadDeadline(time.Now().Add(30 * time.Second))
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return err
		}
		if got, is := strings.CutPrefix(strings.TrimSpace(line), "data: "); is {
			if got != event {
				return fmt.Errorf("event %q, and not %q", got, event)
			}
			return nil
		}
	}
}

// identities are 200 people on 32 connections, each request that of another one, with strangers in
// between: whoever is seen as somebody else ends the run.
func (b *bench) identities() {
	const people, on, each = 200, 32, 600
	authority, server := rig.StartAuthority(b.t), b.mcpServer()
	name := fmt.Sprintf("identities/%d tokens on %d connections", people, on)
	if !b.wants(name) {
		return
	}
	for _, s := range b.sides {
		d := b.open(s, server, []way{{name: "wiki", host: mcpHost, middleware: bouncer(authority, mcpHost, nil)}})
		who := make([][]int, on)
		l := &load{addr: d.addr["wiki"], connections: on, each: each}
		requests := make([][]byte, people+1)
		for i := range people {
			token := authority.Token("https://"+mcpHost+"/wiki", person(i), i)
			requests[i] = text(http.MethodGet, "/wiki/mcp", mcpHost, "", "Authorization", "Bearer "+token, "X-Mcp-Sub", person((i+1)%people))
		}
		// somebody without a token, who says that they are somebody
		requests[people] = text(http.MethodGet, "/wiki/mcp", mcpHost, "", "X-Mcp-Sub", person(0))
		for c := range who {
			who[c] = make([]int, each)
			for i := range who[c] {
				who[c][i] = rand.IntN(people + 1)
			}
		}
		l.request = func(c, i int) []byte { return requests[who[c][i]] }
		l.check = func(c, i int, answer *http.Response) error { return isSeenAs(who[c][i], people, answer) }
		b.loaded(s, name, false, d.use(b.t), l)
		b.note(s, name, "requests", l.requests())
		b.note(s, name, "mixed", 0)
	}
}

func person(i int) string { return fmt.Sprintf("person-%d", i) }

// isSeenAs says whether the MCP server saw the person whose token it was; the last one has none.
func isSeenAs(i, people int, answer *http.Response) error {
	if i == people {
		if answer.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("without a token: %s", answer.Status)
		}
		return nil
	}
	if saw := answer.Header.Values("X-Saw"); answer.StatusCode != http.StatusOK || len(saw) != 1 || saw[0] != person(i) {
		return fmt.Errorf("identities are mixed up: the token of %s was answered with %s, and the server saw %q", person(i), answer.Status, saw)
	}
	return nil
}
