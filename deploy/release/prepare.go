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

	"golang.org/x/mod/semver"
)

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
