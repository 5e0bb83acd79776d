package lint

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// masterOf makes a master secret, the same each time.
func masterOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return base64.StdEncoding.EncodeToString(sum[:])
}

var master = masterOf("this deployment")

func hopKeyOf(t *testing.T, text string) string {
	ring, err := sealing.ParseRing(text)
	if err != nil {
		t.Fatal(err)
	}
	return ring.HopKey()
}

const good = `services:
  traefik:
    image: traefik:v3.7.13
    environment: {BOUNCER_HOP_KEY: "HOPKEY"}
    ports: ["443:443"]
    networks: [wiki, bouncer]
  bouncer:
    image: mcpbouncer
    environment:
      BOUNCER_ENCRYPTION_KEY: "MASTER"
      GOOGLE_CLIENT_SECRET: ${GOOGLE_CLIENT_SECRET:?}
    networks: [bouncer]
  wiki:
    image: wiki
    networks: [wiki]
    labels:
      traefik.enable: "true"
      traefik.http.routers.wiki.rule: Host(` + "`mcp.example.com`) && PathRegexp(`^(/\\.well-known/[a-z-]+)?/wiki(/|$$)`)" + `
      traefik.http.routers.wiki.middlewares: mcpb-wiki@docker
      traefik.http.services.wiki.loadbalancer.server.port: "8000"
      traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.publicURL: "https://mcp.example.com/wiki"
      traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.resource: "wiki"
      traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.providerIssuer: "https://accounts.google.com"
      traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.clientID: "123.apps.googleusercontent.com"
      traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.clientSecret: "env:GOOGLE_CLIENT_SECRET"
      traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.scopes: "openid email profile"
      traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.allowedEmails: "you@example.com"
      traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.sidecarURL: "http://bouncer:8080"
`

func goodFile(t *testing.T) string {
	return strings.NewReplacer("HOPKEY", hopKeyOf(t, master), "MASTER", master).Replace(good)
}

func lintText(t *testing.T, content string) *report.Report {
	file := filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return Run([]string{file})
}

func TestLintFindsNothingInGoodFiles(t *testing.T) {
	for name, content := range map[string]string{"mapping": goodFile(t), "list": asList(goodFile(t))} {
		if r := lintText(t, content); r.Status() != report.StatusGood || len(r.Findings) != 0 {
			t.Errorf("%s: %s %+v", name, r.Unable, r.Findings)
		}
	}
	hostNetwork := strings.NewReplacer("    networks: [wiki, bouncer]\n", "    network_mode: host\n", "http://bouncer:8080", "http://localhost:8080").Replace(goodFile(t))
	if r := lintText(t, hostNetwork); len(r.Findings) != 0 {
		t.Errorf("Traefik in the host's network: %+v", r.Findings)
	}
	remembers := strings.Replace(goodFile(t), "      "+optionOf+"scopes", "      "+optionOf+"rememberConsent: 24h\n      "+optionOf+"scopes", 1)
	if r := lintText(t, remembers); len(r.Findings) != 0 {
		t.Errorf("consent that can be remembered: %+v", r.Findings)
	}
	rotated := strings.Replace(goodFile(t), master, masterOf("the next")+","+master, 1)
	if r := lintText(t, rotated); len(r.Findings) != 0 {
		t.Errorf("the hop key of the master before: %+v", r.Findings)
	}
	r := Run([]string{"../../deploy/compose/compose.yaml", "../../deploy/compose/traefik.yaml", "../../deploy/compose/dynamic.yaml"})
	if r.Status() != report.StatusGood {
		t.Errorf("deploy/compose: %s %+v", r.Unable, r.Findings)
	}
}

const optionOf = "traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer."

