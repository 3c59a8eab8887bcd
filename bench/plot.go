// The plot of a run. It shows the ratios of the proxies to the base for each
// workload on a logarithmic axis, so that twice as good and half as good are equally
// far from the base.

package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// Measures of the drawing, in SVG units.
const (
	plotWidth  = 960
	plotLeft   = 330 // left end of the axis
	plotRight  = 850 // right end of the axis; the ratio is printed to the right of it
	plotTop    = 118 // top of the first row
	rowHeight  = 46
	barHeight  = 16
	margin     = 32
	legendStep = 150
)

// Colours. The subject has a prominent one.
const (
	ink     = "#22303c"
	quiet   = "#6b7a88"
	grid    = "#e6eaee"
	better  = "#2b8a83"
	worse   = "#d08c60"
	limited = "#9aa7b2"
)

// peerColours are the colours of the peers in order. They repeat if there are more
// peers.
var peerColours = [...]string{"#7d6bb0", "#b5892e", "#4f7cc0", "#a65a80"}

// plot draws a run.
type plot struct {
	*run
	svg    *strings.Builder
	lo, hi float64 // ends of the axis, as ratios: powers of two
}

// writePlot writes the plot as a complete SVG document.
func (r *run) writePlot(svg *strings.Builder) {
	var rows []*figure
	for _, f := range r.Figures {
		if f.First {
			rows = append(rows, f)
		}
	}
	p := &plot{run: r, svg: svg}
	p.chooseAxis(rows)
	bottom := plotTop + len(rows)*rowHeight
	height := bottom + 92
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%d" `+
		`font-family="system-ui, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif" role="img">`+"\n", plotWidth, height, height)
	const title = "How networkproxy compares with a minimal net/http proxy"
	p.printf("<title>%s</title>\n", title)
	p.printf(`<rect width="%d" height="%d" rx="10" fill="#ffffff"/>`+"\n", plotWidth, height)
	p.text(margin, 44, 20, ink, `font-weight="600"`, title)
	p.text(margin, 68, 13, quiet, "", fmt.Sprintf("Ratio to the base: median of %d rounds, with its range. "+
		"Further right is better. For UDP the base is go-socks5.", r.Rounds))
	p.axis(plotTop-6, bottom)
	for i, f := range rows {
		p.row(f, plotTop+i*rowHeight)
	}
	p.legend(bottom + 34)
	p.text(margin, float64(bottom+70), 11, quiet, "",
		fmt.Sprintf("%s, %d CPUs, %s, client and origin on the same machine, %s.", r.System, r.CPUs, r.Go, r.Date.Format("2006-01-02")))
	p.printf("</svg>\n")
}

func (p *plot) printf(format string, args ...any) { fmt.Fprintf(p.svg, format, args...) }

// text writes s with its baseline at y.
func (p *plot) text(x, y float64, size int, fill, attributes, s string) {
	p.printf(`<text x="%.1f" y="%.1f" font-size="%d" fill="%s" %s>`, x, y, size, fill, attributes)
	xml.EscapeText(p.svg, []byte(s)) // a strings.Builder does not fail
	p.printf("</text>\n")
}

