package doctor

import (
	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// The places of documents, in the words of the lines.
type place int

const (
	pointed  place = iota // where the 401 points
	inserted              // /.well-known/NAME/path (RFC 9728 section 3.1, RFC 8414 section 3.1)
	atRoot                // /.well-known/NAME
)

// How a client compares `resource` of the protected resource's document with the URL that the
// person typed.
type comparison int

const (
	anything comparison = iota
	above               // the same, or a shorter path above it on the same origin
	exactly             // to the byte (RFC 9728 section 3.3)
)

// program is a client, as far as a server can tell it from another. docs/clients.md says where each
// fact is from.
type program struct {
	name string
	// first is the method of its first request to the MCP server; empty: it asks for documents
	// first.
	first    string
	resource []place // the protected resource's document, in this order
	// A document that the 401 points to and that cannot be read ends its walk.
	strict   bool
	compares comparison
	// goesOn says that it passes over a document whose resource is another, and then goes by the
	// server's document at the root of the host.
	goesOn bool
	// Old ones go by the server's document at the root of the host and nothing else.
	rootOnly bool
	// sameOrigin says that it passes over a 401 that points to another origin, ownOrigin that such
	// a 401 ends its login.
	sameOrigin, ownOrigin bool

	// known is how its facts are: measured with that version, read in that source, or assumed where
	// nothing says more than the specification.
	known string

	document string // client metadata document; empty: it has none
	// The document is used only where the server takes public clients, or promises `iss`.
	wantsNone, wantsIss bool
	registration        string   // body of its dynamic registration
	namesScope          bool     // the body also has the scope that it is going to ask for
	redirects           []string // the redirect URIs that it may come with
	anyPort             bool     // not only with the loopback ports that it has registered
	wantsAnswerIss      bool     // an answer without iss ends its login, promised or not
	keepsOne            bool     // it works when some of them were not taken
	scope               string   // when the server names none
	offline, prompt     bool     // asks for offline_access where it is offered; with prompt=consent

	hosted bool // asks from the internet
	node   bool // goes by NODE_EXTRA_CA_CERTS
	page   bool // is a page of a browser
	old    bool // is told only as a note
}

var spec = []place{pointed, inserted, atRoot}

// programs are in the order of the verdicts.
var programs = []program{
	{name: "Claude", first: "POST", resource: spec, compares: exactly, hosted: true, known: "documentation and users' reports of 2026",
		document: "https://claude.ai/oauth/mcp-oauth-client-metadata", wantsNone: true, scope: "claudeai",
		redirects:    []string{"https://claude.ai/api/mcp/auth_callback"},
		registration: `{"client_name":"Claude","grant_types":["authorization_code","refresh_token"],"redirect_uris":["https://claude.ai/api/mcp/auth_callback"],"response_types":["code"],"scope":"claudeai","token_endpoint_auth_method":"none","client_uri":"https://claude.ai"}`},
	{name: "Claude Code", resource: []place{inserted, atRoot}, compares: above, node: true, known: "measured with 2.1.332", namesScope: true,
		document: "https://claude.ai/oauth/claude-code-client-metadata", wantsNone: true, offline: true, prompt: true,
		redirects:    []string{"http://localhost:54545/callback", "http://localhost:49152/callback"},
		registration: `{"client_name":"Claude Code (doctor)","redirect_uris":["http://localhost:54545/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none","application_type":"native"}`},
	{name: "ChatGPT", first: "POST", resource: spec, compares: exactly, hosted: true, known: "its document is published; the rest is assumed, the strictest that the specification allows",
		document: "https://chatgpt.com/oauth/client.json", wantsIss: true,
		redirects:    []string{"https://chatgpt.com/connector_platform_oauth_redirect"},
		registration: `{"client_name":"ChatGPT","redirect_uris":["https://chatgpt.com/connector_platform_oauth_redirect"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}`},
	{name: "VS Code", first: "POST", resource: spec, compares: exactly, goesOn: true, keepsOne: true, anyPort: true, known: "its source of 2026",
		document: "https://vscode.dev/oauth/client-metadata.json", wantsNone: true,
		redirects:    []string{"http://127.0.0.1:33418/", "http://127.0.0.1:51234/", "https://vscode.dev/redirect"},
		registration: `{"client_name":"Visual Studio Code","client_uri":"https://code.visualstudio.com","grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],"response_types":["code"],"redirect_uris":["https://insiders.vscode.dev/redirect","https://vscode.dev/redirect","http://127.0.0.1/","http://127.0.0.1:33418/"],"scope":"","token_endpoint_auth_method":"none","application_type":"native"}`},
	{name: "Cursor", first: "POST", resource: spec, compares: above, keepsOne: true, strict: true, known: "users' reports of 2026",
		redirects:    []string{"http://localhost:8787/callback", "https://www.cursor.com/agents/mcp/oauth/callback", "cursor://anysphere.cursor-mcp/oauth/callback"},
		registration: `{"client_name":"Cursor","redirect_uris":["cursor://anysphere.cursor-mcp/oauth/callback","https://www.cursor.com/agents/mcp/oauth/callback","http://localhost:8787/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}`},
	{name: "Codex", first: "GET", resource: spec, compares: above, sameOrigin: true, known: "measured with 0.171.0", namesScope: true,
		document: "https://chatgpt.com/oauth/codex/client.json", wantsNone: true, wantsIss: true, offline: true,
		redirects:    []string{"http://127.0.0.1:46121/callback", "http://localhost:46121/callback"},
		registration: `{"client_name":"Codex","redirect_uris":["http://127.0.0.1:46121/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none","application_type":"native"}`},
	{name: "Gemini CLI", first: "HEAD", resource: spec, compares: exactly, ownOrigin: true, node: true, known: "measured with 0.61.0", namesScope: true, wantsAnswerIss: true,
		redirects:    []string{"http://localhost:40123/oauth/callback"},
		registration: `{"client_name":"Gemini CLI MCP Client","redirect_uris":["http://localhost:40123/oauth/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}`},
	{name: "mcp-remote", first: "GET", resource: spec, compares: above, node: true, strict: true, offline: true, prompt: true, known: "measured with 0.15.1", namesScope: true,
		redirects:    []string{"http://localhost:3335/oauth/callback"},
		registration: `{"redirect_uris":["http://localhost:3335/oauth/callback"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"MCP CLI Proxy","client_uri":"https://github.com/modelcontextprotocol/mcp-cli","software_id":"2e6dc280-f3c3-4e01-99a7-8181dbd1d23d","software_version":"0.15.1","application_type":"native"}`},
	{name: "MCP Inspector", first: "POST", resource: spec, compares: above, node: true, strict: true, offline: true, prompt: true, known: "measured with 2.12.0", namesScope: true,
		redirects:    []string{"http://localhost:6274/oauth/callback"},
		registration: `{"redirect_uris":["http://localhost:6274/oauth/callback"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"MCP Inspector","client_uri":"https://github.com/modelcontextprotocol/inspector","application_type":"native"}`},
	{name: "TypeScript SDK", first: "POST", resource: spec, compares: above, node: true, strict: true, known: "measured with 1.32.2", namesScope: true,
		redirects:    []string{"http://localhost:8090/callback"},
		registration: `{"redirect_uris":["http://localhost:8090/callback"],"client_name":"Simple OAuth MCP Client","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"client_secret_post"}`},
	{name: "Python SDK", first: "POST", resource: spec, compares: above, known: "its source of 2026", namesScope: true,
		redirects:    []string{"http://localhost:3030/callback"},
		registration: `{"redirect_uris":["http://localhost:3030/callback"],"token_endpoint_auth_method":"client_secret_post","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"Simple Auth Client"}`},
	{name: "Go SDK", first: "POST", resource: spec, compares: exactly, goesOn: true, offline: true, known: "measured with 1.8.0",
		redirects:    []string{"http://127.0.0.1:39123/callback"},
		registration: `{"redirect_uris":["http://127.0.0.1:39123/callback"],"token_endpoint_auth_method":"client_secret_post","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"go client","application_type":"native"}`},
	{name: "Rust SDK", first: "POST", resource: spec, compares: above, sameOrigin: true, known: "Codex, which is made with it, and its source of 2026",
		redirects:    []string{"http://127.0.0.1:8080/callback"},
		registration: `{"client_name":"rmcp","redirect_uris":["http://127.0.0.1:8080/callback"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none","response_types":["code"]}`},
	{name: "use-mcp and other pages of browsers", first: "POST", resource: spec, compares: above, strict: true, page: true, known: "measured with 0.0.21, in Chromium", namesScope: true,
		redirects:    []string{"http://localhost:5173/oauth/callback"},
		registration: `{"redirect_uris":["http://localhost:5173/oauth/callback"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"use-mcp","client_uri":"http://localhost:5173"}`},
	{name: "Raycast, and others that look at the root only", first: "POST", rootOnly: true, old: true, known: "users' reports of 2026",
		redirects:    []string{"raycast://oauth?package_name=mcp_server_doctor"},
		registration: `{"client_name":"Raycast MCP: Doctor","grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],"redirect_uris":["raycast://oauth?package_name=mcp_server_doctor"]}`},
}

// Fact says how what doctor does in a client's name is known.
type Fact struct {
	Client string
	Known  string // docs/doctor.md has the same
	First  string // method of its first request to the MCP server; empty: it reads documents first
}

// Facts are of all clients, in the order of the verdicts.
func Facts() []Fact {
	var all []Fact
	for _, p := range programs {
		all = append(all, Fact{p.name, p.known, p.first})
	}
	return all
}

func names(which func(program) bool) []string {
	var of []string
	for _, p := range programs {
		if which(p) {
			of = append(of, p.name)
		}
	}
	return of
}

func allNames() []string { return names(func(program) bool { return true }) }

// breaks names clients; all of them have one name.
func breaks(of []string) []string {
	if len(of) >= len(programs)-1 {
		return []string{report.EveryClient}
	}
	return of
}
