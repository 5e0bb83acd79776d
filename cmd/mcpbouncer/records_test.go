package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// docs/decisions/README.md lists each record under its title, and the numbers that have none.
func TestDecisionsAreListed(t *testing.T) {
	dir := filepath.Join(root, "docs", "decisions")
	index, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	records, err := filepath.Glob(filepath.Join(dir, "[0-9]*.md"))
	if err != nil || len(records) == 0 {
		t.Fatalf("%d records: %v", len(records), err)
	}
	seen, last := map[int]bool{}, 0
	for _, path := range records {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		n, err := strconv.Atoi(name[:4])
		if err != nil || seen[n] {
			t.Errorf("%s: the number is not one, or another record has it", name)
		}
		seen[n], last = true, max(last, n)
		title, _, _ := strings.Cut(string(text), "\n")
		title, numbered := strings.CutPrefix(title, fmt.Sprintf("# %d. ", n))
		if row := fmt.Sprintf("\n| [%d](%s) | %s |\n", n, name, title); !numbered || strings.Count(string(index), row) != 1 {
			t.Errorf("the index does not have %q", row)
		}
	}
	if rows := strings.Count(string(index), "\n| ["); rows != len(records) {
		t.Errorf("the index has %d rows for %d records", rows, len(records))
	}
	line := regexp.MustCompile(`(?m)^The numbers (.*) were never given`).FindStringSubmatch(string(index))
	if line == nil {
		t.Fatal("no line says which numbers were never given")
	}
	for _, number := range regexp.MustCompile(`\d+`).FindAllString(line[1], -1) {
		n, _ := strconv.Atoi(number)
		if seen[n] {
			t.Errorf("number %d has a record, or is named twice", n)
		}
		seen[n] = true
	}
	for n := 1; n <= last; n++ {
		if !seen[n] {
			t.Errorf("the index says nothing of number %d", n)
		}
	}
}

// A comment that sends its reader to a page that does not exist, or to a document that is not in
// this repository, explains nothing.
func TestCodeCitesPagesThatExist(t *testing.T) {
	cited := 0
	page := regexp.MustCompile(`\b(docs/[A-Za-z0-9/_-]+\.md)\b`)
	decision := regexp.MustCompile(`\bdecision (\d+)\b`)
	elsewhere := regexp.MustCompile(`// .*\((design|spec|style|plan|brief|notes?): `)
	walkSources(t, func(path string, text []byte) {
		for _, m := range page.FindAllSubmatch(text, -1) {
			cited++
			if _, err := os.Stat(filepath.Join(root, string(m[1]))); err != nil {
				t.Errorf("%s cites %s", path, m[1])
			}
		}
		for _, m := range decision.FindAllSubmatch(text, -1) {
			n, _ := strconv.Atoi(string(m[1]))
			if found, _ := filepath.Glob(filepath.Join(root, "docs", "decisions", fmt.Sprintf("%04d-*.md", n))); len(found) != 1 {
				t.Errorf("%s cites decision %d", path, n)
			}
		}
		if m := elsewhere.Find(text); m != nil {
			t.Errorf("%s cites a document that is not here: %s", path, m)
		}
	})
	if cited < 50 {
		t.Errorf("%d pages are cited", cited)
	}
}

// docs/promises.md proves a promise by a test's name, so one name is one test. It begins with its
// subject, so that -run finds all tests of one.
func TestNamesOfTestsAreUnique(t *testing.T) {
	seen := map[string]string{}
	noSubject := regexp.MustCompile(`^Test(A|An|The|What|Who|Where|How|No|Nobody|Nothing|Every|Each)[A-Z][a-z]`)
	walkSources(t, func(path string, text []byte) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, m := range declared.FindAllSubmatch(text, -1) {
			name := string(m[1])
			if other := seen[name]; other != "" && name != "TestMain" {
				t.Errorf("%s and %s declare %s", other, path, name)
			}
			if noSubject.MatchString(name) {
				t.Errorf("%s: %s does not begin with its subject", path, name)
			}
			seen[name] = path
		}
	})
	if len(seen) < 500 {
		t.Errorf("%d tests", len(seen))
	}
}
