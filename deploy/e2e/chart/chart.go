// Package chart draws the pictures of pages: SVG that follows the reader's light or dark scheme.
package chart

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// Begin writes the head of a picture. Its classes: t, r and v are text in ink, big and e large and
// right-aligned; p a box, g a line of a grid; --c0 to --c7 colours that can be told apart. The
// label is what those hear who do not see it.
func Begin(b *bytes.Buffer, width, height int, label string) {
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">
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
`, width, height, label, width, height)
}

// End writes the last line.
func End(b *bytes.Buffer) { b.WriteString("</svg>\n") }

// Canvas is the place of a panel in a picture, in pixels.
type Canvas struct {
	B          *bytes.Buffer
	X, Y, W, H int
}

// Box draws the panel and its title.
func (c Canvas) Box(title string) {
	fmt.Fprintf(c.B, `<rect class="p" x="%d" y="%d" width="%d" height="%d" rx="4"/>`+"\n", c.X, c.Y, c.W, c.H)
	c.Text(10, 19, "t", title)
}

// Text writes at a point of the panel.
func (c Canvas) Text(x, y int, class, text string) {
	fmt.Fprintf(c.B, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class, c.X+x, c.Y+y, html.EscapeString(text))
}

// Bar draws a rectangle in one of the colours.
func (c Canvas) Bar(x, y, width, height, colour int) {
	fmt.Fprintf(c.B, `<rect x="%d" y="%d" width="%d" height="%d" style="fill:var(--c%d)"/>`+"\n", c.X+x, c.Y+y, width, height, colour)
}

// Nice is the next number that reads well on an axis.
func Nice(v float64) float64 {
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
