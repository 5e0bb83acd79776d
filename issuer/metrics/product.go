package metrics

import (
	"slices"
	"strings"
)

// Other is the product of a client that is none of the known ones.
const Other = "other"

// known are the clients that are told apart. The first row that fits counts. Names are what clients
// register (docs/clients.md); anybody can use them, so a product proves nothing.
var known = []struct {
	product  string
	ids      []string // beginnings of a client_id that is the URL of a document
	redirect []string // beginnings of a redirect URI that only this client has
	names    []string // beginnings of client_name, in lower case
}{
	{"machine", []string{"machine:"}, nil, nil},
	{"key", []string{"key:"}, nil, nil},
	{"workload", []string{"workload:"}, nil, nil},
	{"claude-code", []string{"https://claude.ai/oauth/claude-code-"}, nil, []string{"claude code"}},
	{"claude", []string{"https://claude.ai/"}, []string{"https://claude.ai/", "https://claude.com/"}, []string{"claude"}},
	{"codex", []string{"https://chatgpt.com/oauth/codex/"}, nil, []string{"codex"}},
	{"chatgpt", []string{"https://chatgpt.com/"}, []string{"https://chatgpt.com/"}, []string{"chatgpt"}},
	{"cline", nil, []string{"vscode://saoudrizwan.claude-dev/", "vscode-insiders://saoudrizwan.claude-dev/", "cursor://saoudrizwan.claude-dev/"}, []string{"cline"}},
	{"vscode", []string{"https://vscode.dev/"}, []string{"https://vscode.dev/", "https://insiders.vscode.dev/", "http://127.0.0.1:33418/"}, []string{"visual studio code"}},
	{"cursor", []string{"https://cursor.com/", "https://www.cursor.com/"}, []string{"cursor://anysphere.cursor-mcp/", "https://www.cursor.com/"}, []string{"cursor"}},
	{"opencode", []string{"https://opencode.ai/"}, nil, []string{"opencode"}},
	{"gemini-cli", nil, nil, []string{"gemini cli"}},
	{"mcp-remote", nil, nil, []string{"mcp cli proxy"}},
	{"inspector", nil, nil, []string{"mcp inspector"}},
	{"raycast", nil, []string{"raycast://"}, []string{"raycast"}},
}

// Product returns which client this is: by its client_id if that is a document's URL, or else by
// its redirect URIs, or else by the name that it gave. It is of a closed list.
func Product(clientID string, redirectURIs []string, name string) string {
	begins := func(text string, with []string) bool {
		return slices.ContainsFunc(with, func(b string) bool { return strings.HasPrefix(text, b) })
	}
	if strings.Contains(clientID[:min(len(clientID), len("workload:"))], ":") { // no other has one
		for _, k := range known {
			if begins(clientID, k.ids) {
				return k.product
			}
		}
	}
	if strings.HasPrefix(clientID, "https://") { // its host vouches for it; its name does not
		return Other
	}
	for _, k := range known {
		if slices.ContainsFunc(redirectURIs, func(uri string) bool { return begins(uri, k.redirect) }) {
			return k.product
		}
	}
	name = strings.ToLower(name[:min(len(name), 64)])
	for _, k := range known {
		if begins(name, k.names) {
			return k.product
		}
	}
	return Other
}

// products are all that Product returns: those of the table above, and Other. They are written out,
// because what is made of the table is made at each start, and all that refers to it.
var products = []string{
	"machine", "key", "workload", "claude-code", "claude", "codex", "chatgpt", "cline", "vscode", "cursor", "opencode", "gemini-cli", "mcp-remote", "inspector", "raycast", Other,
}
