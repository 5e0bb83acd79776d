package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/internal/lint"
)

// rulesOfTraefik are rules as people write them, and as they do not work.
var rulesOfTraefik = []string{
	"Host(`a.example.com`)", "Host(`A.Example.COM`)", "Host(`a.example.com.`)", "Host(`*.example.com`)", "Host(`*`)", "Host(`*a.example.com`)",
	"Host(`a.example.com:443`)", "Host(`ä.example.com`)", "Host(`xn--4ca.example.com`)", "Host(`127.0.0.1`)", "Host(`[::1]`)", "Host(`::1`)",
	"HostRegexp(`^[a-z]+\\.example\\.com$`)", "HostRegexp(`example`)", "HostRegexp(`A.EXAMPLE`)", "HostRegexp(`^(b)?$`)", "HostRegexp(`.*`)", "HostRegexp(`.+`)", "HostRegexp(`(`)", "HostRegexp(`ä`)",
	"HostRegexp(`{sub:[a-z]+}.example.com`)", "Path(`/{name}`)",
	"Path(`/wiki`)", "Path(`/wiki/`)", "Path(`/WIKI`)", "Path(`wiki`)", "Path(`/wiki/a b`)", "Path(`/wiki/a%20b`)", "Path(`/wiki/ä`)", "Path(`/`)",
	"PathPrefix(`/wiki`)", "PathPrefix(`/wiki/`)", "PathPrefix(`/`)", "PathPrefix(``)", "PathPrefix(`^/wiki`)",
	"PathRegexp(`^(/\\.well-known/[a-z-]+)?/wiki(/|$)`)", "PathRegexp(\"^/wiki(/|$)\")", "PathRegexp(\"^/\\\\.well-known/\")", "PathRegexp(\"\\.well-known\")", "PathRegexp(`(?i)^/wiki$`)", "PathRegexp(`^/wiki(?!s)`)", "PathRegexp(`mcp`)",
	"Method(`POST`)", "Method(`post`)", "Method(`GET`, `POST`)", "Method(`GET`) || Method(`POST`)",
	"Header(`X-Who`, `me`)", "Header(`X-Who`)", "HeaderRegexp(`X-Who`, `(`)", "!Header(`X-Who`, `me`)", "Headers(`X-Who`, `me`)", "HeadersRegexp(`X-Who`, `me`)",
	"Query(`a`)", "Query(`a`, `b`)", "Query(`a=b`)", "Query(`a`, `b`, `c`)", "QueryRegexp(`a`)", "QueryRegexp(`a`, `(`)", "QueryRegexp(`(`)",
	"ClientIP(`127.0.0.1`)", "ClientIP(`10.0.0.0/8`)", "ClientIP(`10.0.0.0/8`, `127.0.0.1`)", "ClientIP(`localhost`)", "ClientIP(`::1`)", "!ClientIP(`10.0.0.0/8`)",
	"Host(`a.example.com`) && PathPrefix(`/wiki`)", "Host(`a.example.com`) || Host(`b.example.com`) && Path(`/wiki`)", "(Host(`a.example.com`) || Host(`b.example.com`)) && Path(`/wiki`)",
	"Host(`a.example.com`, `b.example.com`)", "Host(`a.example.com`) and Path(`/wiki`)", "Host(`a.example.com`) & Path(`/wiki`)", "Host(`a.example.com`) AND Path(`/wiki`)", "Host(`a.example.com`); Path(`/wiki`)",
	"Host(`a.example.com`) && !PathPrefix(`/wiki`)", "Host(`a.example.com`) && !(Path(`/wiki`) || Path(`/`))", "!Host(`a.example.com`) || !Path(`/wiki`)", "!!Path(`/wiki`)", "! ( Path(`/wiki`) )", "!Path(`/wiki`) && Host(`a.example.com`)",
	"host(`a.example.com`)", "HOST(`a.example.com`)", "hOST(`a.example.com`)", "pathprefix(`/wiki`)", "PATHPREFIX(`/wiki`)", "Pathprefix(`/wiki`)", "pathPrefix(`/wiki`)", "Clientip(`127.0.0.1`)", "ClientIp(`127.0.0.1`)", "pathRegexp(`wiki`)", "HostSNI(`a.example.com`)", "Hosts(`a.example.com`)",
	"Host('a.example.com')", "Host(a.example.com)", "Host(\"a.example.com\")", "Host(`a.example.com`", "Host`a.example.com`", "Host(`a.example.com`))", "(Host(`a.example.com`)", "Host()", "Host(``)", "Host(1)", "Host(`a.` + `example.com`)", "Host:a.example.com", "a.example.com", "", " ", "`a`", "Host(`a.example.com`) && `b`", "Host(`a.example.com`) Path(`/wiki`)", "Host(`a.example.com`) &&", "&& Host(`a.example.com`)", "Host(`a.example.com`,)", "Host(,)", "(Host)(`a.example.com`)", "Host(\"a.example\\x2ecom\")", "Host (`a.example.com`)", " Host( `a.example.com` ) ", "Host(\t`a.example.com`\t)", "Host(`a.example.com`) == Path(`/wiki`)", "-Host(`a.example.com`)", "Host(“a.example.com”)",
	"Host(`a.example.com`)\n", "\nHost(`a.example.com`)\n\n", "Host(`a.example.com`) &&\nPath(`/wiki`)", "Host(`a.example.com`)\n&& Path(`/wiki`)", "Host(`a.example.com`) ||\r\n  Path(`/wiki`)\r\n", "Host(\n`a.example.com`)", "Host(`a.example.com`\n)", "Host(`a.example.com`,\n)", "Host\n(`a.example.com`)", "(Host(`a.example.com`)\n)", "(\nHost(`a.example.com`))", "Path(`/wiki\n`)", "Path(`/wi\rki`)", "Path(\"/wiki\n\")",
	"Host(`a.example.com`) // the wiki", "Host(`a.example.com`) // the wiki\n", "Host(`a.example.com`) /* the wiki */ && Path(`/wiki`)", "Host(`a.example.com`) /* the\nwiki */ && Path(`/wiki`)", "Host(`a.example.com`) && /* the\nwiki */ Path(`/wiki`)", "/* Host(`a.example.com`)", "// Host(`a.example.com`)", "Host(`a.example.com`) # the wiki", "Host(`a.example.com`) // the wiki\n&& Path(`/wiki`)", "Host(`a.example.com`) /",
}

