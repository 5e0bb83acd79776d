package main

import (
	"bytes"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/chart"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

const (
	column, line = 50, 26 // pixels of the dashboard's grid
	most         = 8      // series in a panel
)

// draw asks Prometheus what each panel asks, and draws what it says. It stands in for Grafana's
// page: places, titles, queries and legends are the dashboard's, everything else is drawn here.
func draw(t *rig.Life, server *rig.Prometheus, began time.Time, lasted time.Duration) ([]byte, error) {
	panels := rig.Dashboard(t)
	height := 0
	for _, p := range panels {
		height = max(height, (p.GridPos.Y+p.GridPos.H)*line)
	}
	var b bytes.Buffer
	chart.Begin(&b, 24*column, height, "The dashboard's panels, of a demo under load")
	for _, p := range panels {
		box := canvas{chart.Canvas{B: &b, X: p.GridPos.X*column + 4, Y: p.GridPos.Y*line + 4, W: p.GridPos.W*column - 8, H: p.GridPos.H*line - 8}}
		if p.Type == "row" {
			box.Text(2, 17, "r", p.Title)
			continue
		}
		box.Box(p.Title)
		lines, err := ask(server, p, began, lasted)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", p.Title, err)
		case len(lines) == 0:
			box.Text(10, box.H/2, "", "nothing happened")
		case p.Type == "timeseries":
			box.curves(lines, p.FieldConfig.Defaults.Unit, began, lasted)
		case p.Type == "bargauge":
			box.bars(lines)
		case p.Type == "stat":
			for i, l := range lines[:min(len(lines), 4)] {
				box.Text(10, 52+32*i, "big", figure(l.last(), ""))
				box.Text(50, 52+32*i, "v", l.name)
			}
		}
	}
	chart.End(&b)
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
type canvas struct{ chart.Canvas }

func (c canvas) curves(all []curve, unit string, began time.Time, lasted time.Duration) {
	slices.SortStableFunc(all, func(a, b curve) int { return int(math.Copysign(1, slices.Max(b.y)-slices.Max(a.y))) })
	all = all[:min(len(all), most)]
	top := chart.Nice(slices.Max(all[0].y))
	left, width, above, height := 52, c.W-64, 30, c.H-78
	for i := range 3 {
		y := above + height - height*i/2
		fmt.Fprintf(c.B, `<path class="g" d="M%d %dh%d"/>`+"\n", c.X+left, c.Y+y, width)
		c.Text(left-6, y+4, "e", figure(top*float64(i)/2, unit))
	}
	c.Text(left, above+height+14, "", "0:00")
	c.Text(left+width, above+height+14, "e", fmt.Sprintf("%d:%02d", int(lasted.Minutes()), int(lasted.Seconds())%60))
	x, row := 10, 0
	for i, one := range all {
		var d strings.Builder
		for j := range one.x {
			op := "L"
			if j == 0 || one.x[j]-one.x[j-1] > 1.6/60 {
				op = "M"
			}
			fmt.Fprintf(&d, "%s%.0f %.0f", op, float64(c.X+left)+one.x[j]*float64(width), float64(c.Y+above+height)-one.y[j]/top*float64(height))
		}
		fmt.Fprintf(c.B, `<path style="stroke:var(--c%d)" d="%s"/>`+"\n", i, d.String())
		wide := 22 + 6*len([]rune(one.name))
		if x > 10 && x+wide > c.W {
			x, row = 10, row+1
		}
		if row < 2 {
			c.Bar(x, c.H-26+14*row, 10, 3, i)
			c.Text(x+14, c.H-21+14*row, "", one.name)
		}
		x += wide
	}
}

func (c canvas) bars(all []curve) {
	most := 1.0
	for _, one := range all {
		most = max(most, one.last())
	}
	step := min(26, (c.H-34)/len(all))
	for i, one := range all {
		y := 32 + step*i
		c.Text(10, y+step/2+3, "v", one.name)
		c.Bar(110, y, int(math.RoundToEven(max(1, one.last()/most*float64(c.W-180)))), step-5, 0)
		c.Text(c.W-10, y+step/2+3, "e", figure(math.Round(one.last()), ""))
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
