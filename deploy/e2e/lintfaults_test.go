package e2e

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/internal/lint"
	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// plantedFile is one deployment with a fault, or a good one that looks like one. Each is read by
// lint, and runs in real Traefik.
type plantedFile struct {
	name string
	// Old and new texts of the compose file, in turn, and labels that are added to it, below
	// traefik.http unless they begin with traefik.
	change []string
	labels string
	more   string // further services
	file   string // of the file provider
	// The finding that lint must print: CHECK: what is seen. Empty: it says nothing that is wrong.
	finding string
	note    bool // it is a note
	// What real Traefik answers: ENTRYPOINT METHOD HOST/PATH → who.
	answers map[string]string
	log     string // what stands in Traefik's log
	sidecar string // what stands in the sidecar's
	shown   string // what stands on Traefik's dashboard
}

// plantedCompose is a good deployment. NN is the number of the case.
const plantedCompose = `services:
  traefik:
    image: traefik:v3.7.13
    environment: {BOUNCER_HOP_KEY: "${BOUNCER_HOP_KEY:?}"}
  wikiNN:
    image: wiki
    labels:
      traefik.enable: "true"
      traefik.http.routers.wikiNN.rule: Host(` + "`cNN.localhost`) && PathRegexp(`^(/\\.well-known/[a-z-]+)?/wiki(/|$$)`)" + `
      traefik.http.routers.wikiNN.entrypoints: web
      traefik.http.routers.wikiNN.middlewares: mcpb-NN@docker
      traefik.http.services.wikiNN.loadbalancer.server.port: "PORT"
      traefik.http.middlewares.mcpb-NN.plugin.mcpbouncer.publicURL: "http://cNN.localhost/wiki"
      traefik.http.middlewares.mcpb-NN.plugin.mcpbouncer.resource: "wikiNN"
      traefik.http.middlewares.mcpb-NN.plugin.mcpbouncer.providerIssuer: "https://sso.example.com"
      traefik.http.middlewares.mcpb-NN.plugin.mcpbouncer.clientID: "planted"
      traefik.http.middlewares.mcpb-NN.plugin.mcpbouncer.clientSecret: "env:PLANTED_CLIENT_SECRET"
      traefik.http.middlewares.mcpb-NN.plugin.mcpbouncer.scopes: "openid email profile"
      traefik.http.middlewares.mcpb-NN.plugin.mcpbouncer.allowedEmails: "you@example.com"
      traefik.http.middlewares.mcpb-NN.plugin.mcpbouncer.sidecarURL: "SIDECAR"
`

// plantedStatic is what lint is told of the static configuration that runs.
const plantedStatic = `entryPoints:
  web: {address: ":80", asDefault: true}
  websecure: {address: ":443", http: {tls: {}}}
  inside: {address: ":81"}
  redirected: {address: ":82", http: {redirections: {entryPoint: {to: websecure}}}}
  barred: {address: ":83", http: {middlewares: [barrier@file]}}
  trusting: {address: ":84", forwardedHeaders: {insecure: true}}
providers:
  docker: {exposedByDefault: false}
experimental:
  abortOnPluginFailure: true
  localPlugins:
    mcpbouncer: {moduleName: github.com/mcpbouncer/mcpbouncer}
`

const (
	ofMiddleware = "middlewares.mcpb-NN.plugin.mcpbouncer."
	atWiki       = "web POST cNN.localhost/wiki/mcp"
	atMetadata   = "web GET cNN.localhost/.well-known/oauth-authorization-server/wiki"
	atOpen       = "web POST oNN.localhost/wiki/mcp"
	openRouter   = "routers.openNN.rule: Host(`oNN.localhost`)\nrouters.openNN.entrypoints: web\n"
	wayPast      = "way past: router openNN leads to the same server without it: THE SERVER IS OPEN TO EVERYBODY"
)

// plantedSidecar is the sidecar as a service, at the address that it has here.
const plantedSidecar = "  bouncerNN:\n    image: mcpbouncer\n    container_name: 127.0.0.1\n    environment: {BOUNCER_ENCRYPTION_KEY: \"${BOUNCER_ENCRYPTION_KEY:?}\"}\n"

// secondTenant is the MCP server's container once more, by other names.
var secondTenant = strings.NewReplacer("  wikiNN:", "  twoNN:", "routers.wikiNN", "routers.twoNN", "services.wikiNN", "services.twoNN", "mcpb-NN", "mcpb-twoNN", "cNN", "eNN").
	Replace(plantedCompose[strings.Index(plantedCompose, "  wikiNN:"):])

