package lint

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

type object = map[string]any

// inDocker are the containers of a good deployment, as a Docker Engine API says them.
func inDocker(t *testing.T) map[string]object {
	const option = optionOf
	one := func(image string, networks []string, labels object, env ...string) object {
		all := object{}
		for _, n := range networks {
			all[n] = object{"Aliases": []string{}, "IPAddress": "172.18.0.2"}
		}
		return object{"State": object{"Status": "running"}, "HostConfig": object{"NetworkMode": "default"}, "Mounts": []object{}, "Args": []string{},
			"Config": object{"Image": image, "Env": env, "Labels": labels}, "NetworkSettings": object{"Ports": object{"8000/tcp": nil}, "Networks": all}}
	}
	traefik := one("traefik:v3.7.13", []string{"p_wiki", "p_bouncer"}, object{"com.docker.compose.service": "traefik"}, "BOUNCER_HOP_KEY="+hopKeyOf(t, master))
	traefik["Args"] = []string{"--providers.docker=true", "--providers.docker.exposedbydefault=false", "--entrypoints.web.address=:80",
		"--experimental.localplugins.mcpbouncer.modulename=github.com/mcpbouncer/mcpbouncer", "--experimental.abortonpluginfailure"}
	return map[string]object{
		"p-traefik-1": traefik,
		"p-bouncer-1": one("mcpbouncer", []string{"p_bouncer"}, object{"com.docker.compose.service": "bouncer"}, "BOUNCER_ENCRYPTION_KEY="+master, "GOOGLE_CLIENT_SECRET=x"),
		"wiki": one("wiki", []string{"p_wiki"}, object{
			"traefik.enable":                                      "true",
			"traefik.http.routers.wiki.rule":                      "Host(`mcp.example.com`) && PathRegexp(`^(/\\.well-known/[a-z-]+)?/wiki(/|$)`)",
			"traefik.http.routers.wiki.middlewares":               "mcpb-wiki",
			"traefik.http.services.wiki.loadbalancer.server.port": "8000",
			option + "publicURL":                                  "https://mcp.example.com/wiki",
			option + "resource":                                   "wiki",
			option + "providerIssuer":                             "https://accounts.google.com",
			option + "clientID":                                   "123.apps.googleusercontent.com",
			option + "clientSecret":                               "env:GOOGLE_CLIENT_SECRET",
			option + "scopes":                                     "openid email profile",
			option + "allowedEmails":                              "you@example.com",
			option + "sidecarURL":                                 "http://bouncer:8080",
		}),
	}
}

// serveDocker answers the two calls, and says the address of its socket.
func serveDocker(t *testing.T, containers map[string]object) string {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		if r.URL.Path == "/containers/json" {
			list := []object{{"Id": "gone", "Names": []string{"/gone"}}}
			for name := range containers {
				list = append(list, object{"Id": "id-" + name, "Names": []string{"/" + name}})
			}
			json.NewEncoder(w).Encode(list)
			return
		}
		name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/containers/id-"), "/json")
		c := containers[name]
		if c == nil {
			http.Error(w, `{"message":"No such container"}`, http.StatusNotFound)
			return
		}
		c["Id"], c["Name"] = "id-"+name, "/"+name
		json.NewEncoder(w).Encode(c)
	}
	return onSocket(t, handler)
}

func onSocket(t *testing.T, handler http.HandlerFunc) string {
	dir, err := os.MkdirTemp("", "lint") // t.TempDir() may be longer than a socket's address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}}
	server.Start()
	t.Cleanup(server.Close)
	return "unix://" + filepath.Join(dir, "s")
}

func lintDocker(t *testing.T, containers map[string]object) *report.Report {
	return Sources{Docker: serveDocker(t, containers)}.Run(t.Context())
}

