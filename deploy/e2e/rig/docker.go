package rig

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Container is what Traefik's docker provider reads of a running container.
type Container struct {
	Name     string
	IP       string
	Port     string   // exposed port
	Networks []string // default: bridge
	Labels   map[string]string
	Health   string // of its health check: starting, healthy or unhealthy; empty: it has none

	// What only `mcpbouncer lint` reads beside that.
	Image     string
	Args, Env []string
}

// Docker answers the few calls of the Docker Engine API that Traefik's docker provider makes, so
// that real labels reach real Traefik where no Docker runs.
type Docker struct {
	URL string // tcp://host:port

	mu         sync.Mutex
	containers []Container
	watchers   map[chan string]bool
}

const dockerAPI = "1.51"

// apiVersion is the prefix /v1.51 of the engine's paths.
var apiVersion = regexp.MustCompile(`^/v[0-9.]+/`)

// StartDocker starts the API with the given containers running.
func StartDocker(t T, containers ...Container) *Docker {
	d := &Docker{containers: containers, watchers: map[chan string]bool{}}
	srv := httptest.NewServer(d)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	d.URL = strings.Replace(srv.URL, "http://", "tcp://", 1)
	return d
}

// Run starts a container and announces it, as docker run does. One of the same name makes place for
// it.
func (d *Docker) Run(c Container) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.containers = append(slices.DeleteFunc(d.containers, func(old Container) bool { return old.Name == c.Name }), c)
	event := fmt.Sprintf(`{"Type":"container","Action":"start","Actor":{"ID":%q,"Attributes":{}},"time":%d}`, c.Name, time.Now().Unix())
	for w := range d.watchers {
		w <- event
	}
}

func (d *Docker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := apiVersion.ReplaceAllString(r.URL.Path, "/")
	switch {
	case path == "/_ping":
		w.Header().Set("Api-Version", dockerAPI)
		fmt.Fprint(w, "OK")
	case path == "/version":
		answer(w, map[string]any{"Version": "28.0.0", "ApiVersion": dockerAPI, "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"})
	case path == "/containers/json":
		answer(w, d.list())
	case strings.HasPrefix(path, "/containers/") && strings.HasSuffix(path, "/json"):
		d.inspect(w, strings.TrimSuffix(strings.TrimPrefix(path, "/containers/"), "/json"))
	case path == "/events":
		d.events(w, r)
	default:
		http.Error(w, `{"message":"not part of this engine"}`, http.StatusNotFound)
	}
}

func (d *Docker) list() []map[string]any {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := []map[string]any{}
	for _, c := range d.containers {
		all = append(all, map[string]any{
			"Id": c.Name, "Names": []string{"/" + c.Name}, "Labels": c.Labels, "State": "running", "Status": "Up",
		})
	}
	return all
}

func (d *Docker) inspect(w http.ResponseWriter, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.containers {
		if c.Name != id {
			continue
		}
		networks := map[string]any{}
		for _, name := range append([]string{"bridge"}, c.Networks...) {
			networks[name] = map[string]any{"IPAddress": c.IP, "NetworkID": name}
		}
		state := map[string]any{"Status": "running", "Running": true}
		if c.Health != "" {
			state["Health"] = map[string]any{"Status": c.Health}
		}
		answer(w, map[string]any{
			"Id": c.Name, "Name": "/" + c.Name,
			"Args":            c.Args,
			"State":           state,
			"HostConfig":      map[string]any{"NetworkMode": "bridge"},
			"Config":          map[string]any{"Image": c.Image, "Env": c.Env, "Labels": c.Labels},
			"NetworkSettings": map[string]any{"Ports": map[string]any{c.Port + "/tcp": []any{}}, "Networks": networks},
		})
		return
	}
	http.Error(w, `{"message":"no such container"}`, http.StatusNotFound)
}

// events keeps the stream open; Traefik lists the containers again on each event.
func (d *Docker) events(w http.ResponseWriter, r *http.Request) {
	watcher := make(chan string, 8)
	d.mu.Lock()
	d.watchers[watcher] = true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.watchers, watcher)
		d.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "application/json")
	rc := http.NewResponseController(w)
	_ = rc.Flush()
	for {
		select {
		case event := <-watcher:
			fmt.Fprintln(w, event)
			_ = rc.Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Api-Version", dockerAPI)
	_ = json.NewEncoder(w).Encode(v)
}
