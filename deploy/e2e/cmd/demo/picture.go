package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

const (
	column, line = 50, 26 // pixels of the dashboard's grid
	most         = 8      // series in a panel
)

// draw asks Prometheus what each panel asks, and draws what it says. It stands in for Grafana's
// page: places, titles, queries and legends are the dashboard's, everything else is drawn here.
func draw(t *life, server *rig.Prometheus, began time.Time, lasted time.Duration) ([]byte, error) {
	panels := rig.Dashboard(t)
	height := 0
	for _, p := range panels {
		height = max(height, (p.GridPos.Y+p.GridPos.H)*line)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="The dashboard's panels, of a demo under load">
<style>
svg { --ground: #f6f8fa; --box: #ffffff; --ink: #1f2328; --soft: #59636e; --edge: #d1d9e0; --c0: #0969da; --c1: #1a7f37; --c2: #bc4c00; --c3: #8250df; --c4: #cf222e; --c5: #9a6700; --c6: #bf3989; --c7: #57606a; }
@media (prefers-color-scheme: dark) {
  svg { --ground: #0d1117; --box: #161b22; --ink: #e6edf3; --soft: #9198a1; --edge: #30363d; --c0: #4493f8; --c1: #3fb950; --c2: #f0883e; --c3: #ab7df8; --c4: #f85149; --c5: #d29922; --c6: #db61a2; --c7: #8b949e; }
}
text { font: 11px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--soft); }
.t { font-size: 13px; font-weight: 600; fill: var(--ink); } .r { font-size: 15px; font-weight: 600; fill: var(--ink); } .v { fill: var(--ink); } .big { font-size: 22px; font-weight: 600; fill: var(--c0); } .e { text-anchor: end; }
.p { fill: var(--box); stroke: var(--edge); } .g { stroke: var(--edge); } path { fill: none; stroke-width: 1.5; }
</style>
<rect width="%d" height="%d" style="fill:var(--ground)"/>
`, 24*column, height, 24*column, height)
	for _, p := range panels {
		box := canvas{&b, p.GridPos.X*column + 4, p.GridPos.Y*line + 4, p.GridPos.W*column - 8, p.GridPos.H*line - 8}
		if p.Type == "row" {
			box.text(2, 17, "r", p.Title)
			continue
		}
		fmt.Fprintf(&b, `<rect class="p" x="%d" y="%d" width="%d" height="%d" rx="4"/>`+"\n", box.x, box.y, box.w, box.h)
		box.text(10, 19, "t", p.Title)
		lines, err := ask(server, p, began, lasted)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", p.Title, err)
		case len(lines) == 0:
			box.text(10, box.h/2, "", "nothing happened")
		case p.Type == "timeseries":
			box.curves(lines, p.FieldConfig.Defaults.Unit, began, lasted)
		case p.Type == "bargauge":
			box.bars(lines)
		case p.Type == "stat":
			for i, l := range lines[:min(len(lines), 4)] {
				box.text(10, 52+32*i, "big", figure(l.last(), ""))
				box.text(50, 52+32*i, "v", l.name)
			}
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes(), nil
}

// curve is one series: its values at times from 0, the beginning, to 1, the end.
type curve struct {
	name string
	x, y []float64
}

func (c curve) last() float64 { return c.y[len(c.y)-1] }

var placeholder = regexp.MustCompile(`{{(\w+)}}`)

func ask(server *rig.Prometheus, p rig.Panel, began time.Time, lasted time.Duration) (all []curve, err error) {
	for _, target := range p.Targets {
		var over url.Values
		if target.Range {
			over = url.Values{"start": {unix(began)}, "end": {unix(began.Add(lasted))}, "step": {fmt.Sprint(lasted.Seconds() / 60)}}
		}
		series, err := server.Query(rig.Filled(target.Expr, "15s", fmt.Sprintf("%ds", int(lasted.Seconds())), ".*"), over)
		if err != nil {
			return nil, err
		}
		for _, s := range series {
			c := curve{name: placeholder.ReplaceAllStringFunc(target.LegendFormat, func(label string) string { return s.Metric[strings.Trim(label, "{}")] })}
			if over == nil {
				s.Values = [][2]any{s.Value}
			}
			for _, v := range s.Values {
				y, err := strconv.ParseFloat(v[1].(string), 64)
				if err != nil || math.IsNaN(y) || math.IsInf(y, 0) {
					continue
				}
				c.x = append(c.x, (v[0].(float64)-float64(began.UnixMilli())/1000)/lasted.Seconds())
				c.y = append(c.y, y)
			}
			if len(c.y) > 0 {
				all = append(all, c)
			}
		}
	}
	return all, nil
}

func unix(at time.Time) string { return fmt.Sprintf("%.3f", float64(at.UnixMilli())/1000) }

// canvas is the place of a panel.
type canvas struct {
	b          *bytes.Buffer
	x, y, w, h int
}

func (c canvas) text(x, y int, class, text string) {
	fmt.Fprintf(c.b, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class, c.x+x, c.y+y, html.EscapeString(text))
}

func (c canvas) curves(all []curve, unit string, began time.Time, lasted time.Duration) {
	slices.SortStableFunc(all, func(a, b curve) int { return int(math.Copysign(1, slices.Max(b.y)-slices.Max(a.y))) })
	all = all[:min(len(all), most)]
	top := nice(slices.Max(all[0].y))
	left, width, above, height := 52, c.w-64, 30, c.h-78
	for i := range 3 {
		y := above + height - height*i/2
		fmt.Fprintf(c.b, `<path class="g" d="M%d %dh%d"/>`+"\n", c.x+left, c.y+y, width)
		c.text(left-6, y+4, "e", figure(top*float64(i)/2, unit))
	}
	c.text(left, above+height+14, "", "0:00")
	c.text(left+width, above+height+14, "e", fmt.Sprintf("%d:%02d", int(lasted.Minutes()), int(lasted.Seconds())%60))
	x, row := 10, 0
	for i, one := range all {
		var d strings.Builder
		for j := range one.x {
			op := "L"
			if j == 0 || one.x[j]-one.x[j-1] > 1.6/60 {
				op = "M"
			}
			fmt.Fprintf(&d, "%s%.0f %.0f", op, float64(c.x+left)+one.x[j]*float64(width), float64(c.y+above+height)-one.y[j]/top*float64(height))
		}
		fmt.Fprintf(c.b, `<path style="stroke:var(--c%d)" d="%s"/>`+"\n", i, d.String())
		wide := 22 + 6*len([]rune(one.name))
		if x > 10 && x+wide > c.w {
			x, row = 10, row+1
		}
		if row < 2 {
			fmt.Fprintf(c.b, `<rect x="%d" y="%d" width="10" height="3" style="fill:var(--c%d)"/>`+"\n", c.x+x, c.y+c.h-26+14*row, i)
			c.text(x+14, c.h-21+14*row, "", one.name)
		}
		x += wide
	}
}

func (c canvas) bars(all []curve) {
	most := 1.0
	for _, one := range all {
		most = max(most, one.last())
	}
	step := min(26, (c.h-34)/len(all))
	for i, one := range all {
		y := 32 + step*i
		c.text(10, y+step/2+3, "v", one.name)
		fmt.Fprintf(c.b, `<rect x="%d" y="%d" width="%.0f" height="%d" style="fill:var(--c0)"/>`+"\n", c.x+110, c.y+y, max(1, one.last()/most*float64(c.w-180)), step-5)
		c.text(c.w-10, y+step/2+3, "e", figure(math.Round(one.last()), ""))
	}
}

// nice is the next number that reads well on an axis.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	for scale := math.Pow(10, math.Floor(math.Log10(v))); ; scale *= 10 {
		for _, n := range []float64{1, 2, 4, 5, 10} {
			if n*scale >= v {
				return n * scale
			}
		}
	}
}

func figure(v float64, unit string) string {
	switch {
	case unit == "s" && v > 0 && v < 1:
		return strconv.FormatFloat(v*1000, 'g', 4, 64) + " ms"
	case unit == "s" && v >= 86400:
		return strconv.FormatFloat(v/86400, 'g', 3, 64) + " d"
	case unit == "s" && v >= 3600:
		return strconv.FormatFloat(v/3600, 'g', 3, 64) + " h"
	case unit == "s":
		return strconv.FormatFloat(v, 'g', 4, 64) + " s"
	case v >= 100000:
		return strconv.FormatFloat(v/1000, 'g', 4, 64) + "k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
