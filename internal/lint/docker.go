package lint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// Bounds of what a Docker Engine API may answer.
const (
	dockerTimeout   = 10 * time.Second // of one answer
	maxDockerAnswer = 8 << 20          // bytes
	maxContainers   = 1000
)

// container is what GET /containers/{id}/json says of one, as far as Traefik or lint reads it
// (Docker Engine API v1.24 and newer).
type container struct {
	ID    string
	Name  string
	Args  []string
	State struct {
		Health struct{ Status string }
	}
	HostConfig struct{ NetworkMode string }
	Mounts     []struct{ Destination string }
	Config     struct {
		Image  string
		Env    []string
		Labels map[string]string
	}
	NetworkSettings struct {
		Ports    map[string][]struct{ HostIP, HostPort string }
		Networks map[string]struct{ Aliases []string }
	}
}

// docker reads the running containers behind a Docker Engine API. Traefik reads the same two paths.
func (d *deployment) docker(ctx context.Context, address string) error {
	api, err := newDockerAPI(address)
	if err != nil {
		return err
	}
	var list []struct{ ID string }
	if err := api.get(ctx, "/containers/json", &list); err != nil {
		return err
	}
	if len(list) > maxContainers {
		return fmt.Errorf("%s has more than %d running containers", address, maxContainers)
	}
	all := map[string]*container{}
	for _, c := range list {
		whole := &container{}
		err := api.get(ctx, "/containers/"+url.PathEscape(c.ID)+"/json", whole)
		if errors.Is(err, errNotThere) { // it has stopped since
			continue
		} else if err != nil {
			return err
		}
		all[whole.Name] = whole
	}
	for _, name := range sortedKeys(all) {
		d.services = append(d.services, d.running(all[name]))
	}
	return nil
}

// running makes of a container what Compose says of a service. Its labels have no lines, so the
// container and the label stand in place of a file.
func (d *deployment) running(c *container) *service {
	name := strings.TrimPrefix(c.Name, "/")
	s := &service{name: name, image: c.Config.Image, env: map[string]value{}, labels: map[string]value{}, running: true, health: c.State.Health.Status, place: place{file: "container " + name}}
	if service := c.Config.Labels["com.docker.compose.service"]; service != "" {
		s.aliases = append(s.aliases, service)
	}
	for network, n := range c.NetworkSettings.Networks {
		s.networks = append(s.networks, network)
		s.aliases = append(s.aliases, n.Aliases...)
	}
	slices.Sort(s.networks)
	mode := c.HostConfig.NetworkMode
	s.host = mode == "host" || strings.HasPrefix(mode, "container:")
	s.mode = value{text: mode, place: place{file: s.file + ": network mode"}}
	s.aliases = append(s.aliases, c.ID) // by which others share its network
	for _, line := range c.Config.Env {
		key, text, _ := strings.Cut(line, "=")
		s.env[key] = value{text: text, place: s.place}
	}
	for key, text := range c.Config.Labels {
		at := place{file: s.file + ": " + key}
		s.labels[key] = value{text: text, typed: text, place: at}
		d.lines[at.file] = []string{key + "=" + text}
	}
	for _, bindings := range c.NetworkSettings.Ports {
		if len(bindings) > 0 {
			bound := &tree{value: value{text: bindings[0].HostPort, place: s.place}}
			s.ports = &tree{items: []*tree{bound}, keyed: place{file: s.file + ": ports"}}
		}
	}
	for _, arg := range c.Args {
		s.command = append(s.command, value{text: arg, place: s.place})
	}
	for _, m := range c.Mounts {
		s.mounts += " " + m.Destination
	}
	return s
}

// unhealthy looks for containers that Traefik sends nothing to.
func (c *checker) unhealthy() {
	for _, s := range c.services {
		if s.health != "" && s.health != "none" && s.health != "healthy" && slices.ContainsFunc(c.routers, func(r *router) bool { return r.owner == s }) {
			c.found(s.place, finding{check: "router", expected: "a healthy container", seen: "its health is " + s.health + ": Traefik has no router for it (404)", fault: report.Server, note: s.health == "starting",
				breaks: []string{report.EveryClient}, remedy: "see docker inspect " + s.name + " for what its health check says", page: "docs/troubleshooting.md"})
		}
	}
}

type dockerAPI struct {
	address, base string
	client        *http.Client
}

// newDockerAPI takes an address as DOCKER_HOST has it: unix://PATH, tcp://HOST:PORT, or http and
// https.
func newDockerAPI(address string) (*dockerAPI, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("the address of Docker's API is no URL: write unix:///var/run/docker.sock or tcp://HOST:2375")
	}
	transport := &http.Transport{DisableKeepAlives: true}
	base := "http://" + u.Host
	switch u.Scheme {
	case "unix":
		base = "http://docker"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", u.Path)
		}
	case "tcp", "http":
	case "https":
		base = "https://" + u.Host
	case "ssh":
		return nil, errors.New("lint speaks no SSH: run it on that computer, or forward the socket with ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST and say --docker=unix:///tmp/docker.sock")
	default:
		return nil, fmt.Errorf("%q is no address of a Docker API: write unix:///var/run/docker.sock or tcp://HOST:2375", u.Redacted())
	}
	return &dockerAPI{u.Redacted(), base, &http.Client{Transport: transport, Timeout: dockerTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

var errNotThere = errors.New("404")

func (a *dockerAPI) get(ctx context.Context, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, "GET", a.base+path, nil)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return a.explain(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDockerAnswer+1))
	notDocker := fmt.Errorf("%s answers GET %s with %d, and not as a Docker API: name the address of Docker's API, with https:// if it speaks TLS", a.address, path, resp.StatusCode)
	switch {
	case err != nil:
		return a.explain(err)
	case len(body) > maxDockerAnswer:
		return fmt.Errorf("%s answers GET %s with more than %d bytes", a.address, path, maxDockerAnswer)
	case resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("%s refuses GET %s with %d: let the proxy in front of Docker's socket permit GET /containers", a.address, path, resp.StatusCode)
	case resp.StatusCode == http.StatusNotFound && path != "/containers/json":
		return errNotThere
	case resp.StatusCode != http.StatusOK || json.Unmarshal(body, v) != nil:
		return notDocker
	}
	return nil
}

// explain names the cause of an error of the network, and what to do.
func (a *dockerAPI) explain(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	remedy := "see whether it is right, and reached from here"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err, remedy = errors.New("there is no such socket"), "start Docker, or name its address with --docker=ADDRESS or DOCKER_HOST; `docker context inspect` shows it"
	case errors.Is(err, fs.ErrPermission):
		err, remedy = errors.New("permission denied"), "run lint as a user who may use Docker: a member of the group docker, or by sudo"
	case errors.Is(err, syscall.ECONNREFUSED):
		err, remedy = errors.New("nobody listens there"), "start Docker, or name its address with --docker=ADDRESS or DOCKER_HOST"
	}
	return fmt.Errorf("the Docker API at %s: %w: %s", a.address, err, remedy)
}
