package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"go.yaml.in/yaml/v3"
)

// loadCompose reads deploy/compose/compose.yaml as docker compose does, with the given variables in
// place of .env.
func loadCompose(t *testing.T, envs ...map[string]string) *types.Project {
	t.Helper()
	all := map[string]string{}
	for _, env := range envs {
		maps.Copy(all, env)
	}
	return loadComposeIn(t, filepath.Join(rig.Root(), "deploy", "compose"), all)
}

// loadComposeIn reads compose.yaml of a folder, or files of it that lie over each other.
func loadComposeIn(t *testing.T, dir string, env map[string]string, files ...string) *types.Project {
	t.Helper()
	if len(files) == 0 {
		files = []string{"compose.yaml"}
	}
	details := types.ConfigDetails{WorkingDir: dir, Environment: env}
	for _, file := range files {
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: filepath.Join(dir, file)})
	}
	project, err := loader.LoadWithContext(t.Context(), details, func(o *loader.Options) { o.SetProjectName("mcpbouncer", true) })
	if err != nil {
		t.Fatalf("%s: %v", files, err)
	}
	return project
}

// exampleEnv returns the .env of somebody who has followed the README.
func exampleEnv() map[string]string {
	return map[string]string{
		"BOUNCER_ENCRYPTION_KEY": "master", "BOUNCER_HOP_KEY": "hop", "WORLD_ISSUER": "https://example.zitadel.cloud",
		"GOOGLE_CLIENT_ID": "google", "GOOGLE_CLIENT_SECRET": "google-secret", "WIKI_EMAILS": "ada@example.com",
		"ZITADEL_CLIENT_ID": "zitadel", "ZITADEL_CLIENT_SECRET": "zitadel-secret",
		"WIKI_IMAGE": "mcpbouncer-example", "WORLD_IMAGE": "mcpbouncer-example",
	}
}

// The test runs the example of deploy/compose as it is: its labels, its certificate and its static
// configuration in real Traefik, for a host that the one variable names. It replaces only where
// things are: ports, addresses, folders, and the providers, by the file's own variables.
func TestLoginWithTheLabelsOfTheComposeFile(t *testing.T) {
	t.Parallel()
	const host = "bouncer.example.com"
	authority, dynamicTLS := composeCertificate(t, host)
	ca, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	w := rig.New(t, rig.Options{Static: composeStatic(t), Host: host, TLS: dynamicTLS, CA: ca, Containers: func(w *rig.World) []rig.Container {
		google, zitadel := w.Wiki.Provider, w.World.Provider
		project := loadCompose(t, exampleEnv(), map[string]string{
			"BOUNCER_ENCRYPTION_KEY": w.Keys.Encryption, "BOUNCER_HOP_KEY": w.Keys.Hop, "MCP_HOST": host,
			"WIKI_ISSUER": google.Issuer, "GOOGLE_CLIENT_ID": google.ClientID, "GOOGLE_CLIENT_SECRET": google.ClientSecret, "WIKI_EMAILS": google.Username,
			"WORLD_ISSUER": zitadel.Issuer, "ZITADEL_CLIENT_ID": zitadel.ClientID, "ZITADEL_CLIENT_SECRET": zitadel.ClientSecret,
		})
		return composeContainers(t, w, project)
	}})
	proxy := rig.StartTunnel(t, host, w.Traefik.WebSecure)
	// With the two lines of README.md a program trusts the certificate, and without them it does
	// not.
	registers := func(tn *rig.Tenant) way {
		return way{name: "by " + tn.Name, Server: tn.PublicHTTPS() + "/mcp", Redirect: callbackPath, AuthMethod: "none"}
	}
	for _, tn := range w.Tenants() {
		t.Run(tn.Name+" by the Go SDK", func(t *testing.T) { callWhoami(t, tn, tn.PublicHTTPS()) })
		t.Run(tn.Name+" by a Go program with SSL_CERT_FILE", func(t *testing.T) {
			loginBySDK(t, tn, w, []string{"HTTPS_PROXY=" + proxy, "SSL_CERT_FILE=" + authority}, registers(tn), "gosdk").call()
		})
		t.Run(tn.Name+" by a Node.js program with NODE_EXTRA_CA_CERTS", func(t *testing.T) {
			env := []string{"NODE_EXTRA_CA_CERTS=" + authority, "NODE_USE_ENV_PROXY=1", "HTTPS_PROXY=" + proxy}
			loginBySDK(t, tn, w, env, registers(tn), "client-v2.mjs").call()
		})
	}
	t.Run("a program that is told nothing refuses the certificate", func(t *testing.T) {
		argument, err := json.Marshal(registers(w.Wiki))
		if err != nil {
			t.Fatal(err)
		}
		process := rig.StartProcess(t, w.Logs, "gosdk without", sdkCommand(t, []string{"HTTPS_PROXY=" + proxy}, "gosdk", string(argument)))
		if code := process.Wait(t); code == 0 || !strings.Contains(w.Logs.Text(process.Name), "certificate signed by unknown authority") {
			t.Errorf("it ended with %d:\n%s", code, w.Logs.Text(process.Name))
		}
	})
	// This configuration has an access log, which sees every callback's query.
	if text := w.Logs.Text("traefik"); !strings.Contains(text, `"RequestMethod":"POST"`) {
		t.Error("Traefik wrote no access log")
	} else {
		for _, found := range w.Secrets.In(text) {
			t.Errorf("traefik logged a %s", found)
		}
	}
	t.Run("registration alone is limited", func(t *testing.T) { floodOfTheExample(t, w) })
}

