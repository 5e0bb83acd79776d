package sealing_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A promise must not name a test that was renamed.
func TestSealedValuesPageNamesTestsThatExist(t *testing.T) {
	page, err := os.ReadFile("../docs/sealed-values.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	payloads, err := filepath.Glob("../issuer/payload*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, payloads...)
	var code strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	names := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(string(page), -1)
	if len(names) == 0 {
		t.Fatal("the page names no tests")
	}
	for _, name := range names {
		if !strings.Contains(code.String(), "\nfunc "+name[1]+"(") {
			t.Errorf("%s does not exist", name[1])
		}
	}
}
