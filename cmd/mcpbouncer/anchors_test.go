package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	linkWithAnchor = regexp.MustCompile(`\]\(([^)\s#:]*)#([^)\s]+)\)`)
	headingLine    = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// anchorOf returns the anchor of a heading in GitHub's spelling.
func anchorOf(heading string) string {
	heading = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(heading, "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}

// A link to a heading that has been renamed leads to the top of a long page.
func TestLinksLeadToHeadings(t *testing.T) {
	for heading, want := range map[string]string{
		"404, 421 or 400": "404-421-or-400", "The deny document: `BOUNCER_DENY`": "the-deny-document-bouncer_deny", "`exchange`": "exchange",
	} {
		if got := anchorOf(heading); got != want {
			t.Errorf("%s is %s, want %s", heading, got, want)
		}
	}
	_, pages := testsAndPages(t)
	anchors := map[string]map[string]bool{}
	for path, text := range pages {
		anchors[path] = map[string]bool{}
		for _, m := range headingLine.FindAllStringSubmatch(fencedCode.ReplaceAllString(text, ""), -1) {
			anchors[path][anchorOf(m[1])] = true
		}
	}
	links := 0
	for path, text := range pages {
		for _, m := range linkWithAnchor.FindAllStringSubmatch(fencedCode.ReplaceAllString(text, ""), -1) {
			target := path
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(path), filepath.FromSlash(m[1]))
			}
			if of, isPage := anchors[target]; isPage {
				links++
				if !of[m[2]] {
					t.Errorf("%s links to %s, which has no heading #%s", path, target, m[2])
				}
			}
		}
	}
	if links < 50 {
		t.Errorf("%d links were looked at", links)
	}
}