// floodOfTheExample asks more often than the rate limit of the example allows.
func floodOfTheExample(t *testing.T, w *rig.World) {
	ask := func(path string) (statuses map[int]int) {
		statuses = map[int]int{}
		for range 80 {
			resp, err := w.HTTP().Post(w.Wiki.PublicHTTPS()+path, "application/json", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			statuses[resp.StatusCode]++
		}
		return statuses
	}
	// One request in a second is let in again while the others are refused.
	if got := ask("/oauth/register"); got[http.StatusTooManyRequests] < 10 || got[http.StatusBadRequest] < 40 {
		t.Errorf("80 registrations: %v", got)
	}
	for _, path := range []string{"/oauth/token", "/oauth/registers", "/.well-known/oauth-authorization-server", "/mcp"} {
		if got := ask(path); got[http.StatusTooManyRequests] != 0 {
			t.Errorf("80 requests for %s: %v", path, got)
		}
	}
}

// A provider of one's own that no public authority vouches for: one file makes the sidecar of the
// example trust it, and the public authorities count as before.
func TestProviderOfAPrivateAuthority(t *testing.T) {
	t.Parallel()
	const public = "etc/ssl/certs/ca-certificates.crt"
	dockerfile, err := os.ReadFile(filepath.Join(rig.Root(), "deploy", "compose", "Dockerfile"))
	if err != nil || !strings.Contains(string(dockerfile), "COPY --from=build /"+public+" /"+public+"\n") {
		t.Errorf("the image has the public authorities not in /%s: %v", public, err)
	}
	project := loadCompose(t, exampleEnv())
	trusted := *project.Services["bouncer"].Environment["SSL_CERT_FILE"]
	file, inFolder := strings.CutPrefix(trusted, mountOf(t, project, "bouncer", "ca")+"/")
	if !inFolder || strings.Contains(file, "/") {
		t.Fatalf("the authority is read from %s", trusted)
	}
	provider := issuertest.NewProvider(t, &issuertest.Options{TLS: true})
	authority := certificateOf(t, provider.Issuer)
	w := rig.New(t, rig.Options{
		Sidecar: map[string]string{"SSL_CERT_FILE": trusted},
		Image:   map[string][]byte{strings.TrimPrefix(trusted, "/"): nil, public: nil},
		Labels:  map[string]string{"world/providerIssuer": provider.Issuer, "world/clientID": provider.ClientID, "world/clientSecret": provider.Secret},
	})
	login := func() error { return loginOverTLS(t, w.World) }
	if err := login(); err == nil {
		t.Error("a certificate that nobody vouches for is trusted")
	}
	if log := w.Logs.Text("sidecar-a") + w.Logs.Text("sidecar-b"); !strings.Contains(log, "SSL_CERT_FILE names") {
		t.Errorf("the log does not say what to do:\n%s", log)
	}
	give := func(file string, certificate []byte) {
		for _, r := range w.Replicas {
			r.PutFile(strings.TrimPrefix(file, "/"), certificate)
			r.Restart(nil)
		}
	}
	give(trusted, authority)
	if err := login(); err != nil {
		t.Errorf("with its authority in %s: %v", trusted, err)
	}
	give(trusted, nil)
	give(public, authority) // as any public authority's
	if err := login(); err != nil {
		t.Errorf("the public authorities count no more: %v", err)
	}
}

// loginOverTLS logs in at a provider whose certificate the person does not look at.
func loginOverTLS(t *testing.T, tn *rig.Tenant) error {
	t.Helper()
	c, browser := tn.Client(), tn.Browser()
	browser.Client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	flow := c.Begin()
	back, err := browser.Visit(t.Context(), flow.URL, c.Redirect)
	if err != nil {
		return err
	}
	if answer := c.Redeem(back.Query().Get("code"), flow); answer.Status != http.StatusOK {
		return errors.New(answer.String())
	}
	return nil
}

// certificateOf returns the certificate that a server shows, in PEM.
func certificateOf(t *testing.T, server string) []byte {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(server, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw})
}

