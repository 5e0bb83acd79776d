package lint

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

var blockOfPage = regexp.MustCompile("(?ms)^ *```ya?ml\n(.*?)^ *```")

// Each block of labels, of Compose and of Traefik that the project shows, by itself.
func TestLintFindsNothingWrongInThePages(t *testing.T) {
	whole := strings.NewReplacer("mbs1_…", "mbs1_x", "xmlns=…", "xmlns=x") // what a page shortens
	read := 0
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "deploy/*/*.md"} {
		files, err := filepath.Glob("../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, block := range blockOfPage.FindAllStringSubmatch(string(text), -1) {
				r := lintText(t, whole.Replace(block[1]))
				switch {
				case strings.Contains(block[1], "…backendAuthorization"):
					continue // names without their beginning
				case strings.Contains(r.Unable, "this is neither"), strings.Contains(r.Unable, "Kubernetes"):
					continue // of another program
				case strings.Contains(block[1], "forwardAuth:") && !strings.Contains(block[1], "mcpbouncer:"):
					continue // docs/forward-auth.md: lint reads labels of the plugin
				case strings.Contains(block[1], "apiVersion:") && !strings.Contains(block[1], "mcpbouncer:"):
					continue // a manifest without a middleware of ours
				case r.Status() != report.StatusGood:
					t.Errorf("%s: %s %q\n%s", file, r.Unable, lines(r), block[1])
				}
				read++
			}
		}
	}
	if read < 12 {
		t.Errorf("%d blocks were read", read)
	}
}

// The first version had these labels, one rule for the path, and no publicURL. They go on.
func TestLintFindsNothingWrongInTheLabelsOfTheFirstVersion(t *testing.T) {
	r := lintText(t, `services:
  traefik:
    image: traefik:v3.7.13
    environment: [BOUNCER_HOP_KEY]
  bouncer:
    image: mcpbouncer
    environment: [BOUNCER_ENCRYPTION_KEY]
  wiki:
    image: wiki
    labels:
      - "traefik.enable=true"
      - "traefik.http.routers.wiki.rule=Host(`+"`mcp.localhost`) && PathPrefix(`/wiki`)"+`"
      - "traefik.http.routers.wiki.middlewares=mcpb-wiki@docker"
      - "traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.providerIssuer=https://id.example.com"
      - "traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.clientID=mcp"
      - "traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.clientSecret=${CLIENT_SECRET}"
      - "traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.resource=wiki"
      - "traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.scopes=openid email"
      - "traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.sidecarURL=http://bouncer:8080"
      - "traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.audience=wiki"
      - "traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.jwksCacheTTLSeconds=300"
      - "traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.requiredScopes=openid"
`)
	if r.Status() != report.StatusGood {
		t.Errorf("%s %q", r.Unable, lines(r))
	}
}
