// The figures of a run: medians, ratios to the base, and goals.

package main

import (
	"cmp"
	"time"
)

// Names of the built-in candidates.
const (
	subjectName = "networkproxy"
	baseName    = "base"
	relayName   = "relay"
)

// Names of metrics.
const (
	mRate     = "rate"
	mCPU      = "cpu"
	mP50      = "p50"
	mP99      = "p99"
	mMemory   = "memory"
	mAdded    = "added"
	mFiles    = "descriptors"
	mRetained = "kept"
	mPerCPU   = "per CPU second"
	mLost     = "lost"
)

// run holds all figures of one run. -json writes it and -read reads it.
type run struct {
	Date       time.Time `json:"date"`
	Go         string    `json:"go"`
	System     string    `json:"system"`
	CPUs       int       `json:"cpus"`
	User       string    `json:"user"` // of the proxies
	Rounds     int       `json:"rounds"`
	Seconds    float64   `json:"seconds"`           // duration of each measurement
	Others     float64   `json:"others_percent"`    // median CPU share of other programs, in percent of the machine
	Candidates []string  `json:"candidates"`        // in the order of the columns
	Subject    string    `json:"subject,omitempty"` // the candidate with goals; empty: networkproxy
	Base       string    `json:"base,omitempty"`    // the candidate of all ratios; empty: base
	Figures    []*figure `json:"figures"`
}

// metric is one measured quantity of a workload.
type metric struct {
	Name  string `json:"metric"`
	Title string `json:"title,omitempty"` // for the table; Name if empty
	Unit  string `json:"unit,omitempty"`
	Lower bool   `json:"lower_is_better,omitempty"`
	Goal  goal   `json:"goal,omitzero"`
}

// goal is the target of the subject. The zero value means no goal.
type goal struct {
	Ratio   float64 `json:"ratio,omitempty"` // at least this ratio to the base
	AtMost  float64 `json:"at_most,omitempty"`
	AtLeast float64 `json:"at_least,omitempty"`
}

// figure is a metric of a workload with the readings of all candidates.
type figure struct {
	Workload string `json:"workload"`          // name
	Work     string `json:"work"`              // title
	First    bool   `json:"first,omitempty"`   // first metric of its workload
	Subject  string `json:"subject,omitempty"` // as in run
	Base     string `json:"base,omitempty"`
	metric
	Readings map[string][]reading `json:"readings"`
}

// reading is the value of one round.
type reading struct {
	Round int     `json:"round"`
	Value float64 `json:"value"`
}

func (f *figure) label() string { return cmp.Or(f.Title, f.Name) }

func (f *figure) subject() string { return cmp.Or(f.Subject, subjectName) }

func (f *figure) base() string { return cmp.Or(f.Base, baseName) }

// values returns the spread of a candidate's readings.
func (f *figure) values(candidate string) (spread, bool) {
	var values []float64
	for _, r := range f.Readings[candidate] {
		values = append(values, r.Value)
	}
	return spreadOf(values)
}

// ratio returns the spread of a candidate's ratios to the base; above 1 is better.
// Ratios are taken within each round, so that noise in a round affects both sides.
func (f *figure) ratio(candidate string) (spread, bool) {
	base := make(map[int]float64)
	for _, r := range f.Readings[f.base()] {
		base[r.Round] = r.Value
	}
	var ratios []float64
	for _, r := range f.Readings[candidate] {
		over, under := r.Value, base[r.Round]
		if f.Lower {
			over, under = under, over
		}
		if over > 0 && under > 0 {
			ratios = append(ratios, over/under)
		}
	}
	return spreadOf(ratios)
}

// goalMet reports whether the median of the subject's readings meets the goal. known
// is false without a goal or readings.
func (f *figure) goalMet() (met, known bool) {
	if f.Goal.Ratio > 0 {
		r, ok := f.ratio(f.subject())
		return r.Median >= f.Goal.Ratio, ok
	}
	v, ok := f.values(f.subject())
	switch {
	case f.Goal.AtMost > 0:
		return v.Median <= f.Goal.AtMost, ok
	case f.Goal.AtLeast > 0:
		return v.Median >= f.Goal.AtLeast, ok
	}
	return false, false
}

// add adds the readings of one measurement.
func (r *run) add(workload, work string, metrics []metric, candidate string, round int, values map[string]float64) {
	for i, m := range metrics {
		value, ok := values[m.Name]
		if !ok {
			continue
		}
		f := r.figure(workload, m.Name)
		if f == nil {
			f = &figure{Workload: workload, Work: work, First: i == 0, Subject: r.Subject, Base: r.Base, metric: m, Readings: make(map[string][]reading)}
			r.Figures = append(r.Figures, f)
		}
		f.Readings[candidate] = append(f.Readings[candidate], reading{round, value})
	}
}

func (r *run) figure(workload, name string) *figure {
	for _, f := range r.Figures {
		if f.Workload == workload && f.Name == name {
			return f
		}
	}
	return nil
}
