package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// The access log of deploy/compose says who called which tool, with the label auditCalls. It holds
// no argument, and of a login neither code nor path. The headers of W3C Trace Context reach the MCP
// server as the client sent them, while Traefik itself traces nothing.
func TestAccessLogSaysWhoCalledWhichTool(t *testing.T) {
	t.Parallel()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	log := filepath.Join(t.TempDir(), "access.log")
	access := composeStatic(t)["accessLog"].(map[string]any)
	access["filePath"] = log
	server := startToolServer(t, true)
	w := rig.New(t, rig.Options{
		Labels:  map[string]string{"auditCalls": "true", "toolScopes": "delete_page=wiki:write"},
		Servers: map[string]string{"wiki": server.port},
		Static:  map[string]any{"accessLog": access},
	})
	c := w.Wiki.Client()
	token := c.Tokens(w.Wiki.Browser()).Member("access_token")
	send := func(body string, headers ...string) int {
		h := messageHeader(token)
		for i := 0; i+1 < len(headers); i += 2 {
			h[headers[i]] = []string{headers[i+1]}
		}
		return c.Do(http.MethodPost, c.Public+"/mcp", h, []byte(body)).Status
	}
	const secret = "argument-that-nobody-may-read"
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"text":"` + secret + `"},"_meta":{"traceparent":"` + parent + `"}}}`
	if status := send(body, "X-Mcp-Call", "tools/call forged", "Traceparent", parent, "Tracestate", "a=1"); status != 200 {
		t.Errorf("search: %d", status)
	}
	if header, got := server.seen(); got != body || header.Get("Traceparent") != parent || header.Get("Tracestate") != "a=1" || header.Get("X-Mcp-Call") != "tools/call search" {
		t.Errorf("the MCP server got %v %s", header, got)
	}
	for body, want := range map[string]int{toolCall("delete_page"): 403, "x" + secret: 400} {
		if status := send(body); status != want {
			t.Errorf("%s: %d", body, status)
		}
	}
	var lines []map[string]any
	rig.WaitFor(t, "the lines of the access log", func() error {
		f, err := os.Open(log)
		if err != nil {
			return err
		}
		defer f.Close()
		lines = nil
		for s := bufio.NewScanner(f); s.Scan(); {
			var line map[string]any
			if err := json.Unmarshal(s.Bytes(), &line); err != nil {
				return err
			}
			if line["request_X-Mcp-Call"] != nil {
				lines = append(lines, line)
			}
		}
		if len(lines) < 3 {
			return fmt.Errorf("%d lines", len(lines))
		}
		return nil
	})
	got := map[string]float64{}
	for _, line := range lines {
		if sub, _ := line["request_X-Mcp-Sub"].(string); sub == "" {
			t.Errorf("nobody has called: %v", line)
		}
		got[line["request_X-Mcp-Call"].(string)] = line["DownstreamStatus"].(float64)
	}
	for call, status := range map[string]float64{"tools/call search": 200, "tools/call delete_page": 403, "unreadable": 400} {
		if got[call] != status {
			t.Errorf("%s: %v", call, got)
		}
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, never := range []string{secret, "forged", "code=", "/oauth/callback", token} {
		if strings.Contains(string(text), never) {
			t.Errorf("the access log holds %q", never)
		}
	}
}