var plantedFiles = []plantedFile{
	{name: "good", answers: map[string]string{atWiki: theBouncer, atMetadata: theDocument}},

	// Labels of the plugin.
	{name: "misspelt label", change: []string{"allowedEmails", "allowedEmail"}, finding: "labels: unknown label allowedEmail", answers: map[string]string{atWiki: "503"}, log: `unknown label "allowedEmail"`},
	{name: "separator of another list", change: []string{"openid email profile", "openid,email,profile"}, finding: "labels: label scopes", answers: map[string]string{atWiki: "503"}, log: "label scopes: "},
	{name: "number without quotes", change: []string{`"planted"`, "110169484474386276334"}, finding: "labels: label clientID", answers: map[string]string{atWiki: "503"}, log: "label clientID: "},
	{name: "plain http", change: []string{"http://cNN.localhost/wiki", "http://cNN.example.com/wiki"}, finding: "labels: label publicURL", answers: map[string]string{atWiki: "503"}, log: "label publicURL: "},
	{name: "label missing", change: []string{"      traefik.http." + ofMiddleware + "resource: \"wikiNN\"\n", ""}, finding: "labels: label resource", answers: map[string]string{atWiki: "503"}, log: "label resource: "},

	{name: "secret in clear", change: []string{"env:PLANTED_CLIENT_SECRET", "GOCSPX-planted"}, finding: "secret: the client secret in clear, which Traefik's dashboard shows", answers: map[string]string{atWiki: theBouncer}, shown: "GOCSPX-planted"},
	{name: "variable of the secret", change: []string{"env:PLANTED_CLIENT_SECRET", "env:OTHER_CLIENT_SECRET"}, more: plantedSidecar, finding: "secret: it is not there", answers: map[string]string{atMetadata: theDocument}, sidecar: "there is no client secret for the provider"},
	{name: "one resource twice", more: secondTenant, finding: "tenants: mcpb-NN@docker has wikiNN too", answers: map[string]string{atMetadata: theDocument, strings.Replace(atMetadata, "cNN", "eNN", 1): theDocument}, sidecar: "another public URL for the same resource"},
	{name: "containers are not read", change: []string{"      traefik.enable: \"true\"\n", ""}, finding: "router: exposedByDefault is false, and wikiNN has no traefik.enable", answers: map[string]string{atWiki: nobody}},
	{name: "enabled by another word", change: []string{"traefik.enable: \"true\"", "traefik.enable: \"yes\""}, finding: "router: yes: Traefik reads no label of wikiNN", answers: map[string]string{atWiki: nobody}},

	// Rules.
	{name: "rule without documents", change: []string{"PathRegexp(`^(/\\.well-known/[a-z-]+)?/wiki(/|$$)`)", "PathPrefix(`/wiki`)"}, finding: "router: it misses /.well-known/oauth-protected-resource/wiki/mcp", answers: map[string]string{atMetadata: nobody, atWiki: theBouncer}},
	{name: "rule of another path", change: []string{"?/wiki(/|$$)", "?/wikis(/|$$)"}, finding: "router: it misses /wiki/mcp", answers: map[string]string{atWiki: nobody}},
	{name: "rule of another host", change: []string{"Host(`cNN.localhost`)", "Host(`dNN.localhost`)"}, finding: "router: it misses /wiki/mcp", answers: map[string]string{atWiki: nobody}},
	{name: "rule for GET only", change: []string{"Host(`cNN.localhost`)", "Host(`cNN.localhost`) && Method(`GET`)"}, finding: "router: it misses /wiki/mcp", answers: map[string]string{atWiki: nobody, atMetadata: theDocument}},
	{name: "rule that cannot be read", change: []string{"Host(`cNN.localhost`)", "Host(cNN.localhost)"}, finding: "router: Host needs its value in backticks", answers: map[string]string{atWiki: nobody}, log: "error while parsing rule Host(cNN.localhost)"},
	{name: "rule with a matcher of another case", change: []string{"PathRegexp(", "pathRegexp("}, finding: "router: no matcher of Traefik is called pathRegexp: write PathRegexp", answers: map[string]string{atWiki: nobody}, log: "unsupported function: pathRegexp"},
	{name: "rule of two hosts in one matcher", change: []string{"Host(`cNN.localhost`)", "Host(`cNN.localhost`, `dNN.localhost`)"}, finding: "router: Host takes another number of values", answers: map[string]string{atWiki: nobody}, log: "unexpected number of parameters"},
	{name: "rule of version 2", change: []string{"Host(`cNN.localhost`) && PathRegexp(`^(/\\.well-known/[a-z-]+)?/wiki(/|$$)`)", "Host(`cNN.localhost`, `dNN.localhost`)"}, labels: "routers.wikiNN.rulesyntax: v2\n", answers: map[string]string{atWiki: theBouncer}},
	{name: "rule that takes only some", change: []string{"Host(`cNN.localhost`)", "Host(`cNN.localhost`) && ClientIP(`127.0.0.0/8`)"}, finding: "router: only some clients are let to it", note: true, answers: map[string]string{atWiki: theBouncer}},
	{name: "dollar of Compose", change: []string{"(/|$$)", "(/|$)"}, answers: map[string]string{atWiki: theBouncer}},
	{name: "no rule", change: []string{"      traefik.http.routers.wikiNN.rule: Host(`cNN.localhost`) && PathRegexp(`^(/\\.well-known/[a-z-]+)?/wiki(/|$$)`)\n", ""}, finding: "router: no rule", answers: map[string]string{atWiki: nobody, "web POST wikiNN/wiki/mcp": "421"}},

	// Other routers answer.
	{name: "a router that shadows", labels: "routers.allNN.rule: PathPrefix(`/`) && Host(`cNN.localhost`)\nrouters.allNN.entrypoints: web\nrouters.allNN.priority: \"5000\"\nrouters.allNN.service: neighbour@file\n",
		finding: "router: router allNN, which goes before it, answers", answers: map[string]string{atWiki: theNeighbour}},
	{name: "a router that would shadow, dropped", labels: "routers.allNN.rule: PathPrefix(`/`) && Host(`cNN.localhost`)\nrouters.allNN.entrypoints: web\nrouters.allNN.priority: \"9223372036854775800\"\nrouters.allNN.service: neighbour@file\n",
		answers: map[string]string{atWiki: theBouncer}, log: "exceeds the max user-defined priority"},
	{name: "a router that shadows on another entry point", labels: "routers.allNN.rule: PathPrefix(`/`) && Host(`cNN.localhost`)\nrouters.allNN.entrypoints: inside\nrouters.allNN.priority: \"5000\"\nrouters.allNN.service: neighbour@file\n",
		answers: map[string]string{atWiki: theBouncer, "inside POST cNN.localhost/wiki/mcp": theNeighbour}},
	{name: "two routers of one priority", labels: "routers.wikiNN.priority: \"77\"\nrouters.allNN.rule: Host(`cNN.localhost`)\nrouters.allNN.entrypoints: web\nrouters.allNN.priority: \"77\"\nrouters.allNN.service: neighbour@file\n",
		finding: "router: router allNN has the same priority (77): chance decides which of them answers"},
	{name: "an entry point of another name", change: []string{"entrypoints: web", "entrypoints: webb"}, finding: "router: no entry point is called webb", answers: map[string]string{atWiki: nobody}, log: "EntryPoint doesn't exist"},
	{name: "an entry point of another letter case", change: []string{"entrypoints: web", "entrypoints: Web"}, finding: "router: no entry point is called Web", answers: map[string]string{atWiki: nobody}, log: "EntryPoint doesn't exist"},

	// Names.
	{name: "plugin misspelt", change: []string{"plugin.mcpbouncer.", "plugin.mcpbounce."}, finding: "plugin: plugin.mcpbounce", answers: map[string]string{atWiki: nobody}, log: "unknown plugin type: mcpbounce"},
	{name: "middleware misspelt", change: []string{"middlewares: mcpb-NN@docker", "middlewares: mcpbb-NN@docker"}, finding: "middlewares: mcpbb-NN@docker is not", answers: map[string]string{atWiki: nobody}, log: "does not exist"},
	{name: "middleware of another letter case", change: []string{"middlewares: mcpb-NN@docker", "middlewares: MCPB-NN@docker"}, finding: "middlewares: MCPB-NN@docker is not", answers: map[string]string{atWiki: nobody}, log: "does not exist"},
	{name: "label of Traefik misspelt", change: []string{"routers.wikiNN.middlewares:", "routers.wikiNN.middleware:"}, finding: "middlewares: Traefik knows no label traefik.http.routers.wikiNN.middleware: it passes over all labels of wikiNN", answers: map[string]string{atWiki: nobody}, log: "field not found, node: middleware"},
	{name: "kind of label misspelt", change: []string{"traefik.http.routers.wikiNN.rule", "traefik.http.router.wikiNN.rule"}, finding: "router: Traefik knows no label traefik.http.router.wikiNN.rule: it passes over all labels of wikiNN", answers: map[string]string{atWiki: nobody}, log: "field not found, node: router"},
	{name: "priority that is no number", labels: "routers.wikiNN.priority: high\n", finding: "router: the priority high is no number: Traefik passes over all labels of wikiNN", answers: map[string]string{atWiki: nobody}, log: "invalid syntax"},
	{name: "service of another name", labels: "routers.wikiNN.service: wikisNN\n", finding: "router: no service is called wikisNN", answers: map[string]string{atWiki: nobody}, log: "does not exist"},
	{name: "two services and none named", labels: "services.uiNN.loadbalancer.server.port: \"9\"\n", finding: "router: wikiNN has 2 services, and the router names none", answers: map[string]string{atWiki: nobody}, log: "cannot be linked automatically with multiple Services"},
	{name: "two containers with one middleware", more: "  otherNN:\n    image: other\n    labels:\n      traefik.enable: \"true\"\n      traefik.http.routers.otherNN.rule: Host(`eNN.localhost`)\n      traefik.http.middlewares.mcpb-NN.headers.customrequestheaders.X-A: b\n",
		finding: "middlewares: wikiNN and otherNN both define mcpb-NN, with different labels", answers: map[string]string{atWiki: nobody}, log: "HTTP middleware defined multiple times with different configurations"},
	{name: "two containers with one router", more: "  otherNN:\n    image: other\n    labels:\n      traefik.enable: \"true\"\n      traefik.http.routers.wikiNN.rule: Host(`eNN.localhost`)\n",
		finding: "router: wikiNN and otherNN both define wikiNN, with different labels", answers: map[string]string{atWiki: nobody}, log: "HTTP router defined multiple times with different configurations"},

	// Middlewares around it.
	{name: "stripPrefix before", change: []string{"middlewares: mcpb-NN@docker", "middlewares: stripNN@docker,mcpb-NN@docker"}, labels: "middlewares.stripNN.stripprefix.prefixes: /wiki\n", finding: "middlewares: stripprefix (stripNN@docker) before it", answers: map[string]string{atWiki: "404"}},
	{name: "stripPrefix before, in a chain", change: []string{"middlewares: mcpb-NN@docker", "middlewares: chainNN@docker"}, labels: "middlewares.stripNN.stripprefix.prefixes: /wiki\nmiddlewares.chainNN.chain.middlewares: stripNN,mcpb-NN\n", finding: "middlewares: stripprefix (stripNN@docker) before it", answers: map[string]string{atWiki: "404"}},
	{name: "addPrefix before", change: []string{"middlewares: mcpb-NN@docker", "middlewares: addNN@docker,mcpb-NN@docker"}, labels: "middlewares.addNN.addprefix.prefix: /api\n", finding: "middlewares: addprefix (addNN@docker) before it", answers: map[string]string{atWiki: "404"}},
	{name: "a password before", change: []string{"middlewares: mcpb-NN@docker", "middlewares: whoNN@docker,mcpb-NN@docker"}, labels: "middlewares.whoNN.basicauth.users: \"a:b\"\n", finding: "middlewares: basicauth (whoNN@docker) beside it", answers: map[string]string{atWiki: "401", atMetadata: "401"}},
	{name: "the bouncer twice", change: []string{"middlewares: mcpb-NN@docker", "middlewares: mcpb-NN@docker,barrier@file"}, finding: "middlewares: barrier@file is the bouncer once more: the second one answers 401 to everybody", answers: map[string]string{atWiki: theBouncer}},
	{name: "stripPrefix behind", change: []string{"middlewares: mcpb-NN@docker", "middlewares: mcpb-NN@docker,stripNN@docker"}, labels: "middlewares.stripNN.stripprefix.prefixes: /wiki\n", answers: map[string]string{atWiki: theBouncer}},

	// Ways past it.
	{name: "middlewares forgotten", change: []string{"      traefik.http.routers.wikiNN.middlewares: mcpb-NN@docker\n", ""}, finding: "router: none does: router wikiNN leads to the server without it, which is OPEN TO EVERYBODY", answers: map[string]string{atWiki: theServer}},
	{name: "middlewares by an index", change: []string{"routers.wikiNN.middlewares:", "routers.wikiNN.middlewares[0]:"}, finding: "middlewares: an index, which Traefik passes over without a word: THE SERVER IS OPEN TO EVERYBODY", answers: map[string]string{atWiki: theServer}},
	{name: "another router", labels: openRouter, finding: wayPast, answers: map[string]string{atOpen: theServer, atWiki: theBouncer}},
	{name: "another router that names the service", labels: openRouter + "routers.openNN.service: wikiNN@docker\n", finding: wayPast, answers: map[string]string{atOpen: theServer}},
	{name: "another entry point", labels: strings.Replace(openRouter, ": web", ": inside", 1), finding: wayPast, answers: map[string]string{"inside POST oNN.localhost/wiki/mcp": theServer, atOpen: nobody}},
	{name: "the TLS entry point", labels: strings.Replace(openRouter, ": web", ": websecure", 1), finding: wayPast, answers: map[string]string{"websecure POST oNN.localhost/wiki/mcp": theServer, atOpen: nobody}},
	{name: "a router with more priority, at one path", labels: "routers.openNN.rule: Host(`cNN.localhost`) && Path(`/wiki/mcp`)\nrouters.openNN.entrypoints: web\nrouters.openNN.priority: \"500\"\n", finding: wayPast, answers: map[string]string{atWiki: theServer}},
	{name: "a router that needs a header", labels: "routers.openNN.rule: Host(`oNN.localhost`) && !Header(`X-No`, `a`)\nrouters.openNN.entrypoints: web\n", finding: wayPast, answers: map[string]string{atOpen: theServer}},
	{name: "a router in a file", file: "http:\n  routers:\n    openNN: {rule: \"Host(`oNN.localhost`)\", entryPoints: [web], service: wikiNN@docker}\n", finding: wayPast, answers: map[string]string{atOpen: theServer}},
	{name: "the same service in a file", file: "http:\n  routers:\n    openNN: {rule: \"Host(`oNN.localhost`)\", entryPoints: [web], service: openNN}\n  services:\n    openNN: {loadBalancer: {servers: [{url: \"SERVER/api\"}]}}\n",
		change: []string{"    image: wiki\n", "    image: wiki\n    container_name: 127.0.0.1\n"}, finding: wayPast, answers: map[string]string{atOpen: theServer}},
	{name: "a weighted service", file: "http:\n  routers:\n    openNN: {rule: \"Host(`oNN.localhost`)\", entryPoints: [web], service: openNN}\n  services:\n    openNN: {weighted: {services: [{name: wikiNN@docker, weight: 1}]}}\n", finding: wayPast, answers: map[string]string{atOpen: theServer}},
	{name: "a service that fails over", file: "http:\n  routers:\n    openNN: {rule: \"Host(`oNN.localhost`)\", entryPoints: [web], service: openNN}\n  services:\n    openNN: {failover: {service: nothing, fallback: wikiNN@docker, errors: {status: [500-599]}}}\n", finding: wayPast, answers: map[string]string{atOpen: theServer}},
	{name: "a service that mirrors", file: "http:\n  routers:\n    openNN: {rule: \"Host(`oNN.localhost`)\", entryPoints: [web], service: openNN}\n  services:\n    openNN: {mirroring: {service: neighbour, mirrors: [{name: wikiNN@docker, percent: 100}]}}\n", finding: wayPast, answers: map[string]string{atOpen: theNeighbour + ", and the server was asked"}},
	{name: "a page for errors that is the server's", labels: "routers.openNN.rule: Host(`oNN.localhost`)\nrouters.openNN.entrypoints: web\nrouters.openNN.service: nothing@file\nrouters.openNN.middlewares: pageNN\nmiddlewares.pageNN.errors.status: 400-599\nmiddlewares.pageNN.errors.service: wikiNN\nmiddlewares.pageNN.errors.query: /wiki/mcp\n",
		finding: "way past: router openNN shows what the server says where an error page is due (pageNN@docker)", answers: map[string]string{atOpen: "503 " + theServer}},
	{name: "such a page before the bouncer", change: []string{"middlewares: mcpb-NN@docker", "middlewares: pageNN,mcpb-NN@docker"}, labels: "middlewares.pageNN.errors.status: \"401\"\nmiddlewares.pageNN.errors.service: wikiNN\nmiddlewares.pageNN.errors.query: /wiki/mcp\n",
		finding: "way past: router wikiNN shows what the server says where an error page is due (pageNN@docker)", answers: map[string]string{atWiki: "401 " + theServer}},
	{name: "such a page behind the bouncer", change: []string{"middlewares: mcpb-NN@docker", "middlewares: mcpb-NN@docker,pageNN"}, labels: "middlewares.pageNN.errors.status: \"401\"\nmiddlewares.pageNN.errors.service: wikiNN\nmiddlewares.pageNN.errors.query: /wiki/mcp\n", answers: map[string]string{atWiki: theBouncer}},
	{name: "a published port", change: []string{"    image: wiki\n", "    image: wiki\n    ports: [\"8000:PORT\"]\n"}, finding: "way past: service wikiNN publishes a port", answers: map[string]string{"direct POST oNN.localhost/wiki/mcp": theServer}},
	{name: "a router of TCP", labels: "traefik.tcp.routers.openNN.rule: HostSNI(`oNN.localhost`)\ntraefik.tcp.routers.openNN.entrypoints: websecure\ntraefik.tcp.routers.openNN.tls: \"true\"\ntraefik.tcp.services.openNN.loadbalancer.server.port: \"PORT\"\n",
		finding: "way past: router openNN of TCP leads to the same server past every middleware", answers: map[string]string{"websecure POST oNN.localhost/wiki/mcp": theServer}},
	{name: "a router of TCP in a file", file: "tcp:\n  routers:\n    openNN: {rule: \"HostSNI(`oNN.localhost`)\", entryPoints: [websecure], service: openNN, tls: {}}\n  services:\n    openNN: {loadBalancer: {servers: [{address: \"127.0.0.1:PORT\"}]}}\n",
		change: []string{"    image: wiki\n", "    image: wiki\n    container_name: 127.0.0.1\n"}, finding: "way past: router openNN of TCP leads to the same server past every middleware", answers: map[string]string{"websecure POST oNN.localhost/wiki/mcp": theServer}},
	{name: "a router below another", file: "http:\n  routers:\n    parentNN: {rule: \"Host(`oNN.localhost`)\", entryPoints: [web]}\n    openNN: {rule: \"PathPrefix(`/`)\", service: wikiNN@docker, parentRefs: [parentNN]}\n", finding: wayPast, answers: map[string]string{atOpen: theServer}},
	{name: "a router that Traefik makes by itself", more: "  twinNN:\n    image: wiki\n    labels: {traefik.enable: \"true\", traefik.http.services.wikiNN.loadbalancer.server.port: \"PORT\"}\n",
		finding: "way past: Traefik makes router twinNN by itself", answers: map[string]string{"web POST twinNN/wiki/mcp": theServer}},
	{name: "a list of all addresses", labels: openRouter + "routers.openNN.middlewares: listNN\nmiddlewares.listNN.ipallowlist.sourcerange: 10.0.0.0/8, 0.0.0.0/0\n", finding: wayPast, answers: map[string]string{atOpen: theServer}},
	{name: "a redirect to https that believes a header", labels: "routers.openNN.rule: Host(`oNN.localhost`)\nrouters.openNN.entrypoints: trusting\nrouters.openNN.middlewares: tlsNN\nmiddlewares.tlsNN.redirectscheme.scheme: https\n", finding: wayPast, answers: map[string]string{"trusting POST oNN.localhost/wiki/mcp": theServer}},
	{name: "a redirect to http", labels: openRouter + "routers.openNN.middlewares: tlsNN\nmiddlewares.tlsNN.redirectscheme.scheme: http\n", finding: wayPast, answers: map[string]string{atOpen: theServer}},

	// What looks like a way past it, and is none.
	{name: "a list of some addresses", labels: openRouter + "routers.openNN.middlewares: listNN\nmiddlewares.listNN.ipallowlist.sourcerange: 10.0.0.0/8\n", answers: map[string]string{atOpen: "403"}},
	{name: "a redirect to https", labels: openRouter + "routers.openNN.middlewares: tlsNN\nmiddlewares.tlsNN.redirectscheme.scheme: https\n", answers: map[string]string{atOpen: "307"}},
	{name: "an entry point that redirects", labels: strings.Replace(openRouter, ": web", ": redirected", 1), answers: map[string]string{"redirected POST oNN.localhost/wiki/mcp": "308"}},
	{name: "an entry point with the bouncer", labels: strings.Replace(openRouter, ": web", ": barred", 1), answers: map[string]string{"barred POST oNN.localhost/wiki/mcp": theBouncer}},
	{name: "the parent has the bouncer", file: "http:\n  routers:\n    parentNN: {rule: \"Host(`oNN.localhost`)\", entryPoints: [web], middlewares: [barrier]}\n    openNN: {rule: \"PathPrefix(`/`)\", service: wikiNN@docker, parentRefs: [parentNN]}\n", answers: map[string]string{atOpen: theBouncer}},
	{name: "a dropped router", labels: openRouter + "routers.openNN.middlewares: nothingNN\n", finding: "middlewares: nothingNN@docker is not", answers: map[string]string{atOpen: nobody}},
	{name: "a chain with the bouncer", labels: openRouter + "routers.openNN.middlewares: chainNN\nmiddlewares.chainNN.chain.middlewares: mcpb-NN\n", answers: map[string]string{atOpen: "421"}},
	{name: "another server", labels: openRouter + "routers.openNN.service: neighbour@file\n", answers: map[string]string{atOpen: theNeighbour}},
}