func TestLintFindsNothingInGoodContainers(t *testing.T) {
	if r := lintDocker(t, inDocker(t)); r.Status() != report.StatusGood || len(r.Findings) != 0 {
		t.Errorf("%s %q", r.Unable, lines(r))
	}
	// Traefik's static configuration may be given as a file, or stand in variables.
	containers := inDocker(t)
	containers["p-traefik-1"]["Args"] = []string{"--configfile=/x.yaml"}
	file := filepath.Join(t.TempDir(), "traefik.yaml")
	if err := os.WriteFile(file, []byte(staticOfTwoEntryPoints), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := (Sources{Files: []string{file}, Docker: serveDocker(t, containers)}).Run(t.Context()); r.Status() != report.StatusGood || len(r.Findings) != 0 {
		t.Errorf("with a file: %s %q", r.Unable, lines(r))
	}
	if r := lintDocker(t, map[string]object{"db": inDocker(t)["p-bouncer-1"]}); !hasLine(lines(r), "WRONG tenants: ") {
		t.Errorf("other containers: %q", lines(r))
	}
}

func TestLintFindsPlantedFaultsInDocker(t *testing.T) {
	label := func(name, text string) func(map[string]object) {
		return func(all map[string]object) {
			labels := all["wiki"]["Config"].(object)["Labels"].(object)
			if labels[name] = text; text == "" {
				delete(labels, name)
			}
		}
	}
	in := func(container string, path ...any) func(map[string]object) {
		return func(all map[string]object) {
			at := all[container]
			for _, key := range path[:len(path)-2] {
				at = at[key.(string)].(object)
			}
			at[path[len(path)-2].(string)] = path[len(path)-1]
		}
	}
	env := func(container string, lines ...string) func(map[string]object) {
		return in(container, "Config", "Env", lines)
	}
	both := func(changes ...func(map[string]object)) func(map[string]object) {
		return func(all map[string]object) {
			for _, change := range changes {
				change(all)
			}
		}
	}
	const rule = "traefik.http.routers.wiki.rule"
	for name, c := range map[string]struct {
		change       func(map[string]object)
		file, begins string
		seen, remedy string
	}{
		"misspelt label":         {both(label(optionOf+"allowedEmails", ""), label(optionOf+"allowedEmail", "you@example.com")), "container wiki: " + optionOf + "allowedEmail", "WRONG labels: ", "unknown label allowedEmail", "write " + optionOf + "allowedEmails=you@example.com"},
		"wrong separator":        {label(optionOf+"scopes", "openid,email"), "container wiki: " + optionOf + "scopes", "WRONG labels: ", "label scopes", "write " + optionOf + "scopes=openid email"},
		"a number of Compose's":  {label(optionOf+"clientID", "1.1016948447438627e+20"), "container wiki: " + optionOf + "clientID", "WRONG labels: ", "label clientID", "correct"},
		"everybody":              {label(optionOf+"allowedEmails", ""), "container wiki: " + optionOf + "providerIssuer", "WRONG access: ", "EVERYBODY", "write " + optionOf + "allowedEmails=you@example.com"},
		"rule":                   {label(rule, "Host(`mcp.example.com`) && PathPrefix(`/wiki`)"), "container wiki: " + rule, "WRONG router: ", "it misses /.well-known/", "write " + rule + "=Host(`mcp.example.com`) && PathRegexp(`^(/\\.well-known/[a-z-]+)?/wiki(/|$)`)"},
		"hop key missing":        {env("p-traefik-1"), "container p-traefik-1", "WRONG hop key: ", "it is not there", "BOUNCER_HOP_KEY"},
		"hop key of another":     {env("p-traefik-1", "BOUNCER_HOP_KEY="+hopKeyOf(t, masterOf("another"))), "container p-traefik-1", "WRONG hop key: ", "another master", "mcpbouncer hop-key"},
		"variable of the secret": {env("p-bouncer-1", "BOUNCER_ENCRYPTION_KEY="+master), "container p-bouncer-1", "WRONG secret: ", "it is not there", "GOOGLE_CLIENT_SECRET"},
		"secret in clear":        {label(optionOf+"clientSecret", "GOCSPX-abc"), "container wiki: " + optionOf + "clientSecret", "WRONG secret: ", "in clear", "clientSecret=env:MCPB_WIKI_CLIENT_SECRET"},
		"no such sidecar":        {label(optionOf+"sidecarURL", "http://bouncr:8080"), "container wiki: " + optionOf + "sidecarURL", "WRONG sidecar: ", "called bouncr", "http://p-bouncer-1:8080"},
		"no shared network":      {in("p-bouncer-1", "NetworkSettings", "Networks", object{"p_other": object{}}), "container p-bouncer-1", "WRONG sidecar: ", "none: logins", "docker network connect p_other p-traefik-1"},
		"the default bridge": {both(in("p-bouncer-1", "NetworkSettings", "Networks", object{"bridge": object{}}), in("p-traefik-1", "NetworkSettings", "Networks", object{"bridge": object{}})),
			"container p-bouncer-1", "WRONG sidecar: ", "none: logins", "--network NAME"},
		"not exposed":         {label("traefik.enable", ""), "container wiki", "WRONG router: ", "exposedByDefault is false", "write traefik.enable=true"},
		"switched off":        {label("traefik.enable", "false"), "container wiki: traefik.enable", "note router: ", "reads no label of wiki", "traefik.enable=true"},
		"published port":      {in("wiki", "NetworkSettings", "Ports", object{"8000/tcp": []object{{"HostIp": "0.0.0.0", "HostPort": "8000"}}}), "container wiki: ports", "WRONG way past: ", "publishes a port", "delete ports:"},
		"network of the host": {in("wiki", "HostConfig", object{"NetworkMode": "host"}), "container wiki: network mode", "WRONG way past: ", "in the network of the host", "delete network_mode:"},
		"port of a shared network": {both(in("wiki", "HostConfig", object{"NetworkMode": "container:id-vpn"}), func(all map[string]object) {
			all["vpn"] = inDocker(t)["wiki"]
			all["vpn"]["Config"] = object{"Image": "vpn"}
			all["vpn"]["NetworkSettings"] = object{"Ports": object{"8000/tcp": []object{{"HostIp": "0.0.0.0", "HostPort": "8000"}}}}
		}), "container vpn: ports", "WRONG way past: ", "vpn publishes a port", "delete ports:"},
		"a way past":            {label("traefik.http.routers.open.rule", "Host(`open.example.com`)"), "container wiki: router open", "WRONG way past: ", "router open", "write traefik.http.routers.open.middlewares=mcpb-wiki@docker"},
		"stripPrefix before":    {both(label("traefik.http.routers.wiki.middlewares", "strip,mcpb-wiki"), label("traefik.http.middlewares.strip.stripprefix.prefixes", "/wiki")), "container wiki: traefik.http.routers.wiki.middlewares", "WRONG middlewares: ", "stripprefix", "middlewares=mcpb-wiki@docker,strip@docker"},
		"unhealthy":             {in("wiki", "State", object{"Status": "running", "Health": object{"Status": "unhealthy"}}), "container wiki", "WRONG router: ", "its health is unhealthy", "docker inspect wiki"},
		"starting":              {in("wiki", "State", object{"Status": "running", "Health": object{"Status": "starting"}}), "container wiki", "note router: ", "its health is starting", "docker inspect wiki"},
		"plugin not loaded":     {in("p-traefik-1", "Args", []string{"--providers.docker", "--entrypoints.web.address", ":80"}), "container p-traefik-1", "WRONG plugin: ", "neither", "write --experimental.localPlugins.mcpbouncer.moduleName="},
		"plugin may be missing": {in("p-traefik-1", "Args", []string{"traefik", "--experimental.plugins.mcpbouncer.modulename=github.com/mcpbouncer/mcpbouncer"}), "container p-traefik-1", "note plugin: ", "Traefik starts without", "write --experimental.abortOnPluginFailure=true"},
		"by variables": {both(in("p-traefik-1", "Args", []string{"traefik"}), env("p-traefik-1", "BOUNCER_HOP_KEY="+hopKeyOf(t, master), "TRAEFIK_PROVIDERS_DOCKER_EXPOSEDBYDEFAULT=false", "TRAEFIK_EXPERIMENTAL_PLUGINS_MCPBOUNCER_MODULENAME=github.com/mcpbouncer/mcpbouncer"), label("traefik.enable", "")),
			"container wiki", "WRONG router: ", "exposedByDefault is false", "write traefik.enable=true"},
	} {
		t.Run(name, func(t *testing.T) {
			containers := inDocker(t)
			c.change(containers)
			r := lintDocker(t, containers)
			for i, line := range lines(r) {
				if r.Findings[i].File == c.file && strings.HasPrefix(line, c.begins) && strings.Contains(line, c.seen) && strings.Contains(r.Findings[i].Remedy, c.remedy) {
					return
				}
			}
			t.Errorf("not found: %s %q %v", r.Unable, lines(r), r.Findings)
		})
	}
}

func TestLintShowsNoSecretOfAContainer(t *testing.T) {
	containers := inDocker(t)
	labels := containers["wiki"]["Config"].(object)["Labels"].(object)
	labels[optionOf+"clientSecret"] = "GOCSPX-abc"
	containers["p-traefik-1"]["Config"].(object)["Env"] = []string{"BOUNCER_HOP_KEY=" + hopKeyOf(t, masterOf("another"))}
	r := lintDocker(t, containers)
	text := fmt.Sprintf("%+v", r)
	for _, secret := range []string{"GOCSPX-abc", master, hopKeyOf(t, master), hopKeyOf(t, masterOf("another"))} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in %s", secret, text)
		}
	}
	if len(r.Findings) < 2 {
		t.Errorf("%q", lines(r))
	}
}

