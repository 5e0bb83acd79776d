package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// part is what CHANGELOG.md says of one version.
type part struct {
	version string // "" of what is not released
	date    time.Time
	text    string
}

var (
	unreleased = "## Unreleased"
	heading    = regexp.MustCompile(`^## \[(v[^\]]+)\]\((\S+)\) - (\d{4}-\d\d-\d\d)$`)
)

// parts reads CHANGELOG.md: Unreleased first, then versions, the newest first, each with its day
// and a link to its release.
func parts(changelog string) ([]part, error) {
	var found []part
	for i, line := range strings.Split(changelog, "\n") {
		if !strings.HasPrefix(line, "## ") {
			if len(found) > 0 {
				found[len(found)-1].text += line + "\n"
			}
			continue
		}
		if line == unreleased {
			if len(found) > 0 {
				return nil, fmt.Errorf("CHANGELOG.md:%d: Unreleased stands first", i+1)
			}
			found = append(found, part{date: time.Unix(0, 0).UTC()})
			continue
		}
		m := heading.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("CHANGELOG.md:%d: a heading is %q or `## [vX.Y.Z](LINK) - YYYY-MM-DD`", i+1, unreleased)
		}
		date, err := time.Parse(time.DateOnly, m[3])
		if err != nil {
			return nil, fmt.Errorf("CHANGELOG.md:%d: %w", i+1, err)
		}
		p := part{version: m[1], date: date}
		switch {
		case !versionForm.MatchString(p.version):
			return nil, fmt.Errorf("CHANGELOG.md:%d: %s is not vX.Y.Z", i+1, p.version)
		case m[2] != releaseLink(p.version):
			return nil, fmt.Errorf("CHANGELOG.md:%d: the link of %s is %s", i+1, p.version, releaseLink(p.version))
		case len(found) == 0:
			return nil, fmt.Errorf("CHANGELOG.md:%d: Unreleased stands before %s", i+1, p.version)
		case found[len(found)-1].version != "" && semver.Compare(p.version, found[len(found)-1].version) >= 0:
			return nil, fmt.Errorf("CHANGELOG.md:%d: %s stands after %s, and is not older", i+1, p.version, found[len(found)-1].version)
		case found[len(found)-1].version != "" && date.After(found[len(found)-1].date):
			return nil, fmt.Errorf("CHANGELOG.md:%d: %s is older than the version before it, and of a later day", i+1, p.version)
		}
		found = append(found, p)
	}
	if len(found) == 0 {
		return nil, errors.New("CHANGELOG.md has no part Unreleased")
	}
	for i := range found {
		found[i].text = strings.TrimSpace(found[i].text)
	}
	return found, nil
}

func releaseLink(version string) string { return home + "/releases/tag/" + version }

// partOf is the part of a version, or, if there is none, what is not released.
func partOf(changelog, version string) (p part, listed bool, err error) {
	all, err := parts(changelog)
	if err != nil {
		return part{}, false, err
	}
	for _, p := range all {
		if p.version == version {
			return p, true, nil
		}
	}
	return all[0], false, nil
}

// relative are links to files of the repository: on the page of a release they would lead nowhere.
var relative = regexp.MustCompile(`\]\(([^):#][^):]*)\)`)

func withWholeLinks(text, version string) string {
	return relative.ReplaceAllString(text, "]("+home+"/blob/"+version+"/$1)")
}

// noRelease begins the lines that the first release removes.
const noRelease = "There is no release yet"

// prepare writes what is not released under the heading of a version, and takes out the lines that
// say that there is none.
func prepare(root, version, date string) error {
	if !versionForm.MatchString(version) {
		return fmt.Errorf("-version %q: write vX.Y.Z", version)
	}
	file := filepath.Join(root, "CHANGELOG.md")
	changelog, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	all, err := parts(string(changelog))
	if err != nil {
		return err
	}
	for _, p := range all[1:] {
		if semver.Compare(p.version, version) >= 0 {
			return fmt.Errorf("CHANGELOG.md has %s already", p.version)
		}
	}
	if all[0].version != "" || all[0].text == "" {
		return errors.New("CHANGELOG.md: nothing is listed as Unreleased")
	}
	text := strings.Replace(string(changelog), unreleased+"\n", fmt.Sprintf("%s\n\n## [%s](%s) - %s\n", unreleased, version, releaseLink(version), date), 1)
	if _, err := parts(text); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	if err := renameVersion(root, cmp.Or(newest(all), firstVersion), version); err != nil {
		return err
	}
	pages, err := pagesWithoutRelease(root)
	if err != nil {
		return err
	}
	for _, page := range pages {
		if err := removeNoRelease(filepath.Join(root, page)); err != nil {
			return err
		}
	}
	return nil
}

// firstVersion is what pages and examples name before there is a release.
const firstVersion = "v0.1.0"

func newest(all []part) string {
	if len(all) < 2 {
		return ""
	}
	return all[1].version
}

// ours are the lines that name our version: others' versions may be the same.
var ours = regexp.MustCompile(`mcpbouncer|# that of the sidecar|VERSION=|-version |git tag `)

// renameVersion names the new version where pages and examples name the old one, with and without
// its v. What tells of the past stays: CHANGELOG.md, decisions, and what tests are made of.
func renameVersion(root, old, new string) error {
	name := regexp.MustCompile(`\b(v?)` + regexp.QuoteMeta(strings.TrimPrefix(old, "v")) + `\b`)
	return eachFile(root, func(path, text string) error {
		folder := strings.SplitN(path, "/", 3)
		if path == "CHANGELOG.md" || slices.Contains(folder, "decisions") || slices.Contains(folder, "e2e") || slices.Contains(folder, "release") {
			return nil
		}
		lines := strings.Split(text, "\n")
		for i, line := range lines {
			if ours.MatchString(line) {
				lines[i] = name.ReplaceAllString(line, "${1}"+strings.TrimPrefix(new, "v"))
			}
		}
		if renamed := strings.Join(lines, "\n"); renamed != text {
			return os.WriteFile(filepath.Join(root, path), []byte(renamed), 0o644)
		}
		return nil
	})
}

// eachFile reads the pages and the files of configuration; paths are relative, with slashes.
func eachFile(root string, f func(path, text string) error) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "build" || d.Name() == "node_modules" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		switch filepath.Ext(path) {
		case ".md", ".yaml", ".yml", ".tf", ".tpl":
		default:
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return f(filepath.ToSlash(name), string(text))
	})
}

// pagesWithoutRelease are the pages that have a line which begins with noRelease.
func pagesWithoutRelease(root string) (pages []string, err error) {
	err = eachFile(root, func(path, text string) error {
		if strings.HasSuffix(path, ".md") && strings.Contains("\n"+text, "\n"+noRelease) {
			pages = append(pages, path)
		}
		return nil
	})
	return pages, err
}

// removeNoRelease takes the lines out, each with the empty line after it.
func removeNoRelease(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var kept []string
	removed := false
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, noRelease) {
			removed = true
			continue
		}
		if !(removed && line == "") {
			kept = append(kept, line)
		}
		removed = false
	}
	return os.WriteFile(file, []byte(strings.Join(kept, "\n")), 0o644)
}
