package e2e

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// Deployments that follow from a seed, each with a few routers more: where lint is silent, no
// request reaches the MCP server without a token, on whatever entry point, host and path.
func TestLintMissesNoWayThatIsOpen(t *testing.T) {
	t.Parallel()
	seed := cmp.Or(*swarmSeed, 1) // another each night
	defer func() {
		if t.Failed() {
			t.Logf("the deployments are those of -seed %d", seed)
		}
	}()
	rng := rand.New(rand.NewPCG(seed, 0))
	planted := []plantedFile{{name: "good"}}
	for range 80 {
		planted = append(planted, deploymentBySeed(rng))
	}
	planted = append(planted, plantedFile{name: "last"})
	w := newPlantedWorld(t, planted)
	count := map[string]int{}
	for i, p := range planted {
		foretold, unsure := false, w.reports[i].Unable != ""
		said := ""
		for _, f := range w.reports[i].Findings {
			open := f.Check == "way past" || strings.Contains(f.Seen, "OPEN TO EVERYBODY")
			foretold, unsure = foretold || open && f.Wrong(), unsure || open && f.Note
			said += fmt.Sprintf("\n%s:%d %s: %s", f.File[strings.LastIndex(f.File, "/")+1:], f.Line, f.Check, f.Seen)
		}
		open := ""
		for _, entry := range []string{"web", "inside", "redirected", "barred", "trusting", "websecure"} {
			for _, spoken := range []string{"", "tls:"} {
				for _, at := range []string{"cNN.localhost/wiki/mcp", "cNN.localhost/x", "oNN.localhost/wiki/mcp", "oNN.localhost/x", "wikiNN/wiki/mcp", "moreNN/x"} {
					if entry == "websecure" && spoken != "" {
						continue
					}
					question := strings.ReplaceAll(spoken+entry+" POST "+at, "NN", fmt.Sprint(i))
					if who, err := w.ask(question); err != nil {
						t.Fatalf("%s: %v", question, err)
					} else if strings.Contains(who, theServer) {
						open = question
					}
				}
			}
		}
		switch {
		case open != "" && !foretold && !unsure:
			t.Errorf("%s reaches the server, and lint does not say so:%s\n%s\n%s\n%s", open, said, p.labels, p.more, p.file)
		case open == "" && foretold:
			count["foretold, and not open"]++
			t.Logf("lint says that the server is open, and it is not:%s\n%s\n%s\n%s", said, p.labels, p.more, p.file)
		case open != "":
			count["open"]++
		default:
			count["closed"]++
		}
	}
	t.Logf("%v", count)
	if count["open"] < 10 || count["closed"] < 10 {
		t.Errorf("the deployments are too much alike: %v", count)
	}
}

// deploymentBySeed adds routers, services and middlewares to the good deployment.
func deploymentBySeed(rng *rand.Rand) plantedFile {
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	p := plantedFile{labels: "middlewares.tlsNN.redirectscheme.scheme: https\nmiddlewares.plainNN.redirectscheme.scheme: http\nmiddlewares.someNN.ipallowlist.sourcerange: 10.0.0.0/8\nmiddlewares.allNN.ipallowlist.sourcerange: ::/0,0.0.0.0/0\n" +
		"middlewares.stripNN.stripprefix.prefixes: /wiki\nmiddlewares.chainNN.chain.middlewares: stripNN,mcpb-NN\nmiddlewares.emptyNN.chain.middlewares: stripNN\nmiddlewares.pageNN.errors.status: 400-599\nmiddlewares.pageNN.errors.service: wikiNN\nmiddlewares.pageNN.errors.query: /x\n"}
	services := "    weighNN: {weighted: {services: [{name: neighbour, weight: 1}, {name: wikiNN@docker, weight: 1000}]}}\n    deepNN: {weighted: {services: [{name: weighNN, weight: 1}]}}\n    overNN: {failover: {service: nothing, fallback: wikiNN@docker, errors: {status: [500-599]}}}\n"
	file := ""
	for n := range 1 + rng.IntN(3) {
		name := fmt.Sprintf("r%dNN", n)
		rule := pick("Host(`oNN.localhost`)", "Host(`oNN.localhost`) && PathPrefix(`/x`)", "Host(`cNN.localhost`)", "HostRegexp(`^[co]NN\\.localhost$`) && !Path(`/wiki/mcp`)", "host(`oNN.localhost`)", "hOst(`oNN.localhost`)", "Host(`oNN.localhost`) && !Header(`X-No`, `a`)")
		entry := pick("web", "web", "inside", "redirected", "barred", "trusting", "websecure", "web,barred", "redirected,inside", "nowhere", "")
		chain := []string{}
		for range rng.IntN(3) {
			chain = append(chain, pick("mcpb-NN", "mcpb-NN@docker", "tlsNN", "plainNN", "someNN", "allNN", "stripNN", "chainNN", "emptyNN", "nothingNN", "pageNN", "MCPB-NN", "mcpb-NN@file"))
		}
		priority := pick("", "", "", "1", "5000", "9223372036854775807", "-5")
		tls := pick("", "", "", "true")
		if rng.IntN(2) == 0 {
			label := func(member, text string) {
				if text != "" {
					p.labels += "routers." + name + "." + member + ": '" + strings.ReplaceAll(text, "$", "$$") + "'\n"
				}
			}
			label("rule", rule)
			label("entrypoints", entry)
			label("middlewares", strings.Join(chain, ","))
			label("priority", priority)
			label("tls", tls)
			label("service", pick("", "wikiNN", "wikiNN@docker", "neighbour@file", "weighNN@file", "deepNN@file", "overNN@file", "nothing@file", "wikNN"))
			continue
		}
		router := "    " + name + ":\n      rule: '" + rule + "'\n      service: " + pick("wikiNN@docker", "weighNN", "deepNN", "overNN", "neighbour", "nothing", "wikiNN") + "\n"
		for i, m := range chain {
			if !strings.Contains(m, "@") {
				chain[i] = m + "@docker"
			}
		}
		if below := rng.IntN(4) == 0; below {
			router += "      parentRefs: [above" + name + "]\n"
			file += "    above" + name + ":\n      rule: '" + pick("Host(`oNN.localhost`)", "PathPrefix(`/`) && Host(`oNN.localhost`)") + "'\n"
			if entry != "" {
				file += "      entryPoints: [" + entry + "]\n"
			}
			if rng.IntN(2) == 0 {
				file += "      middlewares: [" + pick("mcpb-NN@docker", "chainNN@docker", "someNN@docker", "stripNN@docker", "barrier") + "]\n"
			}
		} else {
			if entry != "" {
				router += "      entryPoints: [" + entry + "]\n"
			}
			if tls != "" {
				router += "      tls: {}\n"
			}
		}
		if len(chain) > 0 {
			router += "      middlewares: [" + strings.Join(chain, ", ") + "]\n"
		}
		if priority != "" {
			router += "      priority: " + priority + "\n"
		}
		file += router
	}
	if file != "" {
		file = "  routers:\n" + file
	}
	p.file = "http:\n" + file + "  services:\n" + services
	if rng.IntN(6) == 0 {
		p.more = "  moreNN:\n    image: wiki\n    labels:\n      traefik.enable: \"" + pick("true", "false") + "\"\n" + pick("", "      traefik.http.services.wikiNN.loadbalancer.server.port: \"PORT\"\n", "      traefik.http.services.moreNN.loadbalancer.server.port: \"PORT\"\n      traefik.http.routers.moreNN.service: wikiNN\n")
	}
	return p
}
