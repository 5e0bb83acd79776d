package names

import (
	"strings"
	"testing"
	"testing/quick"
)

// A plain name goes past what makes names harmless, so that must not change it.
func TestNamesThatArePlainAreHarmless(t *testing.T) {
	check := func(name string) bool {
		if plain(name) && harmless(name) != name {
			t.Errorf("%q would be %q", name, harmless(name))
		}
		return !t.Failed()
	}
	for c := range 256 {
		for _, name := range []string{"%", "a%", "%a", "a%b", "a%%b"} {
			check(strings.ReplaceAll(name, "%", string([]byte{byte(c)})))
		}
	}
	check("")
	check(strings.Repeat("a", maxName+1))
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"Claude Code (wiki)", "Load", strings.Repeat("a", maxName)} {
		if !plain(name) {
			t.Errorf("%q is not plain", name)
		}
	}
}