// planted are faults: what is replaced in the good file, a line of the file that the finding must
// name (by its text), what must be seen, and what the remedy must hold.
var planted = map[string]struct{ old, with, line, seen, remedy string }{
	"misspelt label":             {"allowedEmails", "allowedEmail", "allowedEmail:", "unknown label allowedEmail", optionOf + `allowedEmails: "you@example.com"`},
	"separator of another list":  {"openid email profile", "openid,email,profile", "scopes:", "label scopes", optionOf + `scopes: "openid email profile"`},
	"everybody at Google":        {"      " + optionOf + `allowedEmails: "you@example.com"` + "\n", "", "providerIssuer:", "EVERYBODY", optionOf + `allowedEmails: "you@example.com"`},
	"hd taken for a rule":        {optionOf + `allowedEmails: "you@example.com"`, optionOf + `providerParameters: "prompt=consent; hd=example.com"`, "providerIssuer:", "hd in providerParameters only asks", optionOf + `allowedEmails: "you@example.com"`},
	"hop key missing":            {`environment: {BOUNCER_HOP_KEY: "HOPKEY"}`, "", "  traefik:", "it is not there", "BOUNCER_HOP_KEY: ${BOUNCER_HOP_KEY:?}"},
	"hop key of another master":  {`"HOPKEY"`, `"OTHER"`, "BOUNCER_HOP_KEY", "another master", "mcpbouncer hop-key"},
	"hop key with more in it":    {`"HOPKEY"`, `"BOUNCER_HOP_KEY=HOPKEY"`, "BOUNCER_HOP_KEY", "another master", "mcpbouncer hop-key"},
	"master secret cut off":      {`KEY: "MASTER"`, `KEY: "c2hvcnQ="`, "BOUNCER_ENCRYPTION_KEY", "not 32 bytes", "whole"},
	"sidecar is not a service":   {"http://bouncer:8080", "http://bouncr:8080", "sidecarURL:", "no service is called bouncr", optionOf + `sidecarURL: "http://bouncer:8080"`},
	"sidecar in another network": {"networks: [wiki, bouncer]", "networks: [wiki]", "  bouncer:", "none: logins are answered 502", "networks: [wiki, bouncer]"},
	"rule without documents":     {"PathRegexp(`^(/\\.well-known/[a-z-]+)?/wiki(/|$$)`)", "PathPrefix(`/wiki`)", ".rule:", "/.well-known/oauth-authorization-server/wiki", `PathRegexp(` + "`" + `^(/\.well-known/[a-z-]+)?/wiki(/|$$)` + "`)"},
	"rule of another path":       {"?/wiki(/|$$)", "?/wikis(/|$$)", ".rule:", "/wiki/mcp", "?/wiki(/|$$)"},
	"rule of another host":       {"Host(`mcp.example.com`)", "Host(`mcp.example.org`)", ".rule:", "/wiki/mcp", "Host(`mcp.example.com`)"},
	"rule that cannot be read":   {"Host(`mcp.example.com`)", "Host(mcp.example.com)", ".rule:", "backticks", "correct the rule"},
	"plugin misspelt":            {"plugin.mcpbouncer.", "plugin.mcpbounce.", "publicURL:", "plugin.mcpbounce", "plugin.mcpbouncer.publicURL"},
	"middleware misspelt":        {"middlewares: mcpb-wiki@docker", "middlewares: mcpb-wikki@docker", "routers.wiki.middlewares:", "mcpb-wikki@docker is not", "traefik.http.routers.wiki.middlewares: mcpb-wiki@docker"},
	"middlewares forgotten":      {"      traefik.http.routers.wiki.middlewares: mcpb-wiki@docker\n", "", "routers.wiki.rule:", "OPEN TO EVERYBODY", "traefik.http.routers.wiki.middlewares: mcpb-wiki@docker"},
	"middlewares by an index":    {"routers.wiki.middlewares:", "routers.wiki.middlewares[0]:", "middlewares[0]:", "OPEN TO EVERYBODY", "traefik.http.routers.wiki.middlewares: mcpb-wiki@docker"},
	"a way past the bouncer":     {"      traefik.http.services.wiki", "      traefik.http.routers.open.rule: Host(`open.example.com`)\n      traefik.http.services.wiki", "routers.open.rule:", "OPEN TO EVERYBODY", "traefik.http.routers.open.middlewares: mcpb-wiki@docker"},
	"published port":             {"    image: wiki\n", "    image: wiki\n    ports: [\"8000:8000\"]\n", "ports: [\"8000", "publishes a port", "delete ports:"},
	"network of the host":        {"    networks: [wiki]\n    labels", "    network_mode: host\n    labels", "network_mode: host", "in the network of the host", "delete network_mode:"},
	"port of a shared network":   {"  wiki:\n    image: wiki\n    networks: [wiki]\n", "  vpn:\n    image: vpn\n    ports: [\"8000:8000\"]\n  wiki:\n    image: wiki\n    network_mode: service:vpn\n", "ports: [\"8000", "service vpn publishes a port", "delete ports:"},
	"secret in clear":            {"env:GOOGLE_CLIENT_SECRET", "GOCSPX-abc", "clientSecret:", "in clear", "env:MCPB_WIKI_CLIENT_SECRET"},
	"variable of the secret":     {"GOOGLE_CLIENT_SECRET: ${GOOGLE_CLIENT_SECRET:?}", "OTHER: x", "  bouncer:", "it is not there", "GOOGLE_CLIENT_SECRET: ${GOOGLE_CLIENT_SECRET:?}"},
	"stripPrefix before":         {"middlewares: mcpb-wiki@docker\n", "middlewares: strip@docker,mcpb-wiki@docker\n      traefik.http.middlewares.strip.stripprefix.prefixes: /wiki\n", "routers.wiki.middlewares:", "stripprefix", "middlewares: mcpb-wiki@docker,strip@docker"},
	"plain http":                 {"https://mcp.example.com/wiki", "http://mcp.example.com/wiki", "publicURL:", "plain http", "correct the label"},
	"number without quotes":      {`"123.apps.googleusercontent.com"`, "110169484474386276334", "clientID:", "label clientID", "correct the label"},
	"a consent that is not remembered with exchange=token": {"      " + optionOf + "scopes", "      " + optionOf + "rememberConsent: 24h\n      " + optionOf + "exchange: token\n      " + optionOf + "scopes", "rememberConsent:", "exchange=token", "delete exchange"},
	"a consent that is not remembered without a guard":     {"      " + optionOf + "scopes", "      " + optionOf + "rememberConsent: 24h\n      " + optionOf + "scopes", "rememberConsent:", "BOUNCER_REPLAY_GUARD=none", "give it one"},
	"a consent that no application could have remembered":  {"      " + optionOf + "scopes", "      " + optionOf + "rememberConsent: 24h\n      " + optionOf + "registration: created\n      " + optionOf + "scopes", "rememberConsent:", "registration=created", "delete registration"},
	"a consent without metadata documents":                 {"      " + optionOf + "scopes", "      " + optionOf + "rememberConsent: 24h\n      " + optionOf + "scopes", "rememberConsent:", "BOUNCER_METADATA_DOCUMENTS=false", "let it read them"},
	"scopes of OpenID at GitHub":                           {`"https://accounts.google.com"`, `"https://github.com"`, "scopes:", "the scope openid is OpenID's", "delete scopes"},
	"a name of GitHub's":                                   {optionOf + `allowedEmails: "you@example.com"`, optionOf + "providerType: github\n      " + optionOf + "allowedSubjects: \"583231, octocat\"", "allowedSubjects:", "octocat is a name", "https://api.github.com/users/octocat"},
	"a group in another spelling":                          {optionOf + `allowedEmails: "you@example.com"`, optionOf + "providerType: github\n      " + optionOf + "allowedGroups: \"acme, acme:wiki\"", "allowedGroups:", "acme:wiki is neither", "acme/wiki"},
	"an id that is a name":                                 {optionOf + `allowedEmails: "you@example.com"`, optionOf + "providerType: oauth2\n      " + optionOf + "authorizationEndpoint: https://a.example/a\n      " + optionOf + "tokenEndpoint: https://a.example/t\n      " + optionOf + "userinfoEndpoint: https://a.example/u\n      " + optionOf + "allowedSubjects: x\n      " + optionOf + "claimNames: sub=data.username", "claimNames:", "data.username is a name or an address", "sub=id"},
	"an exchange at GitHub":                                {optionOf + `allowedEmails: "you@example.com"`, optionOf + "providerType: github\n      " + optionOf + "allowedGroups: acme\n      " + optionOf + "upstreamToken: \"exchange=api\"", "upstreamToken:", "exchanges no token", "take exchange= out"},
	"a router that shadows":                                {"      traefik.http.services.wiki", "      traefik.http.routers.all.rule: PathPrefix(`/`)\n      traefik.http.routers.all.middlewares: other@file\n      traefik.http.routers.all.priority: \"5000\"\n      traefik.http.services.wiki", "routers.all.", "router all", `traefik.http.routers.wiki.priority: "5001"`},
}

