package main

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// These pictures of docs/images are drawn, not photographed. To change what they show, change it
// here and write the files with -update.
func TestDiagramsAreCurrent(t *testing.T) {
	for name, want := range map[string]string{"login.svg": drawLogin(), "parts.svg": drawParts()} {
		file := filepath.Join(root, "docs", "images", name)
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("docs/images/%s is stale: go test ./cmd/mcpbouncer -run TestDiagramsAreCurrent -update (%v)", name, err)
		}
	}
}

// The numbers in the picture of a login are those of docs/flow.md.
func TestDiagramOfALoginCountsAsThePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "flow.md"))
	if err != nil {
		t.Fatal(err)
	}
	steps := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(string(page), -1) {
		steps[m[1]] = true
	}
	drawn := 0
	for _, line := range login {
		for step := range strings.FieldsSeq(line.step) {
			drawn++
			if !steps[step] {
				t.Errorf("docs/flow.md has no step %s: %s", step, line.text)
			}
		}
	}
	if drawn < 10 {
		t.Errorf("the picture names %d steps", drawn)
	}
}

// The columns of the picture of a login.
const (
	atProvider = iota
	atBrowser
	atClient
	atTraefik
	atSidecar
	atServer
	columns
)

var columnNames = [columns][2]string{
	{"your OpenID", "provider"}, {"the person’s", "browser"}, {"MCP client", ""},
	{"Traefik", "with the plugin"}, {"sidecar", ""}, {"MCP server", "unmodified"},
}

// loginLine is a message, or a heading where from and to are the same column and step is empty.
type loginLine struct {
	step     string // of docs/flow.md
	from, to int
	text     string
}

// login is docs/flow.md with exchange=token.
var login = []loginLine{
	{"", 0, 0, "The client finds the way"},
	{"1", atClient, atTraefik, "POST /wiki/mcp, no token"},
	{"", atTraefik, atClient, "401: the metadata is there"},
	{"2 3", atClient, atSidecar, "who grants tokens here?"},
	{"4", atClient, atSidecar, "register"},
	{"", atSidecar, atClient, "client_id: the registration, sealed"},
	{"", 0, 0, "The person allows it, and signs in"},
	{"5", atClient, atBrowser, "open the login"},
	{"", atBrowser, atSidecar, "authorization request, with PKCE"},
	{"", atSidecar, atBrowser, "consent page: who asks, for what"},
	{"6", atBrowser, atSidecar, "Allow"},
	{"", atBrowser, atProvider, "sign in"},
	{"7", atProvider, atBrowser, "the provider’s code"},
	{"", atBrowser, atSidecar, "callback"},
	{"", atSidecar, atBrowser, "our code, with the provider’s sealed inside"},
	{"", atBrowser, atClient, "our code"},
	{"", 0, 0, "The client gets its tokens"},
	{"8", atClient, atSidecar, "our code, PKCE verifier"},
	{"9", atSidecar, atProvider, "the provider’s code"},
	{"10", atProvider, atSidecar, "id_token: who it is. The rules are judged"},
	{"11 12", atSidecar, atClient, "access token, signed; refresh token, sealed"},
	{"", 0, 0, "Every call from now on"},
	{"14", atClient, atTraefik, "POST /wiki/mcp, Bearer …"},
	{"17", atTraefik, atServer, "X-Mcp-Sub, X-Mcp-Scopes; no token"},
}

// diagramStyle has both schemes in one file. The ground is drawn, so that the picture can be read
// where the page around it has the other scheme.
const diagramStyle = `<style>
svg { --ground: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #8c959f; --box: #f6f8fa; --ours: #ddf4ff; --edge: #0969da; }
@media (prefers-color-scheme: dark) {
  svg { --ground: #0d1117; --ink: #e6edf3; --soft: #9198a1; --line: #656c76; --box: #161b22; --ours: #10243e; --edge: #4493f8; }
}
.ground { fill: var(--ground); }
text { font: 14px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--ink); text-anchor: middle; }
.on { paint-order: stroke; stroke: var(--ground); stroke-width: 6px; stroke-linejoin: round; }
.soft { fill: var(--soft); font-size: 13px; }
.head { font-weight: 600; text-anchor: start; }
.box { fill: var(--box); stroke: var(--line); }
.ours { fill: var(--ours); stroke: var(--edge); }
.life { stroke: var(--line); stroke-dasharray: 3 5; }
.arrow { stroke: var(--ink); stroke-width: 1.4; fill: none; }
.tip, .via { fill: var(--ink); }
.step { fill: var(--edge); font-size: 13px; font-weight: 600; text-anchor: start; }
.beside { text-anchor: start; }
</style>
`

