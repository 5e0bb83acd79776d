// Package connect reads what the pages of docs/connect have people type: the demo prints it, and
// tests run it.
package connect

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// URL is the MCP URL of the pages.
const URL = "https://mcp.example.com/wiki/mcp"

// Page returns the text of a page, such as codex.md.
func Page(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "connect", name))
	return string(text), err
}

var (
	shell = regexp.MustCompile("(?s)\n```sh\n(.*?)\n```")
	json  = regexp.MustCompile("(?s)\n```json\n(.*?)\n```")
)

// Shell returns the blocks of commands of a page's text, each with its lines.
func Shell(page string) (blocks [][]string) {
	for _, block := range shell.FindAllStringSubmatch(page, -1) {
		blocks = append(blocks, strings.Split(block[1], "\n"))
	}
	return blocks
}

// JSON returns the configurations that a page's text shows.
func JSON(page string) (blocks []string) {
	for _, block := range json.FindAllStringSubmatch(page, -1) {
		blocks = append(blocks, block[1])
	}
	return blocks
}
