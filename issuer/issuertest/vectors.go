package issuertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Vector is a file that the plugin's tests read too: lines "name: value", and a text behind an
// empty line.
type Vector struct {
	File   string
	Header map[string]string
	Text   string
}

// Vectors reads the files of a pattern, of which there must be at least so many.
func Vectors(t testing.TB, pattern string, least int) (all []Vector) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) < least {
		t.Fatalf("%d vectors: %v", len(files), err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, text, _ := strings.Cut(strings.TrimSuffix(string(content), "\n"), "\n\n")
		v := Vector{filepath.Base(file), map[string]string{}, text}
		for line := range strings.Lines(head) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			v.Header[name] = value
		}
		all = append(all, v)
	}
	return all
}