func TestLintFindsPlantedFaults(t *testing.T) {
	other := hopKeyOf(t, masterOf("another"))
	for name, p := range planted {
		t.Run(name, func(t *testing.T) {
			broken := strings.ReplaceAll(good, p.old, p.with)
			if broken == good {
				t.Fatal("nothing was replaced")
			}
			switch {
			case strings.Contains(p.seen, "REPLAY_GUARD"):
				broken = strings.Replace(broken, "      GOOGLE_CLIENT_SECRET:", "      BOUNCER_REPLAY_GUARD: none\n      GOOGLE_CLIENT_SECRET:", 1)
			case strings.Contains(p.seen, "METADATA_DOCUMENTS"):
				broken = strings.Replace(broken, "      GOOGLE_CLIENT_SECRET:", "      BOUNCER_METADATA_DOCUMENTS: \"false\"\n      GOOGLE_CLIENT_SECRET:", 1)
			}
			broken = strings.NewReplacer("HOPKEY\"", hopKeyOf(t, master)+`"`, "OTHER\"", other+`"`, "MASTER", master).Replace(broken)
			r := lintText(t, broken)
			lines := strings.Split(broken, "\n")
			for _, f := range r.Findings {
				if f.Line > 0 && f.Wrong() && strings.Contains(lines[f.Line-1], p.line) && strings.Contains(f.Seen, p.seen) && strings.Contains(f.Remedy, p.remedy) && f.Page != "" {
					if _, err := os.Stat("../../" + f.Page); err != nil {
						t.Error(err)
					}
					if r.Status() != report.StatusFound {
						t.Error(r.Status())
					}
					return
				}
			}
			t.Errorf("not found: %s\n%+v", r.Unable, r.Findings)
		})
	}
}