func TestLintSaysWhyDockerCannotBeRead(t *testing.T) {
	denied := onSocket(t, func(http.ResponseWriter, *http.Request) {})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	status := func(code int, body string) string {
		return onSocket(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); fmt.Fprint(w, body) })
	}
	many := "[" + strings.TrimSuffix(strings.Repeat(`{"Id":"a"},`, maxContainers+1), ",") + "]"
	for name, c := range map[string]struct{ address, why string }{
		"no socket":         {"unix:///nowhere/docker.sock", "the Docker API at unix:///nowhere/docker.sock: there is no such socket: start Docker, or name its address with --docker=ADDRESS or DOCKER_HOST"},
		"nobody listens":    {"tcp://" + closed.Addr().String(), "nobody listens there: start Docker"},
		"a web page":        {status(200, "<html>secret page</html>"), "answers GET /containers/json with 200, and not as a Docker API: name the address"},
		"an object":         {status(200, "{}"), "not as a Docker API"},
		"not found":         {status(404, "{}"), "with 404, and not as a Docker API"},
		"a redirect":        {status(302, ""), "with 302, and not as a Docker API"},
		"a proxy's refusal": {status(403, ""), "let the proxy in front of Docker's socket permit GET /containers"},
		"too many":          {status(200, many), "more than 1000 running containers"},
		"too long":          {status(200, strings.Repeat(" ", maxDockerAnswer+1)), "more than 8388608 bytes"},
		"ssh":               {"ssh://me@host", "lint speaks no SSH: run it on that computer, or forward the socket"},
		"another scheme":    {"ftp://host", "is no address of a Docker API: write unix:///var/run/docker.sock"},
		"no URL":            {"unix://%", "is no URL: write unix:///var/run/docker.sock"},
	} {
		if r := (Sources{Docker: c.address}).Run(t.Context()); r.Status() != report.StatusUnable || !strings.Contains(r.Unable, c.why) || strings.Contains(r.Unable, "secret page") {
			t.Errorf("%s: %d %q", name, r.Status(), r.Unable)
		}
	}
	// A test may run as root, whom no mode stops, so the error is the one of the system's.
	api, err := newDockerAPI(denied)
	if err != nil {
		t.Fatal(err)
	}
	if why := api.explain(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", os.ErrPermission)}).Error(); !strings.Contains(why, "permission denied: run lint as a user who may use Docker") {
		t.Error(why)
	}
	compose := filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(compose, []byte(goodFile(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := (Sources{Files: []string{compose}, Docker: denied}).Run(t.Context()); !strings.Contains(r.Unable, "name only one of them") {
		t.Error(r.Unable)
	}
}

func TestLintReadsFlagsOfTraefikInCompose(t *testing.T) {
	const image = "    image: traefik:v3.7.13\n"
	for name, c := range map[string]struct {
		with, begins, seen string
	}{
		"a list":            {image + "    command: [\"--providers.docker.exposedByDefault=false\", \"--experimental.localPlugins.doorman.moduleName=github.com/mcpbouncer/mcpbouncer\"]\n", "WRONG labels: ", ""},
		"a text":            {image + "    command: --providers.docker --experimental.plugins.other.modulename example.com/other\n", "WRONG plugin: ", "neither"},
		"value behind it":   {image + "    command: --providers.docker --experimental.plugins.doorman.modulename github.com/mcpbouncer/mcpbouncer\n", "WRONG tenants: ", "no middleware"},
		"a file":            {image + "    command: [\"--providers.docker\", \"--configFile=/x.yaml\"]\n", "", ""},
		"the default file":  {image + "    command: [\"--providers.docker\"]\n    volumes: [\"./traefik.yaml:/etc/traefik/traefik.yaml\"]\n", "", ""},
		"a long mount":      {image + "    command: [\"--providers.docker\"]\n    volumes: [{type: bind, source: ./t, target: /etc/traefik}]\n", "", ""},
		"another's command": {image + "    command: []\n", "", ""},
	} {
		content := strings.Replace(goodFile(t), image, c.with, 1)
		if name == "a list" {
			content = strings.Replace(content, `traefik.enable: "true"`, "x: y", 1)
			c.begins, c.seen = "WRONG router: ", "exposedByDefault is false"
		}
		r := lintText(t, content)
		if c.begins == "" && len(r.Findings) != 0 || c.begins != "" && !hasLine(lines(r), c.begins, c.seen) {
			t.Errorf("%s: %s %q", name, r.Unable, lines(r))
		}
	}
}
