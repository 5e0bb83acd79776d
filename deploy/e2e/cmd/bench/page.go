package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/chart"
)

// writePage brings all that is published up to date with the results: the tables and pictures of
// docs/benchmarks.md, and each claim on the page that makes it.
func writePage(root string) error {
	files, err := published(root)
	for name, text := range files {
		if err == nil {
			err = os.WriteFile(filepath.Join(root, name), []byte(text), 0o644)
		}
	}
	return err
}

const benchmarksPage = "docs/benchmarks.md"

// published are the files that follow from the results and the claims, as they have to be.
func published(root string) (map[string]string, error) {
	r, err := readResults(resultsFile(root))
	if err != nil {
		return nil, err
	}
	p, err := readClaims(root)
	if err != nil {
		return nil, err
	}
	files, err := p.rewritten(root, r)
	if err != nil {
		return nil, err
	}
	page, has := files[benchmarksPage]
	if !has {
		text, err := os.ReadFile(filepath.Join(root, benchmarksPage))
		if err != nil {
			return nil, err
		}
		page = string(text)
	}
	if files[benchmarksPage], err = filled(page, r, p); err != nil {
		return nil, err
	}
	for name, draw := range pictures {
		files["docs/images/"+name] = draw(r)
	}
	return files, nil
}

var place = regexp.MustCompile(`(?s)<!-- figures: ([a-z]+) -->\n.*?<!-- end -->`)

// filled is the page with what belongs between its markers.
func filled(page string, r results, p claims) (string, error) {
	var failed error
	filled := place.ReplaceAllStringFunc(page, func(found string) string {
		name := place.FindStringSubmatch(found)[1]
		var text string
		switch name {
		case "run":
			text = r.told()
		case "budgets":
			text, failed = p.budgets(r)
		default:
			if text = table(r.group(name)); text == "" {
				text = notYet + "\n"
			}
		}
		return "<!-- figures: " + name + " -->\n" + text + "<!-- end -->"
	})
	for _, one := range r.Rows {
		group, _, _ := strings.Cut(one.Name, "/")
		if !strings.Contains(page, "<!-- figures: "+group+" -->") {
			return "", fmt.Errorf("%s has no place for %q: every row is published", benchmarksPage, one.Name)
		}
	}
	return filled, failed
}

// told says when and on what the figures were measured.
func (r results) told() string {
	m := r.Machine
	said := fmt.Sprintf("Measured on %s at revision %s: %d virtual processors (%s), %d GB, %s, %s, Traefik %s. %d rounds in %d minutes.",
		r.Made, r.Revision, m.Processors, m.Processor, m.MemoryGB, m.System, m.Go, m.Traefik, r.Rounds, (r.Seconds+59)/60)
	if r.Base != "" {
		said += fmt.Sprintf(" In parentheses: how many times that of revision %s, which was measured in turn with it.", r.Base)
	}
	return said + "\n"
}

func (r results) group(name string) (rows []row) {
	for _, one := range r.Rows {
		if strings.HasPrefix(one.Name, name+"/") {
			one.Name = strings.TrimPrefix(one.Name, name+"/")
			rows = append(rows, one)
		}
	}
	return rows
}

// table is one of Markdown, with a column for each unit that any of the rows has.
func table(rows []row) string {
	if len(rows) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("| |")
	var columns []string
	for _, u := range units {
		if slices.ContainsFunc(rows, func(r row) bool { _, has := r.Values[u.name]; return has }) {
			columns = append(columns, u.name)
			b.WriteString(" " + u.head + " |")
		}
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(columns)) + "\n")
	for _, r := range rows {
		b.WriteString("| " + r.Name + " |")
		for _, unit := range columns {
			v, has := r.Values[unit]
			if !has {
				b.WriteString(" |")
				continue
			}
			b.WriteString(" " + figure(v))
			if base := r.Base[unit]; base > 0 {
				fmt.Fprintf(&b, " (%.2f)", v/base)
			}
			b.WriteString(" |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// figure is a number as a page has it: three digits, and a comma for thousands.
func figure(v float64) string {
	switch size := math.Abs(v); {
	case size >= 1000:
		text := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
		for i := len(text) - 3; i > 0; i -= 3 {
			text = text[:i] + "," + text[i:]
		}
		return strings.Replace(text, "-,", "-", 1)
	case size >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case size >= 10:
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
	default:
		return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(v, 'f', 2, 64), "0"), ".")
	}
}

// pictures by file name, each of some rows.
var pictures = map[string]func(r results) string{
	"benchmarks-traefik.svg": func(r results) string {
		return bars("Processor time of a request, µs", "Traefik's process; on the right, in another colour: the server that forwardAuth asks", r.group("traefik"), "cpu_us", "helper_us")
	},
	"benchmarks-middlewares.svg": func(r results) string {
		return bars("Resident memory of Traefik, MB", "by how many middlewares it has", r.group("middlewares"), "rss_mb", "")
	},
	"benchmarks-sidecar.svg": func(r results) string {
		rows := slices.DeleteFunc(r.group("sidecar"), func(one row) bool { return one.Name == "login" })
		return bars("Processor time in the sidecar, µs", "a whole login takes several requests, and is in the table only", rows, "cpu_us", "")
	},
}

// bars draws one for each row, and behind it what a second process took.
func bars(title, below string, rows []row, unit, helper string) string {
	const width, label, step = 860, 250, 22
	rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { _, has := r.Values[unit]; return !has })
	most := 1.0
	said := make([]string, len(rows))
	for i, r := range rows {
		most = max(most, r.Values[unit]+r.Values[helper])
		said[i] = r.Name + " " + figure(r.Values[unit])
	}
	var b bytes.Buffer
	height := 60 + step*len(rows)
	chart.Begin(&b, width, height, title+": "+strings.ReplaceAll(strings.Join(said, "; "), `"`, ""))
	c := chart.Canvas{B: &b, X: 4, Y: 4, W: width - 8, H: height - 8}
	c.Box(title)
	c.Text(10, 36, "", below)
	long := func(v float64) int { return int(v / most * (width - label - 90)) }
	for i, r := range rows {
		y := 46 + step*i
		c.Text(label-8, y+13, "v e", r.Name)
		colour := 0
		if strings.Contains(r.Name, "bare") || strings.Contains(r.Name, "nothing") || strings.Contains(r.Name, "without") {
			colour = 7
		}
		if strings.Contains(r.Name, "forwardAuth") {
			colour = 2
		}
		first, second := long(r.Values[unit]), long(r.Values[helper])
		c.Bar(label, y+2, first, step-6, colour)
		text := figure(r.Values[unit])
		if second > 0 {
			c.Bar(label+first+1, y+2, second, step-6, 5)
			text += " + " + figure(r.Values[helper])
		}
		c.Text(label+first+second+8, y+13, "", text)
	}
	chart.End(&b)
	return b.String()
}