func TestLintFindsTwinsAndOtherFilesRouters(t *testing.T) {
	dir := t.TempDir()
	const dynamic = "http:\n  routers:\n    one: {rule: \"Host(`a.example.com`)\", middlewares: [one], service: s}\n    two: {rule: \"Host(`b.example.com`)\", service: s}\n" +
		"  middlewares:\n    one: {plugin: {mcpbouncer: {publicURL: \"https://a.example.com\", resource: \"a\"}}}\n    three: {plugin: {mcpbouncer: {publicURL: \"https://A.example.com/\", resource: \"b\"}}}\n" +
		"  services:\n    s: {loadBalancer: {servers: [{url: \"http://wiki:8000/\"}]}}\n"
	const static = "entryPoints: {web: {address: \":80\"}}\n"
	files := []string{filepath.Join(dir, "dynamic.yaml"), filepath.Join(dir, "traefik.yaml")}
	for i, content := range []string{dynamic, static} {
		if err := os.WriteFile(files[i], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := Run(files)
	got := fmt.Sprintf("%+v", r.Findings)
	for _, want := range []string{"router two leads to the same server", "one@file has https://A.example.com/ too", "localPlugins", "abortOnPluginFailure"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s %s", want, r.Unable, got)
		}
	}
}

// A corrected line may hold more than what is wrong in it.
func TestLintShowsNoSecretInCorrectedLines(t *testing.T) {
	const secret = "GOCSPX-1234567890"
	option := func(label string) string { return optionOf + label + ": \"" + secret + "\"" }
	given := option("clientSecret")
	for name, c := range map[string]struct{ with, remedy string }{
		"its label misspelt":       {option("clientSecrt"), optionOf + "clientSecret: \"…\""},
		"a label above it":         {strings.Replace(given, "middlewares", "midlewares", 1), "traefik.http.middlewares.mcpb-wiki"},
		"the plugin misspelt":      {strings.Replace(given, "mcpbouncer", "mcpbounce", 1), ""},
		"a member of the same map": {"traefik.http.midlewares.x.headers: {clientSecret: " + secret + "}", ""},
		"a URL":                    {optionOf + "clientSecret: \"env:X\"\n      " + optionOf + "sidecarurl: \"http://user:" + secret + "@bouncr:8080\"", "http://…@bouncer:8080"},
	} {
		content := strings.Replace(goodFile(t), optionOf+`clientSecret: "env:GOOGLE_CLIENT_SECRET"`, c.with, 1)
		for as, content := range map[string]string{"mapping": content, "list": asList(content)} {
			if name == "a URL" {
				content = strings.Replace(content, "\n      "+optionOf+`sidecarURL: "http://bouncer:8080"`, "", 1)
			}
			r := lintText(t, content)
			var text strings.Builder
			if err := r.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			want := c.remedy
			if as == "list" {
				want = strings.ReplaceAll(want, ": \"…\"", "=…'")
			}
			if r.Status() != report.StatusFound || strings.Contains(text.String(), secret) || !strings.Contains(text.String(), want) {
				t.Errorf("%s, %s: %s", name, as, text.String())
			}
		}
	}
	if line := `- {clientSecret: env:X, tls: {secretName: a}, hopKeyFile: /run/hop, url: "https://a.example/x"}`; withoutSecrets(line) != line {
		t.Errorf("a line without secrets: %s", withoutSecrets(line))
	}
}

func TestLintReplacesVariablesAsComposeDoes(t *testing.T) {
	env := map[string]string{"A": "a", "EMPTY": ""}
	for text, want := range map[string]string{
		"$$x ${A} $A": "$x a a", "${B:-b}": "b", "${EMPTY:-b}": "b", "${EMPTY-b}": "", "${A:+x}": "x", "${B:+x}": "", "${A:?why}": "a",
	} {
		if got, unknown := interpolate(text, env); got != want || unknown {
			t.Errorf("%s: %q %v, want %q", text, got, unknown, want)
		}
	}
	if _, unknown := interpolate("${B:?}", env); !unknown {
		t.Error("a variable that is not set is known")
	}
	long := map[string]string{"L": strings.Repeat("x", maxFile/2)}
	if out, unknown := interpolate(strings.Repeat("$L", 100), long); len(out) > 2*maxFile || !unknown {
		t.Errorf("a long variable, often: %d bytes, %v", len(out), unknown)
	}
}

func TestLintSaysWhichFileCannotBeRead(t *testing.T) {
	laughs := "a0: &a0 x\n"
	for i := 1; i < 30; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	for name, c := range map[string]struct{ content, want string }{
		"aliases of aliases": {laughs, "with its aliases"},
		"aliases of a text":  {"services:\n  a:\n    image: &a \"" + strings.Repeat("$$", 100_000) + "\"\n    command: [" + strings.Repeat("*a,", 10_000) + "]\n", "with its aliases and variables"},
		"an alias of itself": {"services: &a {x: *a}\n", "line 1: "},
		"deep nesting":       {"services: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "deep"},
		"long":               {"#" + strings.Repeat("x", maxFile), "longer"},
		"not YAML":           {"services:\n\tx: y\n", "line 2"},
		"something else":     {"recipe: soup\n", "line 1: this is neither"},
		"a key twice":        {"services:\n  a: {}\n  a: {}\n", "line 3"},
	} {
		if r := lintText(t, c.content); r.Status() != report.StatusUnable || !strings.Contains(r.Unable, c.want) {
			t.Errorf("%s: %d %.300s", name, r.Status(), r.Unable)
		}
	}
}

func TestLintEvaluatesRules(t *testing.T) {
	for _, c := range []struct {
		rule, host, path string
		want             answer
	}{
		{"Host(`a.b`)", "A.B", "/", yes},
		{"Host(`a.b`) && PathPrefix(`/wiki`)", "a.b", "/wikis", yes},
		{"Host(`a.b`) && Path(`/wiki`)", "a.b", "/wiki/", no},
		{"Host(`a`) || Host(`b`) && Path(`/x`)", "a", "/y", yes},
		{"(Host(`a`) || Host(`b`)) && Path(`/x`)", "a", "/y", no},
		{"!Path(`/x`) && Host(`a`)", "a", "/y", yes},
		{"!(Path(`/x`) || Path(`/y`))", "a", "/y", no},
		{`Path("/x")`, "a", "/x", yes},
		{"PathRegexp(`^/x(/|$)`)", "a", "/xy", no},
		{"HostRegexp(`^[a-z]+\\.b$`)", "A.b", "/", yes},
		{"Header(`X`, `y`) && Path(`/x`)", "a", "/x", perhaps},
		{"!Header(`X`, `y`)", "a", "/x", perhaps},
		{"Header(`X`, `y`) && Path(`/x`)", "a", "/z", no},
		{"Host(`*.b`) && !Host(`x.b`)", "a.b", "/", yes},
		{"Host(`*.b`)", "a.c.b", "/", no},
		{"Host(`a.b.`)", "a.b", "/", yes},
		{"HostRegexp(`^(x)?$`)", "a", "/", yes}, // it takes nothing, and so everything
		{"Host(`a`) &&\n// the endpoint\nPATH(\"/x\", /* only */)\n", "a", "/x", yes},
		{strings.Repeat("(", 2000), "a", "/", perhaps},
		{"Host(`a`)" + strings.Repeat(" ", 5000), "a", "/", perhaps},
	} {
		r, err := parseRule(c.rule)
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
		} else if got := r(request{c.host, c.path, "GET"}); got != c.want {
			t.Errorf("%s for %s%s: %v, want %v", c.rule, c.host, c.path, got, c.want)
		}
	}
	for _, bad := range []string{"", "Host(a)", "Host(`a`", "Host(`a`, `b`)", "Hots(`a`)", "Host(`a`) &&", "Host(`a`) Path(`/`)", "Path(`x`)", "PathRegexp(`(`)", "pathPrefix(`/`)", "Path(``)",
		"Host(`a`)\n&& Path(`/`)", "Host\n(`a`)", "Host(`ä`)", "ClientIP(`a`)"} {
		if _, err := parseRule(bad); err == nil {
			t.Errorf("%.40q is taken", bad)
		}
	}
}