// plantedWorld is one real Traefik with many deployments beside each other, and what lint says of
// each.
type plantedWorld struct {
	*rig.World
	t       *testing.T
	server  *witness
	sidecar *rig.Replica
	ports   map[string]int // by entry point
	api     string
	reports []*report.Report
	clients map[string]*http.Transport
}

func newPlantedWorld(t *testing.T, planted []plantedFile) *plantedWorld {
	ports := map[string]int{}
	entryPoints := map[string]any{}
	for name, more := range map[string]map[string]any{
		"inside": {}, "redirected": {"http": map[string]any{"redirections": map[string]any{"entryPoint": map[string]any{"to": "websecure"}}}},
		"barred": {"http": map[string]any{"middlewares": []string{"barrier@file"}}}, "trusting": {"forwardedHeaders": map[string]any{"insecure": true}},
		"web": {"asDefault": true},
	} {
		if name != "web" {
			ports[name] = rig.FreePort(t)
			more["address"] = fmt.Sprintf("127.0.0.1:%d", ports[name])
		}
		entryPoints[name] = more
	}
	w := &plantedWorld{World: &rig.World{Logs: &rig.Logs{}, Secrets: &rig.Secrets{}}, t: t, ports: ports, clients: map[string]*http.Transport{}}
	keys := rig.Keygen(t, w.Secrets)
	w.Keys = keys
	w.sidecar = rig.StartReplica(t, w.Logs, "sidecar", map[string]string{"BOUNCER_ENCRYPTION_KEY": keys.Encryption, "PLANTED_CLIENT_SECRET": "x"}, nil)
	w.server = newWitness(t, "server")
	at, err := url.Parse(w.server.url)
	if err != nil {
		t.Fatal(err)
	}
	barrier := newDynamic()
	barrier.service("neighbour", says(t, theNeighbour))
	barrier.service("nothing")
	barrier.middlewares["barrier"] = map[string]any{"plugin": map[string]any{"mcpbouncer": map[string]any{
		"resource": "barrier", "pathPrefix": "/", "providerIssuer": "https://sso.example.com", "clientID": "planted", "clientSecret": "env:PLANTED_CLIENT_SECRET", "allowedEmails": "you@example.com", "sidecarURL": "http://" + w.sidecar.Addr,
	}}}
	barrier.service("own", says(t, "own"))
	barrier.router("barrier", "Host(`barrier.localhost`)", "own", "barrier")
	barrierText, err := json.Marshal(barrier.config()) // which is YAML too
	if err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer("PORT", at.Port(), "SERVER", w.server.url, "SIDECAR", "http://"+w.sidecar.Addr)

	containers, texts := []rig.Container{}, map[string]string{}
	for i, p := range planted {
		dir, number := t.TempDir(), fmt.Sprint(i)
		compose := plantedCompose
		for j := 0; j < len(p.change); j += 2 {
			changed := strings.ReplaceAll(compose, p.change[j], p.change[j+1])
			if changed == compose {
				t.Fatalf("%s: %q is not there", p.name, p.change[j])
			}
			compose = changed
		}
		for line := range strings.Lines(p.labels) {
			if !strings.HasPrefix(line, "traefik.") {
				line = "traefik.http." + line
			}
			compose += "      " + line
		}
		fill := func(text string) string { return filled.Replace(strings.ReplaceAll(text, "NN", number)) }
		files := []string{filepath.Join(dir, "compose.yaml"), filepath.Join(dir, "traefik.yaml"), filepath.Join(dir, "barrier.yaml"), filepath.Join(dir, "dynamic.yaml")}
		for j, text := range []string{compose + p.more, plantedStatic, string(barrierText), p.file} {
			if err := os.WriteFile(files[j], []byte(fill(text)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if p.file == "" {
			files = files[:3]
		} else {
			texts["case-"+number+".yaml"] = fill(p.file)
		}
		w.reports = append(w.reports, lint.Run(files))
		for _, s := range loadComposeIn(t, dir, map[string]string{"BOUNCER_HOP_KEY": "x", "BOUNCER_ENCRYPTION_KEY": "x"}).Services {
			if len(s.Labels) > 0 {
				port := "9" // of the image, where nothing answers
				if s.Name == "wiki"+number {
					port = at.Port()
				}
				containers = append(containers, rig.Container{Name: s.Name, IP: "127.0.0.1", Port: port, Labels: s.Labels})
			}
		}
	}
	ports["traefik"] = rig.FreePort(t)
	w.api = fmt.Sprintf("http://127.0.0.1:%d", ports["traefik"])
	entryPoints["traefik"] = map[string]any{"address": fmt.Sprintf("127.0.0.1:%d", ports["traefik"])}
	w.Traefik = rig.StartTraefik(t, w.Logs, rig.TraefikConfig{WebPort: rig.FreePort(t), HopKey: keys.Hop, Docker: rig.StartDocker(t, containers...), File: barrier.config(),
		Static: map[string]any{"entryPoints": entryPoints, "api": map[string]any{"insecure": true}}})
	texts["last.yaml"] = "http: {routers: {last: {rule: \"Host(`last.localhost`)\", service: neighbour, entryPoints: [web]}}}"
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		text := texts[name]
		w.Traefik.SetText(t, name, text)
	}
	// All is read once the first container and the last file are.
	for question, want := range map[string]string{"web POST c0.localhost/wiki/mcp": theBouncer, "web POST last.localhost/": theNeighbour} {
		rig.WaitFor(t, question, func() error {
			said, err := w.ask(question)
			if err == nil && said != want {
				err = errors.New(said)
			}
			return err
		})
	}
	return w
}

// ask says who answers "ENTRYPOINT METHOD HOST/PATH". With tls: before the entry point, TLS is
// spoken where that is not the entry point's own.
func (w *plantedWorld) ask(question string) (string, error) {
	part := strings.Fields(question)
	host, path, _ := strings.Cut(part[2], "/")
	entry, spoken := strings.CutPrefix(part[0], "tls:")
	to := map[bool]string{false: "http://", true: "https://"}[spoken || entry == "websecure"]
	switch entry {
	case "direct":
		to = w.server.url
	case "websecure":
		to += w.Traefik.WebSecure
	case "web":
		to += strings.TrimPrefix(w.Traefik.Web, "http://")
	default:
		to += fmt.Sprintf("127.0.0.1:%d", w.ports[entry])
	}
	if w.clients[to+host] == nil {
		client := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: host}}
		w.t.Cleanup(client.CloseIdleConnections)
		w.clients[to+host] = client
	}
	req, err := http.NewRequestWithContext(w.t.Context(), part[1], to+"/"+path, nil)
	if err != nil {
		return "", err
	}
	req.Host = host
	req.Header.Set(routeHeader, question)
	if entry == "trusting" {
		req.Header.Set("X-Forwarded-Proto", "https")
	}
	resp, err := w.clients[to+host].RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	answer := &rig.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
	said := who(answer)
	switch {
	case answer.Header.Get("X-Server") == "server" && answer.Status == http.StatusOK:
		said = theServer
	case answer.Header.Get("X-Server") == "server":
		said = fmt.Sprintf("%d %s", answer.Status, theServer)
	case said == answer.String(), said == theBouncer && !strings.HasPrefix(challengeOf(answer), "Bearer"):
		said = fmt.Sprint(answer.Status)
	}
	return said, err
}

