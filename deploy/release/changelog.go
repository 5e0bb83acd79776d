package main

import (
	"errors"
	"fmt"
	"regexp"
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
