// The table of a run, in Markdown with aligned columns.

package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// writeTable writes one row for each figure and one column for each candidate. A
// cell has the median and, except for the base, the median ratio. The subject's
// cells also have the range of the ratio.
func (r *run) writeTable(w io.Writer) error {
	rows := [][]string{{"workload", "metric"}}
	rows[0] = append(rows[0], r.Candidates...)
	rows[0] = append(rows[0], "goal")
	for _, f := range r.Figures {
		row := []string{"", f.label()}
		if f.First {
			row[0] = f.Work
		}
		for _, c := range r.Candidates {
			row = append(row, f.cell(c))
		}
		rows = append(rows, append(row, f.goalText()))
	}
	base := "the base"
	if r.Base != "" {
		base = "the column " + r.Base
	}
	if _, err := fmt.Fprintf(w, "%s: %s, %d CPUs, %s. %d rounds of %gs; the proxies ran as %s; other programs used %.0f%% of the machine.\n"+
		"Medians over the rounds. × is the ratio to %s, with its range; above 1 is better.\n\n",
		r.Date.Format("2006-01-02 15:04"), r.System, r.CPUs, r.Go, r.Rounds, r.Seconds, r.User, r.Others, base); err != nil {
		return err
	}
	return writeColumns(w, rows)
}

// cell returns the text of a candidate's figure.
func (f *figure) cell(candidate string) string {
	v, ok := f.values(candidate)
	if !ok {
		return "–"
	}
	text := quantity(v.Median, f.Unit)
	if candidate == f.base() {
		return text
	}
	ratio, ok := f.ratio(candidate)
	if ok {
		text += " ×" + formatNumber(ratio.Median)
	}
	if ok && candidate == f.subject() {
		text += fmt.Sprintf(" (%s–%s)", formatNumber(ratio.Min), formatNumber(ratio.Max))
	}
	return text
}

// goalText returns the goal, with "met" or "MISSED" if that is known.
func (f *figure) goalText() string {
	var text string
	switch g := f.Goal; {
	case g.Ratio > 0:
		text = "≥ ×" + formatNumber(g.Ratio)
	case g.AtMost > 0:
		text = "≤ " + quantity(g.AtMost, f.Unit)
	case g.AtLeast > 0:
		text = "≥ " + quantity(g.AtLeast, f.Unit)
	default:
		return ""
	}
	if met, known := f.goalMet(); known && met {
		text += " met"
	} else if known {
		text += " MISSED"
	}
	return text
}

const unitTime = "µs"

// quantity returns a value with its unit.
func quantity(v float64, unit string) string {
	for _, larger := range [...]struct{ from, to string }{{unitTime, "ms"}, {"ms", "s"}} {
		if unit == larger.from && math.Abs(v) >= 999.5 {
			v, unit = v/1e3, larger.to
		}
	}
	text := formatNumber(v)
	if unit == "%" || strings.HasPrefix(unit, "/") || unit == "" {
		return text + unit
	}
	return text + " " + unit
}

// formatNumber formats a number with three significant digits, and thousands as k.
func formatNumber(v float64) string {
	switch a := math.Abs(v); {
	case a >= 999_500:
		return strconv.FormatFloat(v/1e6, 'f', 2, 64) + "M"
	case a >= 99_950:
		return strconv.FormatFloat(v/1e3, 'f', 0, 64) + "k"
	case a >= 9_995:
		return strconv.FormatFloat(v/1e3, 'f', 1, 64) + "k"
	case a >= 999.5:
		return strconv.FormatFloat(v/1e3, 'f', 2, 64) + "k"
	case a >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// formatInt formats an integer with commas between thousands.
func formatInt(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// writeColumns writes rows as a Markdown table with aligned columns. The first row is
// the heading.
func writeColumns(w io.Writer, rows [][]string) error {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(&b, "| %s%s ", cell, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				b.WriteString("|" + strings.Repeat("-", width+2))
			}
			b.WriteString("|\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
