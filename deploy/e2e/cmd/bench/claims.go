package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// claims are docs/claims.json: what is published about speed, and what is aimed at.
type claims struct {
	// Counted are rows whose allocations are counted again by the tests: results of other code are
	// stale, however young they are.
	Counted []string `json:"counted"`
	Claims  []claim  `json:"claims"`
	Budgets []budget `json:"budgets"`
}

// claim is a sentence of a page with a figure in it.
type claim struct {
	Page string `json:"page"`
	// Text is the sentence, with {} where the figure stands.
	Text string `json:"text"`
	// Figure as it is written.
	Figure string `json:"figure"`
	// Step is what the figure is rounded to: 10 for "about 70".
	Step float64 `json:"step"`
	measure
}

// budget is what a row may take at most, or has to bring at least.
type budget struct {
	What string `json:"what"`
	measure
	AtMost  float64 `json:"at_most,omitempty"`
	AtLeast float64 `json:"at_least,omitempty"`
}

// measure says how a number follows from the results: row, plus and minus others, over another one.
// All are in the same unit, unless a row says another one after a colon.
type measure struct {
	Row  string `json:"row"`
	Unit string `json:"unit"`
	Plus string `json:"plus,omitempty"`
	// Minus is a floor that is no merit of ours, and no fault.
	Minus string `json:"minus,omitempty"`
	Over  string `json:"over,omitempty"`
	// OverMinus is the floor of Over.
	OverMinus string `json:"over_minus,omitempty"`
	// OfBase asks for how many times that of the base it is.
	OfBase bool `json:"of_base,omitempty"`
}

var errNoBase = errors.New("the results have no base for it")

func (m measure) value(r results) (float64, error) {
	v, err := m.of(r)
	if err != nil || !m.OfBase {
		return v, err
	}
	if r.Base == "" {
		return 0, errNoBase
	}
	old := results{}
	for _, one := range r.Rows {
		old.Rows = append(old.Rows, row{Name: one.Name, Values: one.Base})
	}
	before, err := m.of(old)
	if err != nil {
		return 0, fmt.Errorf("%w: revision %s: %w", errNoBase, r.Base, err)
	}
	return v / before, nil
}

func (m measure) of(r results) (float64, error) {
	find := func(name string) (float64, error) {
		name, unit, other := strings.Cut(name, ":")
		if !other {
			unit = m.Unit
		}
		return r.value(name, unit)
	}
	v, err := find(m.Row)
	for name, join := range map[string]func(a, b float64) float64{
		m.Plus:  func(a, b float64) float64 { return a + b },
		m.Minus: func(a, b float64) float64 { return a - b },
	} {
		if name != "" && err == nil {
			var other float64
			other, err = find(name)
			v = join(v, other)
		}
	}
	if m.Over != "" && err == nil {
		var other float64
		other, err = find(m.Over)
		if m.OverMinus != "" && err == nil {
			var floor float64
			floor, err = find(m.OverMinus)
			other -= floor
		}
		v /= other
	}
	return v, err
}

func readClaims(root string) (p claims, err error) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "claims.json"))
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	return p, err
}

// written is the value as the claim writes it.
func (c claim) written(r results) (string, error) {
	v, err := c.value(r)
	if err != nil {
		return "", fmt.Errorf("%s, %q: %w", c.Page, c.Text, err)
	}
	if c.Step <= 0 || !strings.Contains(c.Text, "{}") {
		return "", fmt.Errorf("%s, %q: there is no step, or no {}", c.Page, c.Text)
	}
	v = math.Round(v/c.Step) * c.Step
	digits := max(0, int(math.Ceil(-math.Log10(c.Step))))
	if v >= 1000 && digits == 0 {
		return figure(v), nil
	}
	return strconv.FormatFloat(v, 'f', digits, 64), nil
}

// sentence is the text with a figure.
func (c claim) sentence(figure string) string { return strings.ReplaceAll(c.Text, "{}", figure) }

// rewritten are docs/claims.json and the pages with the figures of the results.
func (p claims) rewritten(root string, r results) (map[string]string, error) {
	files := map[string]string{}
	for i, c := range p.Claims {
		if _, read := files[c.Page]; !read {
			text, err := os.ReadFile(filepath.Join(root, c.Page))
			if err != nil {
				return nil, err
			}
			files[c.Page] = string(text)
		}
		now, err := c.written(r)
		if err != nil {
			return nil, err
		}
		if n := strings.Count(files[c.Page], c.sentence(c.Figure)); n != 1 {
			return nil, fmt.Errorf("%s says %d times %q", c.Page, n, c.sentence(c.Figure))
		}
		files[c.Page] = strings.Replace(files[c.Page], c.sentence(c.Figure), c.sentence(now), 1)
		p.Claims[i].Figure = now
	}
	text, err := p.text()
	files["docs/claims.json"] = text
	return files, err
}

// text writes one claim a line.
func (p claims) text() (string, error) {
	var b strings.Builder
	list := func(name string, n int, item func(i int) any, end string) error {
		fmt.Fprintf(&b, "  %q: [", name)
		for i := range n {
			if i > 0 {
				b.WriteString(",")
			}
			var line strings.Builder
			e := json.NewEncoder(&line)
			e.SetEscapeHTML(false)
			if err := e.Encode(item(i)); err != nil {
				return err
			}
			b.WriteString("\n    " + strings.TrimSpace(line.String()))
		}
		b.WriteString("\n  ]" + end + "\n")
		return nil
	}
	b.WriteString("{\n")
	err := list("counted", len(p.Counted), func(i int) any { return p.Counted[i] }, ",")
	if err == nil {
		err = list("claims", len(p.Claims), func(i int) any { return p.Claims[i] }, ",")
	}
	if err == nil {
		err = list("budgets", len(p.Budgets), func(i int) any { return p.Budgets[i] }, "")
	}
	b.WriteString("}\n")
	return b.String(), err
}

// notYet stands for a group of rows that is newer than the results.
const notYet = "not measured yet: the last whole run was before it was added"

// budgets is the table of what is aimed at: what is missed stands there as what is kept.
func (p claims) budgets(r results) (string, error) {
	var b strings.Builder
	b.WriteString("| | budget | measured | |\n|---|--:|--:|---|\n")
	for _, one := range p.Budgets {
		limit, word := one.AtMost, "at most "
		if one.AtLeast > 0 {
			limit, word = one.AtLeast, "at least "
		}
		if group, _, _ := strings.Cut(one.Row, "/"); len(r.Rows) > 0 && strings.Contains(one.Row, "/") && len(r.group(group)) == 0 {
			fmt.Fprintf(&b, "| %s | %s%g | | %s |\n", one.What, word, limit, notYet)
			continue
		}
		v, err := one.value(r)
		if errors.Is(err, errNoBase) {
			fmt.Fprintf(&b, "| %s | %s%g | | not measured: the run had no base, or not for this |\n", one.What, word, limit)
			continue
		}
		if err != nil {
			return "", err
		}
		verdict := "kept"
		if one.AtMost > 0 && v > limit || one.AtLeast > 0 && v < limit {
			verdict = fmt.Sprintf("**missed**, by %s %%", figure(100*math.Abs(v-limit)/limit))
		}
		fmt.Fprintf(&b, "| %s | %s%g | %s | %s |\n", one.What, word, limit, figure(v), verdict)
	}
	return b.String(), nil
}
