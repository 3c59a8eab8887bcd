// The figures of a run, and what they come to: medians, ratios to the base, and
// whether the goals are met.

package main

import (
	"cmp"
	"time"
)

// Names of the candidates that are always there.
const (
	subjectName = "networkproxy"
	baseName    = "base"
	relayName   = "relay"
)

// Names of metrics that several workloads have.
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

// run is all figures of one run. It is what -json writes and -read reads.
type run struct {
	Date       time.Time `json:"date"`
	Go         string    `json:"go"`
	System     string    `json:"system"`
	CPUs       int       `json:"cpus"`
	User       string    `json:"user"` // that the proxies ran as
	Rounds     int       `json:"rounds"`
	Seconds    float64   `json:"seconds"`        // of each measurement
	Others     float64   `json:"others_percent"` // of the machine, that went to other programs; the median
	Candidates []string  `json:"candidates"`     // in the order of the columns
	Figures    []*figure `json:"figures"`
}

// metric is one thing that is read of a workload.
type metric struct {
	Name  string `json:"metric"`
	Title string `json:"title,omitempty"` // for people, where Name does not do
	Unit  string `json:"unit,omitempty"`
	Lower bool   `json:"lower_is_better,omitempty"`
	Goal  goal   `json:"goal,omitzero"`
}

// goal is what the subject is to reach. The zero value is none.
type goal struct {
	Ratio   float64 `json:"ratio,omitempty"` // to the base, at least
	AtMost  float64 `json:"at_most,omitempty"`
	AtLeast float64 `json:"at_least,omitempty"`
}

// figure is a metric of a workload, with the readings of every candidate that
// could do the work.
type figure struct {
	Workload string `json:"workload"`
	Work     string `json:"work"` // Workload, for people
	First    bool   `json:"first,omitempty"`
	metric
	Readings map[string][]reading `json:"readings"`
}

// reading is the figure of one round.
type reading struct {
	Round int     `json:"round"`
	Value float64 `json:"value"`
}

func (f *figure) label() string { return cmp.Or(f.Title, f.Name) }

// values is the spread of a candidate's readings.
func (f *figure) values(candidate string) (spread, bool) {
	var values []float64
	for _, r := range f.Readings[candidate] {
		values = append(values, r.Value)
	}
	return spreadOf(values)
}

// ratio is how many times better than the base a candidate is: the spread of the
// ratios within each round, so that what slows a round down slows both.
func (f *figure) ratio(candidate string) (spread, bool) {
	base := make(map[int]float64)
	for _, r := range f.Readings[baseName] {
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

// goalMet says whether the median of the subject's readings reaches the goal. It is
// not known where there is no goal, or nothing to judge by.
func (f *figure) goalMet() (met, known bool) {
	if f.Goal.Ratio > 0 {
		r, ok := f.ratio(subjectName)
		return r.Median >= f.Goal.Ratio, ok
	}
	v, ok := f.values(subjectName)
	switch {
	case f.Goal.AtMost > 0:
		return v.Median <= f.Goal.AtMost, ok
	case f.Goal.AtLeast > 0:
		return v.Median >= f.Goal.AtLeast, ok
	}
	return false, false
}

// add takes the readings of one measurement.
func (r *run) add(workload, work string, metrics []metric, candidate string, round int, values map[string]float64) {
	for i, m := range metrics {
		value, ok := values[m.Name]
		if !ok {
			continue
		}
		f := r.figure(workload, m.Name)
		if f == nil {
			f = &figure{Workload: workload, Work: work, First: i == 0, metric: m, Readings: make(map[string][]reading)}
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