func (p *plot) line(x1, y1, x2, y2 float64, stroke string, width float64) {
	p.printf(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%g"/>`+"\n", x1, y1, x2, y2, stroke, width)
}

// chooseAxis sets the range of the axis. It includes all ratios, at least from 1/2 to
// 2 and at most from 1/8 to 8. Ratios beyond are drawn at the end of the axis.
func (p *plot) chooseAxis(rows []*figure) {
	p.lo, p.hi = 0.5, 2
	for _, f := range rows {
		for _, c := range p.Candidates {
			if r, ok := f.ratio(c); ok {
				p.lo = min(p.lo, r.Median*0.95)
				p.hi = max(p.hi, r.Median*1.05)
			}
		}
		if g, ok := f.goalRatio(); ok {
			p.hi = max(p.hi, g*1.05)
		}
	}
	p.lo = max(math.Exp2(math.Floor(math.Log2(p.lo))), 1.0/8)
	p.hi = min(math.Exp2(math.Ceil(math.Log2(p.hi))), 8)
}

// x returns the position of a ratio on the axis, limited to its ends.
func (p *plot) x(ratio float64) float64 {
	ratio = min(max(ratio, p.lo), p.hi)
	share := math.Log2(ratio/p.lo) / math.Log2(p.hi/p.lo)
	return plotLeft + share*(plotRight-plotLeft)
}

func (p *plot) axis(top, bottom int) {
	for ratio := p.lo; ratio <= p.hi; ratio *= 2 {
		stroke, label := grid, "×"+fraction(ratio)
		if ratio == 1 {
			stroke, label = ink, "base"
		}
		p.line(p.x(ratio), float64(top), p.x(ratio), float64(bottom), stroke, 1)
		p.text(p.x(ratio), float64(top-8), 12, quiet, `text-anchor="middle"`, label)
	}
}

// fraction formats a power of two.
func fraction(ratio float64) string {
	switch ratio {
	case 0.5:
		return "½"
	case 0.25:
		return "¼"
	case 0.125:
		return "⅛"
	}
	return fmt.Sprintf("%g", ratio)
}

// goalRatio returns the goal as a ratio to the base. It converts a quantity with the
// base's median.
func (f *figure) goalRatio() (float64, bool) {
	base, ok := f.values(baseName)
	switch g := f.Goal; {
	case g.Ratio > 0:
		return g.Ratio, true
	case g.AtMost > 0 && ok:
		return base.Median / g.AtMost, true
	case g.AtLeast > 0 && ok && base.Median > 0:
		return g.AtLeast / base.Median, true
	}
	return 0, false
}

// row draws one workload: the subject's bar in the middle, with the marks of the goal
// and the other candidates on it.
func (p *plot) row(f *figure, top int) {
	middle := float64(top) + rowHeight/2
	p.text(margin, middle-3, 14, ink, "", f.Work)
	p.text(margin, middle+13, 11, quiet, "", p.caption(f))

	ratio, ok := f.ratio(subjectName)
	if !ok {
		p.text(plotRight+16, middle+5, 13, quiet, "", "no figure")
	} else {
		colour := better
		if ratio.Median < 1 {
			colour = worse
		}
		from, to := p.x(1), p.x(ratio.Median)
		p.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%d" rx="2" fill="%s"/>`+"\n",
			min(from, to), middle-barHeight/2, max(math.Abs(to-from), 1), barHeight, colour)
		p.line(p.x(ratio.Min), middle, p.x(ratio.Max), middle, ink, 1.2)
		p.text(plotRight+16, middle+5, 15, colour, `font-weight="600"`, "×"+formatNumber(ratio.Median))
	}
	if goal, ok := f.goalRatio(); ok {
		p.goalMark(p.x(goal), middle)
	}
	if limit, ok := f.ratio(relayName); ok {
		p.limitMark(p.x(limit.Median), middle)
	}
	for i, name := range p.peers() {
		if r, ok := f.ratio(name); ok {
			p.peerMark(p.x(r.Median), middle, i)
			if r.Median < p.lo {
				p.text(plotLeft-8, middle+14, 10, peerColours[i%len(peerColours)], `text-anchor="end"`, "×"+formatNumber(r.Median)+" ‹")
			}
		}
	}
}

// caption returns the values behind the ratio.
func (p *plot) caption(f *figure) string {
	caption := f.label()
	if caption == mRate {
		caption = ""
	}
	base, okBase := f.values(baseName)
	ours, okOurs := f.values(subjectName)
	switch {
	case okBase && okOurs:
		caption += fmt.Sprintf(" %s, base %s", quantity(ours.Median, f.Unit), quantity(base.Median, f.Unit))
	case okBase:
		caption += " base " + quantity(base.Median, f.Unit)
	}
	return strings.TrimSpace(caption)
}

func (p *plot) goalMark(x, y float64) {
	p.printf(`<path d="M%.1f %.1fl5 -6h-10z" fill="%s"/>`+"\n", x, y-barHeight/2-1, ink)
	p.line(x, y-barHeight/2-1, x, y+barHeight/2+1, ink, 1.2)
}

func (p *plot) limitMark(x, y float64) {
	p.line(x, y-barHeight/2-3, x, y+barHeight/2+3, limited, 3)
}

func (p *plot) peerMark(x, y float64, i int) {
	p.printf(`<circle cx="%.1f" cy="%.1f" r="4.5" fill="#ffffff" stroke="%s" stroke-width="2.2"/>`+"\n", x, y, peerColours[i%len(peerColours)])
}

// peers returns the candidates from -peer.
func (p *plot) peers() (names []string) {
	for _, c := range p.Candidates {
		if c != subjectName && c != baseName && c != relayName {
			names = append(names, c)
		}
	}
	return names
}

func (p *plot) legend(y int) {
	x, middle := float64(margin), float64(y)
	entry := func(label string, mark func()) {
		mark()
		p.text(x+24, middle+4, 12, ink, "", label)
		x += legendStep
	}
	entry(subjectName, func() {
		p.printf(`<rect x="%.1f" y="%.1f" width="16" height="10" rx="2" fill="%s"/>`+"\n", x, middle-5, better)
	})
	entry("goal", func() { p.goalMark(x+8, middle) })
	entry("bare relay (limit)", func() { p.limitMark(x+8, middle) })
	x += 20
	for i, name := range p.peers() {
		entry(name, func() { p.peerMark(x+8, middle, i) })
	}
}
