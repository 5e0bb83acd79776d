package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// pagePart is the part of a page of docs that a test writes: what stands between two comments.
type pagePart struct{ file, begin, end string }

// writing is held while a page is read and written: tests that run in parallel have parts of one.
var writing sync.Mutex

// partOf returns the part that this test writes, of a page that has one for each test.
func partOf(t *testing.T, page string) pagePart {
	return pagePart{
		filepath.Join(rig.Root(), "docs", page),
		"<!-- begin of what " + t.Name() + " writes -->\n", "<!-- end of what " + t.Name() + " writes -->\n",
	}
}

// cut returns what stands before, in and after the part. The comments are in none of them.
func (p pagePart) cut(t *testing.T) (before, text, after string) {
	t.Helper()
	b, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(b), p.begin)
	text, after, ends := strings.Cut(rest, p.end)
	if !begins || !ends {
		t.Fatalf("%s has no lines %q and %q", p.file, p.begin, p.end)
	}
	return before, text, after
}

func (p pagePart) read(t *testing.T) string {
	t.Helper()
	_, text, _ := p.cut(t)
	return text
}

func (p pagePart) write(t *testing.T, text string) {
	t.Helper()
	writing.Lock()
	defer writing.Unlock()
	before, _, after := p.cut(t)
	if err := os.WriteFile(p.file, []byte(before+p.begin+text+p.end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
