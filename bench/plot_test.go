package main

import (
	"encoding/xml"
	"io"
	"math"
	"strings"
	"testing"
)

func TestPlotIsWellFormed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		run  *run
		text []string // required texts
	}{
		{"every kind of figure", sample(), []string{"forward GET & more", "×1.50", "<peer>", "×0.01 ‹", "no figure"}},
		{"nothing", new(run), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			test.run.writePlot(&b)
			var text strings.Builder
			roots := 0
			d := xml.NewDecoder(strings.NewReader(b.String()))
			for {
				token, err := d.Token()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("%v in\n%s", err, b.String())
				}
				switch token := token.(type) {
				case xml.StartElement:
					if token.Name.Local == "svg" {
						roots++
					}
				case xml.CharData:
					text.Write(token)
				}
			}
			if roots != 1 {
				t.Errorf("the plot has %d svg elements, want 1", roots)
			}
			for _, want := range test.text {
				if !strings.Contains(text.String(), want) {
					t.Errorf("the plot lacks the text %q", want)
				}
			}
			if s := b.String(); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
				t.Error("a coordinate is not a number")
			}
		})
	}
}

func TestAxis(t *testing.T) {
	t.Parallel()
	p := &plot{run: new(run), lo: 0.25, hi: 4}
	for _, test := range []struct{ ratio, want float64 }{
		{0.25, plotLeft},
		{1, (plotLeft + plotRight) / 2},
		{4, plotRight},
		{0.001, plotLeft},
		{100, plotRight},
		{2, plotLeft + (plotRight-plotLeft)*0.75},
	} {
		if got := p.x(test.ratio); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("x(%g) = %g, want %g", test.ratio, got, test.want)
		}
	}
}