// composeCertificate runs the service `certificate` of compose.yaml, and returns the file of the
// authority that clients are told to trust, and dynamic.yaml with the certificate's place.
func composeCertificate(t *testing.T, host string) (authority string, dynamicTLS map[string]any) {
	t.Helper()
	env := exampleEnv()
	env["MCP_HOST"] = host
	project := loadCompose(t, env)
	dir := filepath.Join(t.TempDir(), "tls")
	if out, err := makeCertificate(t, project, dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(rig.Root(), "deploy", "compose", "dynamic.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	here := strings.ReplaceAll(string(text), mountOf(t, project, "traefik", "tls/traefik")+"/", filepath.Join(dir, "traefik")+"/")
	if err := yaml.Unmarshal([]byte(here), &dynamicTLS); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "ca.pem"), dynamicTLS
}

// makeCertificate runs the service with dir in place of its mount.
func makeCertificate(t *testing.T, project *types.Project, dir string) (string, error) {
	t.Helper()
	service, err := project.GetService("certificate")
	if err != nil {
		t.Fatal(err)
	}
	if mount := mountOf(t, project, "certificate", "tls"); *service.Environment["TLS_DIR"] != mount {
		t.Fatalf("certificates are made in %s, and ./tls is %s", *service.Environment["TLS_DIR"], mount)
	}
	cmd := exec.Command("sh", filepath.Join(rig.Root(), "deploy", "compose", "certificate.sh"))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "MCP_HOST=" + *service.Environment["MCP_HOST"], "TLS_DIR=" + dir}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mountOf returns the path of a folder beside compose.yaml in a container.
func mountOf(t *testing.T, project *types.Project, service, folder string) string {
	t.Helper()
	for _, volume := range project.Services[service].Volumes {
		if volume.Source == filepath.Join(project.WorkingDir, filepath.FromSlash(folder)) {
			return volume.Target
		}
	}
	t.Fatalf("%s has no mount of %s", service, folder)
	return ""
}

// The certificate of the example: whom it vouches for, and when it is made anew.
func TestCertificateOfTheExample(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	make := func(host string) (string, error) {
		env := exampleEnv()
		env["MCP_HOST"] = host
		return makeCertificate(t, loadCompose(t, env), dir)
	}
	read := func(name string) *x509.Certificate {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	must := func(host, want string) (ca, leaf *x509.Certificate) {
		t.Helper()
		out, err := make(host)
		if err != nil || strings.Contains(out, "new authority") != strings.Contains(want, "authority") || strings.Contains(out, "made a certificate") != strings.Contains(want, "certificate") {
			t.Errorf("for %q it made not %q: %v %s", host, want, err, out)
		}
		return read("ca.pem"), read("traefik/cert.pem")
	}
	ca, leaf := must("", "authority and certificate")
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "mcp.localhost", Roots: pool}); err != nil {
		t.Error(err)
	}
	// Apple's systems take no more.
	if days := leaf.NotAfter.Sub(leaf.NotBefore).Hours() / 24; days > 825 {
		t.Errorf("the certificate is good for %.0f days", days)
	}
	if err := leaf.CheckSignatureFrom(ca); err != nil || !ca.PermittedDNSDomainsCritical || !slices.Equal(ca.PermittedDNSDomains, []string{"mcp.localhost"}) {
		t.Errorf("the authority may vouch for %q (%v)", ca.PermittedDNSDomains, err)
	}
	if again, same := must("mcp.localhost", "nothing"); !again.Equal(ca) || !same.Equal(leaf) {
		t.Error("a second run changed something")
	}
	if err := os.Remove(filepath.Join(dir, "traefik", "cert.pem")); err != nil {
		t.Fatal(err)
	}
	if again, other := must("mcp.localhost", "certificate"); !again.Equal(ca) || other.Equal(leaf) {
		t.Error("a lost certificate was not made anew by the same authority")
	}
	// A name that ends like the first one is another name.
	if again, other := must("localhost", "authority and certificate"); again.Equal(ca) || other.VerifyHostname("localhost") != nil {
		t.Error("another host has the authority of the first")
	}
	for name, secret := range map[string]bool{"ca.key": true, "traefik/key.pem": true, "ca.pem": false, "traefik/cert.pem": false} {
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil || (info.Mode().Perm()&0o077 == 0) != secret {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	for _, host := range []string{"https://mcp.localhost", "mcp.localhost:8443", "mcp.localhost/wiki", "MCP.localhost", "10.0.0.1", "*.example.com", "a b", ".", "a..b"} {
		if out, err := make(host); err == nil || !strings.Contains(out, "MCP_HOST") {
			t.Errorf("MCP_HOST=%q: %v %s", host, err, out)
		}
	}
	for _, volume := range loadCompose(t, exampleEnv()).Services["traefik"].Volumes {
		if filepath.Base(volume.Source) == "tls" {
			t.Error("Traefik is given the authority's key")
		}
	}
}

// The commands of the Dockerfile that make the sidecar, with a version and without.
func TestImageKnowsItsVersion(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(rig.Root(), "deploy", "compose", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	build := regexp.MustCompile(`(?m)^RUN (.*) -o /mcpbouncer (.*)$`).FindStringSubmatch(string(text))
	if build == nil || !strings.Contains(string(text), "\nARG VERSION") {
		t.Fatal("the Dockerfile does not build the sidecar of a version")
	}
	env := exampleEnv()
	env["VERSION"] = "v1.2.3"
	project := loadComposeIn(t, filepath.Join(rig.Root(), "deploy", "compose"), env, "compose.yaml", "compose.dev.yaml")
	version := project.Services["bouncer"].Build.Args["VERSION"]
	if version == nil || *version != "v1.2.3" {
		t.Fatalf("the image is built with VERSION %v", version)
	}
	program := filepath.Join(t.TempDir(), "mcpbouncer")
	cmd := exec.Command("sh", "-c", build[1]+" -o "+program+" "+build[2])
	cmd.Dir, cmd.Env = rig.Root(), append(os.Environ(), "VERSION="+*version)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(program, "version").Output(); err != nil || strings.TrimSpace(string(out)) != "v1.2.3" {
		t.Errorf("it says it is %q (%v)", out, err)
	}
}

// publicCertificates returns what traefik.yaml has in comments for a host on the internet:
// resolvers, and `tls` of the entry point.
func publicCertificates(t *testing.T) (resolvers, tls map[string]any) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(rig.Root(), "deploy", "compose", "traefik.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(file)
	_, section, ok1 := strings.Cut(text, "\n#certificatesResolvers:")
	_, line, ok2 := strings.Cut(text, "\n      #tls: ")
	if !ok1 || !ok2 {
		t.Fatal("traefik.yaml shows no resolver")
	}
	section, _, _ = strings.Cut("#certificatesResolvers:"+section, "\n\n")
	line, _, _ = strings.Cut(line, "\n")
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll("\n"+section, "\n#", "\n")), &resolvers); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(line), &tls); err != nil {
		t.Fatal(err)
	}
	return resolvers, tls
}