// requestOfRule is asked of each rule: what goes over the wire, and the path as lint has it.
type requestOfRule struct{ method, host, wire, path string }

var requestsOfRules = []requestOfRule{
	{"GET", "a.example.com", "/wiki", "/wiki"}, {"POST", "A.EXAMPLE.com", "/wiki", "/wiki"}, {"GET", "a.example.com.", "/wiki/", "/wiki/"}, {"GET", "a.example.com:8443", "/WIKI", "/WIKI"},
	{"GET", "b.example.com", "/wiki", "/wiki"}, {"PUT", "b.a.example.com", "/wikis", "/wikis"}, {"GET", "example.com", "/", "/"}, {"POST", "localhost", "/wiki/mcp", "/wiki/mcp"},
	{"GET", "a.example.com", "/.well-known/oauth-authorization-server/wiki", "/.well-known/oauth-authorization-server/wiki"}, {"GET", "127.0.0.1", "/wiki/a%20b", "/wiki/a b"},
	{"GET", "xn--4ca.example.com", "/wiki/%C3%A4", "/wiki/ä"}, {"GET", "[::1]:8080", "/%7Bname%7D", "/{name}"},
}

// What Traefik makes of a rule is what lint says of it, for rules from a table, for rules that
// follow from a seed, and for both with a character too many or too few.
func TestLintReadsRulesAsTraefikDoes(t *testing.T) {
	t.Parallel()
	seed := cmp.Or(*swarmSeed, 1) // another each night
	defer func() {
		if t.Failed() {
			t.Logf("the rules are those of -seed %d", seed)
		}
	}()
	rng := rand.New(rand.NewPCG(seed, 0))
	rules := slices.Clone(rulesOfTraefik)
	for range 200 {
		rules = append(rules, ruleBySeed(rng, 3))
	}
	for range 400 {
		rules = append(rules, damaged(rng, rules[rng.IntN(len(rules))]))
	}
	slices.Sort(rules)
	rules = slices.Compact(rules)

	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	d := newDynamic()
	d.service("server", server.URL)
	for i, rule := range rules {
		// The parent sees to it that each rule is asked by itself, and as it is written.
		d.routers[fmt.Sprintf("parent-%d", i)] = map[string]any{"rule": fmt.Sprintf("Header(`X-Rule`, `%d`)", i), "entryPoints": []string{"web"}}
		d.routers[fmt.Sprintf("rule-%d", i)] = map[string]any{"rule": rule, "service": "server", "parentRefs": []string{fmt.Sprintf("parent-%d", i)}}
	}
	d.router("ready", "Header(`X-Rule`, `ready`)", "server")
	api := fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t))
	logs := &rig.Logs{}
	traefik := rig.StartTraefik(t, logs, rig.TraefikConfig{WebPort: rig.FreePort(t), File: d.config(), HopKey: benchHopKey, Static: map[string]any{
		"api": map[string]any{"insecure": true}, "entryPoints": map[string]any{"traefik": map[string]any{"address": api}},
	}})
	ask := func(name string, q requestOfRule) int {
		req, err := http.NewRequestWithContext(t.Context(), q.method, traefik.Web+q.wire, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = q.host
		req.Header.Set("X-Rule", name)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	rig.WaitFor(t, "the rules", func() error {
		if got := ask("ready", requestsOfRules[0]); got != http.StatusOK {
			return fmt.Errorf("status %d", got)
		}
		return nil
	})
	dropped := droppedRouters(t, "http://"+api)
	count := map[string]int{}
	for i, rule := range rules {
		name := fmt.Sprintf("rule-%d@file", i)
		why, isDropped := dropped[name]
		_, err := lint.Matches(rule, "GET", "a.example.com", "/")
		if (err != nil) != isDropped {
			t.Errorf("rule %q: lint says %v, Traefik says %q", rule, err, why)
			continue
		}
		if isDropped {
			count["dropped"]++
			continue
		}
		for _, q := range requestsOfRules {
			host, _, found := strings.Cut(strings.Trim(strings.TrimSuffix(q.host, ":8080"), "[]"), ":8443")
			if found || host != "" {
				q.host = host
			}
			says, err := lint.Matches(rule, q.method, q.host, q.path)
			if err != nil {
				t.Fatal(err)
			}
			takes := map[int]string{http.StatusOK: "yes", http.StatusNotFound: "no"}[ask(fmt.Sprint(i), q)]
			if count[says]++; says != takes && says != "cannot tell" {
				t.Errorf("rule %q, %v: lint says %s, Traefik says %s", rule, q, says, takes)
			}
			if says == "cannot tell" && !strings.ContainsAny(strings.ToLower(rule), "qd") && !strings.Contains(strings.ToLower(rule), "clientip") {
				t.Errorf("rule %q, %v: lint cannot tell", rule, q)
			}
		}
	}
	t.Logf("%d rules: %v", len(rules), count)
	for _, answer := range []string{"yes", "no", "cannot tell", "dropped"} {
		if count[answer] < 50 {
			t.Errorf("the answer %q was given %d times only", answer, count[answer])
		}
	}
}

// droppedRouters are those that Traefik does not use, with its reasons.
func droppedRouters(t *testing.T, api string) map[string]string {
	resp, err := http.Get(api + "/api/http/routers?per_page=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var all []struct {
		Name, Status string
		Error        []string
	}
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil || len(all) < len(rulesOfTraefik) {
		t.Fatalf("%d routers, %v", len(all), err)
	}
	dropped := map[string]string{}
	for _, r := range all {
		if r.Status == "disabled" {
			dropped[r.Name] = strings.Join(r.Error, "; ")
		}
	}
	return dropped
}

// ruleBySeed makes a rule of what the requests differ by.
func ruleBySeed(rng *rand.Rand, depth int) string {
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	if depth == 0 || rng.IntN(4) == 0 {
		return pick(
			"Host(`"+pick("a.example.com", "b.example.com", "B.a.example.com", "localhost", "*.example.com", "example.com.", "127.0.0.1")+"`)",
			"HostRegexp(`"+pick("^a", "com$", "^[ab]\\.", "^(a.example.com)?$", "x")+"`)",
			"Path(`"+pick("/wiki", "/wiki/", "/", "/wiki/mcp", "/WIKI")+"`)",
			"PathPrefix(`"+pick("/wiki", "/wiki/", "/", "/.well-known/")+"`)",
			"PathRegexp(`"+pick("^/wiki(/|$)", "wiki$", "^(/\\.well-known/[a-z-]+)?/wiki(/|$)", "[A-Z]", "^/$")+"`)",
			"Method(`"+pick("GET", "post", "PUT")+"`)",
			pick("Query(`a`)", "Header(`X-Who`, `me`)", "ClientIP(`127.0.0.1`)", "ClientIP(`10.0.0.0/8`)"),
		)
	}
	left, right := ruleBySeed(rng, depth-1), ruleBySeed(rng, depth-1)
	return pick(left+pick(" && ", "&&")+right, left+pick(" || ", "||")+right, "("+left+")", "!"+left, "!("+left+" && "+right+")", "("+left+" || "+right+") && "+left)
}

// damaged is a rule with a slip of the keyboard.
func damaged(rng *rand.Rand, rule string) string {
	if rule == "" {
		return "("
	}
	at := rng.IntN(len(rule))
	const slips = "`\"'()!&|, \n/.aHP*"
	slip := string(slips[rng.IntN(len(slips))])
	switch rng.IntN(3) {
	case 0:
		return rule[:at] + rule[at+1:]
	case 1:
		return rule[:at] + slip + rule[at:]
	}
	return rule[:at] + slip + rule[at+1:]
}