func svg(width, height int, title, body string) string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">
<title>%s</title>
%s<rect class="ground" width="%d" height="%d"/>
%s</svg>
`, width, height, width, height, html.EscapeString(title), html.EscapeString(title), diagramStyle, width, height, body)
}

func svgText(class string, x, y int, text string) string {
	return fmt.Sprintf("<text class=%q x=\"%d\" y=\"%d\">%s</text>\n", class, x, y, html.EscapeString(text))
}

func svgBox(class string, x, y, width, height int) string {
	return fmt.Sprintf("<rect class=%q x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n", class, x, y, width, height)
}

// svgArrow draws a horizontal or vertical arrow.
func svgArrow(x1, y1, x2, y2 int) string {
	sign := func(d int) int { return min(max(d, -1), 1) }
	dx, dy := sign(x2-x1), sign(y2-y1)
	return fmt.Sprintf("<path class=\"arrow\" d=\"M%d %dL%d %d\"/><path class=\"tip\" d=\"M%d %dl%d %dl%d %dz\"/>\n",
		x1, y1, x2-6*dx, y2-6*dy, x2, y2, -9*dx-4*dy, -9*dy-4*dx, 8*dy, 8*dx)
}

func drawLogin() string {
	const left, step, head, row, headRow = 106, 172, 62, 40, 46
	x := func(column int) int { return left + column*step }
	var b strings.Builder
	y := head + 12
	for _, line := range login {
		if line.from == line.to {
			y += headRow
		} else {
			y += row
		}
	}
	height := y + 46
	for c := range columns {
		fmt.Fprintf(&b, "<path class=\"life\" d=\"M%d %dV%d\"/>\n", x(c), head, height-34)
		class := "box"
		if c == atTraefik || c == atSidecar {
			class = "ours"
		}
		b.WriteString(svgBox(class, x(c)-70, 10, 140, head-10))
		name := columnNames[c]
		if name[1] == "" {
			b.WriteString(svgText("", x(c), 41, name[0]))
		} else {
			b.WriteString(svgText("", x(c), 33, name[0]) + svgText("", x(c), 52, name[1]))
		}
	}
	y = head + 12
	for _, line := range login {
		if line.from == line.to {
			y += headRow
			b.WriteString(svgText("head on", 12, y-6, line.text))
			continue
		}
		y += row
		if line.step != "" {
			b.WriteString(svgText("step", 12, y+4, strings.ReplaceAll(line.step, " ", "–")))
		}
		from, to := x(line.from), x(line.to)
		b.WriteString(svgText("on", (from+to)/2, y-8, line.text))
		b.WriteString(svgArrow(from, y, to, y))
		// What passes the plugin on its way to the sidecar.
		if min(line.from, line.to) > atProvider && min(line.from, line.to) < atTraefik && max(line.from, line.to) > atTraefik {
			fmt.Fprintf(&b, "<circle class=\"via\" cx=\"%d\" cy=\"%d\" r=\"4\"/>\n", x(atTraefik), y)
		}
	}
	fmt.Fprintf(&b, "<circle class=\"via\" cx=\"17\" cy=\"%d\" r=\"4\"/>\n", height-16)
	b.WriteString(svgText("soft beside", 28, height-11, "passes through the plugin"))
	return svg(x(atServer)+90, height, "One login, from the first call to the first answer", b.String())
}

func drawParts() string {
	var b strings.Builder
	box := func(class string, x, y, width int, lines ...string) {
		height := 24 + 19*len(lines)
		b.WriteString(svgBox(class, x, y, width, height))
		for i, line := range lines {
			kind := ""
			if i > 0 {
				kind = "soft"
			}
			b.WriteString(svgText(kind, x+width/2, y+27+19*i, line))
		}
	}
	box("box", 10, 30, 220, "MCP client", "Claude, Codex, VS Code …")
	box("ours", 330, 30, 240, "Traefik with the plugin", "checks each access token,", "and which tool it may call")
	box("box", 760, 30, 170, "MCP server", "unmodified")
	box("ours", 330, 220, 240, "sidecar", "consent page, tokens", "a container or AWS Lambda")
	box("box", 760, 220, 170, "your OpenID provider", "logs people in")
	box("box", 10, 220, 220, "optional: Redis, DynamoDB", "remembers what was used")
	b.WriteString(svgText("soft", 280, 52, "HTTPS"))
	b.WriteString(svgArrow(230, 60, 330, 60))
	b.WriteString(svgText("soft", 665, 52, "X-Mcp-Sub, X-Mcp-Scopes"))
	b.WriteString(svgArrow(570, 60, 760, 60))
	b.WriteString(svgArrow(450, 111, 450, 220))
	b.WriteString(svgText("soft beside", 462, 160, "OAuth requests,"))
	b.WriteString(svgText("soft beside", 462, 179, "with the labels, encrypted"))
	b.WriteString(svgText("soft", 665, 246, "OpenID Connect"))
	b.WriteString(svgArrow(570, 254, 760, 254))
	b.WriteString(svgArrow(330, 254, 230, 254))
	return svg(940, 320, "The parts: client, Traefik with the plugin, sidecar, MCP server, provider", b.String())
}