// What traefik.yaml has for a host on the internet, taken out of its comments: Traefik turns to
// the authority for MCP_HOST.
func TestExampleAsksAPublicAuthority(t *testing.T) {
	t.Parallel()
	resolvers, tls := publicCertificates(t)
	var asked atomic.Int32
	authority := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.NotFound(w, r)
	}))
	t.Cleanup(authority.Close)
	ca := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	static := composeStatic(t)
	static["certificatesResolvers"] = resolvers["certificatesResolvers"]
	acme := resolvers["certificatesResolvers"].(map[string]any)["letsencrypt"].(map[string]any)["acme"].(map[string]any)
	mount := mountOf(t, loadCompose(t, exampleEnv()), "traefik", "acme")
	if storage, _ := acme["storage"].(string); filepath.Dir(storage) != mount {
		t.Errorf("certificates are kept in %s, and ./acme is %s", storage, mount)
	}
	acme["storage"], acme["caServer"], acme["caCertificates"] = filepath.Join(t.TempDir(), "acme.json"), authority.URL, []string{ca}
	project := loadCompose(t, exampleEnv(), map[string]string{"MCP_HOST": "bouncer.example.com"})
	service, err := project.GetService("wiki")
	if err != nil {
		t.Fatal(err)
	}
	logs := &rig.Logs{}
	rig.StartTraefik(t, logs, rig.TraefikConfig{
		WebPort: rig.FreePort(t), HopKey: "none", Static: static, WebSecureTLS: tls,
		Docker: rig.StartDocker(t, rig.Container{Name: "wiki", IP: "127.0.0.1", Port: "8000", Labels: service.Labels, Networks: []string{"mcpbouncer_wiki"}}),
	})
	rig.WaitFor(t, "Traefik asks the authority", func() error {
		if asked.Load() == 0 || !strings.Contains(logs.Text("traefik"), "ACME certificates [bouncer.example.com]") {
			return errors.New(logs.Tail("traefik", 10))
		}
		return nil
	})
}