// Each fault that lint names is one in real Traefik: what lint says will happen does. And what lint
// passes over in silence lets nobody in.
func TestLintIsRightAboutFilesInRealTraefik(t *testing.T) {
	t.Parallel()
	w := newPlantedWorld(t, plantedFiles)
	server := w.server
	for i, p := range plantedFiles {
		t.Run(p.name, func(t *testing.T) {
			number := fmt.Sprint(i)
			for _, question := range slices.Sorted(maps.Keys(p.answers)) {
				want, question := p.answers[question], strings.ReplaceAll(question, "NN", number)
				said, err := w.ask(question)
				wanted, asked := strings.CutSuffix(want, ", and the server was asked")
				if err != nil || said != wanted {
					t.Errorf("%s: %q %v, want %q", question, said, err, want)
				}
				if asked { // a mirror is asked in the background
					rig.WaitFor(t, question, func() error {
						if len(server.of(question)) == 0 {
							return errors.New("the server was not asked")
						}
						return nil
					})
				}
				if strings.Contains(want, theServer) != (len(server.of(question)) > 0) && !strings.HasSuffix(want, "asked") {
					t.Errorf("%s: the server was asked %d times", question, len(server.of(question)))
				}
			}
			if p.log != "" {
				if err := inOneLine(w.Logs.Text("traefik"), strings.ReplaceAll(p.log, "NN", number)); err != nil {
					t.Error(err)
				}
			}
			if p.sidecar != "" {
				if err := inOneLine(w.Logs.Text("sidecar"), p.sidecar, "c"+number+".localhost"); err != nil {
					t.Error(err)
				}
			}
			if p.shown != "" {
				if err := inOneLine(w.dashboard(), p.shown); err != nil {
					t.Error(err)
				}
			}
			r, found, open := w.reports[i], p.finding == "", false
			for _, f := range r.Findings {
				said := f.Check + ": " + f.Seen
				open = open || f.Check == "way past" || strings.Contains(said, "OPEN")
				if p.finding != "" && strings.Contains(said, strings.ReplaceAll(p.finding, "NN", number)) && f.Wrong() != p.note {
					found = true
				}
				if f.Wrong() && (p.finding == "" || p.note) {
					t.Errorf("lint finds %s:%d %s", filepath.Base(f.File), f.Line, said)
				}
			}
			if !found {
				t.Errorf("lint does not find it: %s %+v", r.Unable, r.Findings)
			}
			if let := strings.Contains(strings.Join(slices.Collect(maps.Values(p.answers)), " "), theServer); let && !open {
				t.Error("the server is open, and lint does not say so")
			}
		})
	}

	// Last, as all of the world is of one hop key.
	compose := strings.NewReplacer("NN", "0", "PORT", "8000", "SIDECAR", "http://"+w.sidecar.Addr).Replace(plantedCompose + plantedSidecar)
	const line = "    environment: {BOUNCER_HOP_KEY: \"${BOUNCER_HOP_KEY:?}\"}\n"
	other := rig.Keygen(t, w.Secrets)
	for _, c := range []struct{ name, key, line, finding string }{
		{"hop key missing", "", "", "it is not there: each login is answered 503"},
		{"hop key of another master", other.Hop, "    environment: {BOUNCER_HOP_KEY: \"" + other.Hop + "\"}\n", "a hop key of another master: each login is answered 503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.Traefik.Restart(t, c.key)
			rig.WaitFor(t, "the labels", func() error {
				said, err := w.ask("web POST c0.localhost/wiki/mcp")
				if err == nil && said != theBouncer {
					err = errors.New(said)
				}
				return err
			})
			if said, err := w.ask("web GET c0.localhost/.well-known/oauth-authorization-server/wiki"); err != nil || said != "503" {
				t.Errorf("the document: %q %v", said, err)
			}
			file := filepath.Join(t.TempDir(), "compose.yaml")
			text := strings.Replace(strings.Replace(compose, line, c.line, 1), "${BOUNCER_ENCRYPTION_KEY:?}", w.Keys.Encryption, 1)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			r := lint.Run([]string{file})
			if !slices.ContainsFunc(r.Findings, func(f report.Finding) bool { return f.Wrong() && f.Check == "hop key" && f.Seen == c.finding }) {
				t.Errorf("lint does not find it: %s %+v", r.Unable, r.Findings)
			}
		})
	}
}

// dashboard is what Traefik shows of the middlewares.
func (w *plantedWorld) dashboard() string {
	resp, err := http.Get(w.api + "/api/rawdata")
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}
