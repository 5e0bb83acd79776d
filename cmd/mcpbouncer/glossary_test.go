package main

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/glossary.md has one word for each thing. These are other words for them, and what to write
// instead. Each holds one of its stems: few lines have one, and only those meet the expressions,
// which would take half a minute under the race detector for all that is written here.
var otherWords = []struct {
	stems   string
	word    *regexp.Regexp
	instead string
}{
	{"famil", regexp.MustCompile(`(?i)\bfamil(y|ies)\b`), "login"},
	{"session", regexp.MustCompile(`(?i)\bsessions?\b`), "login; of a login with refresh=session, a login without checks"},
	{"idp", regexp.MustCompile(`\bIdPs?\b`), "provider"},
	{"deny list|denylist|blacklist|blocklist", regexp.MustCompile(`\b([Dd]eny lists?|denylists?|[Bb]lacklists?|[Bb]locklists?)\b`), "deny document"},
	{"master key", regexp.MustCompile(`(?i)\bmaster keys?\b`), "master secret"},
	{"hop secret", regexp.MustCompile(`(?i)\bhop secrets?\b`), "hop key"},
	{"api key|machine key", regexp.MustCompile(`(?i)\b(api|machine) keys?\b`), "bearer key"},
	{"sealed token", regexp.MustCompile(`(?i)\bsealed tokens?\b`), "sealed value"},
}

// theirSessions are those of others: of MCP before 2026-07-28, and of people at their provider.
var theirSessions = regexp.MustCompile(`(?i)MCP sessions?|sessions? of MCP[^|.;]*|with(out)? sessions|session ids?|` +
	`(offline|login|consent) sessions?|sessions? at the provider|(with|have) a session there|end its sessions( and grants)? there|` +
	`person's sessions?|their sessions?|sessions? of the person|(all )?sessions? deleted|"revoke sessions"|session explorer|` +
	`At Kanidm a session|need sessions|Session Hijacking|session \(nothing of the provider|else session\)`)

var (
	fencedCode = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	inlineCode = regexp.MustCompile("(?s)``.+?``|`[^`]+`")
	linkTarget = regexp.MustCompile(`\]\([^)]*\)`)
)

// proseOf is a page without its code and the targets of its links; lines keep their numbers.
func proseOf(page string) string {
	blank := func(code string) string { return strings.Repeat("\n", strings.Count(code, "\n")) + " " }
	page = fencedCode.ReplaceAllStringFunc(page, blank)
	page = inlineCode.ReplaceAllStringFunc(page, blank)
	return linkTarget.ReplaceAllString(page, "]")
}

func wordsThatAreNotUsed(prose string) (found []string) {
	lower := strings.ToLower(prose)
	for _, other := range otherWords {
		if !slices.ContainsFunc(strings.Split(other.stems, "|"), func(stem string) bool { return strings.Contains(lower, stem) }) {
			continue
		}
		if word := other.word.FindString(theirSessions.ReplaceAllString(prose, "")); word != "" {
			found = append(found, word+": write "+other.instead)
		}
	}
	return found
}

// One thing has one name on all pages. What is quoted as code may be called otherwise: the names
// of log fields, labels and members are older, and docs/glossary.md says what they mean.
func TestGlossaryIsKept(t *testing.T) {
	for prose, want := range map[string]int{
		"The family ends.": 1, "A login is a session.": 1, "All families and all sessions": 2,
		"`family` in the log": 0, "An MCP session": 0, "```\nfamily\n```": 0, "[the list](session.md)": 0,
		"The IdP's deny list, a Master key, hop secrets, an API key and sealed tokens.": 6, "A denylist.": 1, "Blacklists.": 1, "A Blocklist.": 1, "Machine keys.": 1,
	} {
		if got := wordsThatAreNotUsed(proseOf(prose)); len(got) != want {
			t.Errorf("%q: %q", prose, got)
		}
	}
	_, pages := testsAndPages(t)
	for path, text := range pages {
		if rel, _ := filepath.Rel(root, path); rel == "docs/glossary.md" || strings.HasPrefix(rel, "findings/") {
			continue
		}
		for i, line := range strings.Split(proseOf(text), "\n") {
			for _, found := range wordsThatAreNotUsed(line) {
				t.Errorf("%s:%d says %s", path, i+1, found)
			}
		}
	}
}

// The code keeps the glossary too: in comments, where words in quotes are those of logs and labels,
// and in the names that code gives a login.
func TestGlossaryIsKeptInCode(t *testing.T) {
	quoted := regexp.MustCompile(`"[^"]*"`)
	comments := 0
	for path, file := range productionFiles(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && strings.Contains(strings.ToLower(id.Name), "famil") {
				t.Errorf("%s has the name %s: code says login", path, id.Name)
			}
			return true
		})
		for _, group := range file.Comments {
			comments++
			for _, found := range wordsThatAreNotUsed(quoted.ReplaceAllString(proseOf(group.Text()), "")) {
				t.Errorf("%s: a comment says %s:\n%s", path, found, group.Text())
			}
		}
	}
	if comments < 1000 {
		t.Errorf("only %d comments were found", comments)
	}
}

// The glossary names each of its words once.
func TestGlossaryDefinesEachWordOnce(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "glossary.md"))
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, row := range regexp.MustCompile(`(?m)^\| \*\*([^*]+)\*\* \| [A-Z].*\. \| .* \|$`).FindAllSubmatch(page, -1) {
		words = append(words, string(row[1]))
	}
	slices.Sort(words)
	if len(words) < 20 || len(slices.Compact(slices.Clone(words))) != len(words) {
		t.Errorf("it defines %q", words)
	}
}