// composeStatic returns deploy/compose/traefik.yaml with the plugin of the checkout, made as the
// page says. The file provider reads the rig's folder.
func composeStatic(t *testing.T) (static map[string]any) {
	t.Helper()
	static = madeBySed(t, "traefik.dev.yaml")
	delete(static["providers"].(map[string]any), "file")
	return static
}

// madeBySed runs the command of deploy/compose/README.md that makes a file out of traefik.yaml.
func madeBySed(t *testing.T, name string) (made map[string]any) {
	t.Helper()
	dir := filepath.Join(rig.Root(), "deploy", "compose")
	page, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^(sed .* traefik\.yaml) > ` + regexp.QuoteMeta(name) + `\b`).FindStringSubmatch(string(page))
	if found == nil {
		t.Fatalf("README.md has no command that makes %s", name)
	}
	cmd := exec.Command("sh", "-c", found[1])
	cmd.Dir = dir
	out, err := cmd.Output()
	if err == nil {
		err = yaml.Unmarshal(out, &made)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", found[1], err, out)
	}
	return made
}

// composeContainers returns the MCP servers of a compose file, with the rig's ports and addresses.
func composeContainers(t *testing.T, w *rig.World, project *types.Project) (containers []rig.Container) {
	t.Helper()
	for _, tn := range w.Tenants() {
		containers = append(containers, composeContainer(t, w, project, tn))
	}
	return containers
}

// composeContainer returns the MCP server of one tenant.
func composeContainer(t *testing.T, w *rig.World, project *types.Project, tn *rig.Tenant) rig.Container {
	t.Helper()
	service, err := project.GetService(tn.Name)
	if err != nil {
		t.Fatalf("compose.yaml: %v", err)
	}
	c := rig.Container{Name: tn.Name, IP: "127.0.0.1", Port: tn.MCP.Port, Labels: map[string]string{}}
	for name, value := range service.Labels {
		switch {
		case strings.HasSuffix(name, ".loadbalancer.server.port"):
			value = tn.MCP.Port
		case strings.HasSuffix(name, ".sidecarURL"):
			value = w.Front.URL
		}
		c.Labels[name] = value
	}
	for name := range service.Networks {
		c.Networks = append(c.Networks, project.Networks[name].Name)
	}
	return c
}

func TestComposeFileKeepsItsPromises(t *testing.T) {
	t.Parallel()
	project := loadCompose(t, exampleEnv())
	service := func(name string) types.ServiceConfig {
		t.Helper()
		s, err := project.GetService(name)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	bouncer := service("bouncer")
	if !bouncer.ReadOnly {
		t.Error("the sidecar's file system can be written")
	}
	for _, volume := range bouncer.Volumes {
		if volume.Type != types.VolumeTypeBind || !volume.ReadOnly || !slices.Contains([]string{"deny", "ca"}, filepath.Base(volume.Source)) {
			t.Errorf("the sidecar has the volume %s", volume)
		}
	}
	if len(project.Volumes) != 0 {
		t.Error("there is a volume that stays")
	}
	if len(bouncer.Ports) != 0 {
		t.Error("the sidecar publishes a port")
	}
	if user, _, _ := strings.Cut(bouncer.User, ":"); user == "" || user == "0" || user == "root" {
		t.Errorf("the sidecar runs as %q", bouncer.User)
	}
	if !slices.Contains(bouncer.CapDrop, "ALL") {
		t.Error("the sidecar keeps capabilities")
	}
	for _, name := range []string{"wiki", "world"} {
		for network := range service(name).Networks {
			if _, shared := bouncer.Networks[network]; shared {
				t.Errorf("%s can reach the sidecar over the network %s", name, network)
			}
		}
		for label, value := range service(name).Labels {
			if strings.HasSuffix(label, ".clientSecret") && !strings.HasPrefix(value, "env:") {
				t.Errorf("%s: a secret in a label", label)
			}
			if variable, ok := strings.CutPrefix(value, "env:"); ok && bouncer.Environment[variable] == nil {
				t.Errorf("%s names %s, which the sidecar is not given", label, variable)
			}
		}
	}
	// Identity headers are all the authentication that an MCP server has: a neighbour on its
	// network could be anybody.
	for network := range service("wiki").Networks {
		if _, shared := service("world").Networks[network]; shared {
			t.Errorf("wiki and world share the network %s", network)
		}
		if !project.Networks[network].Internal {
			t.Errorf("wiki has a way out over the network %s", network)
		}
	}
	traefik := service("traefik")
	for name, s := range project.Services {
		if len(s.Networks) == 0 && s.NetworkMode != "none" || s.Logging == nil || s.Logging.Options["max-size"] == "" {
			t.Errorf("%s: no network, or a log without bound", name)
		}
	}
	for name, s := range project.Services {
		for _, secret := range []string{"BOUNCER_ENCRYPTION_KEY", "GOOGLE_CLIENT_SECRET", "ZITADEL_CLIENT_SECRET"} {
			if _, has := s.Environment[secret]; has && name != "bouncer" {
				t.Errorf("%s is given %s", name, secret)
			}
		}
	}
	if hop := traefik.Environment["BOUNCER_HOP_KEY"]; hop == nil || *hop != "hop" {
		t.Error("Traefik is not given the hop key")
	}
}

func TestComposeFileRefusesAMissingValue(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(rig.Root(), "deploy", "compose")
	for name := range exampleEnv() {
		t.Run(name, func(t *testing.T) {
			env := exampleEnv()
			delete(env, name)
			_, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
				WorkingDir: dir, ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml")}}, Environment: env,
			}, func(o *loader.Options) { o.SetProjectName("mcpbouncer", true) })
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("want an error that names %s, got %v", name, err)
			}
		})
	}
}
