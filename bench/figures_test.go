package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// sample returns a run with figures of each kind.
func sample() *run {
	r := &run{
		Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Go: "go1.26", System: "Linux", CPUs: 2, User: "nobody",
		Rounds: 3, Seconds: 0.5, Candidates: []string{subjectName, baseName, relayName, "<peer>"},
	}
	requests := []metric{{Name: mRate, Unit: "requests/s", Goal: goal{Ratio: 1.25}}, {Name: mCPU, Unit: unitTime, Lower: true}}
	idle := []metric{{Name: mMemory, Unit: "KiB", Lower: true, Goal: goal{AtMost: 18}}}
	kept := []metric{{Name: mRetained, Unit: "%", Goal: goal{AtLeast: 60}}}
	for round, noise := range []float64{1, 0.5, 2} {
		r.add("get", "forward GET & more", requests, subjectName, round, map[string]float64{mRate: 3000 * noise, mCPU: 20})
		r.add("get", "forward GET & more", requests, baseName, round, map[string]float64{mRate: 2000 * noise, mCPU: 40})
		r.add("get", "forward GET & more", requests, "<peer>", round, map[string]float64{mRate: 20 * noise, mCPU: 4000})
		r.add("idle", "idle", idle, subjectName, round, map[string]float64{mMemory: 24})
		r.add("idle", "idle", idle, baseName, round, map[string]float64{mMemory: 23})
		r.add("kept", "kept", kept, baseName, round, map[string]float64{mRetained: 14})
	}
	return r
}

func TestRatio(t *testing.T) {
	t.Parallel()
	r := sample()
	for _, test := range []struct {
		name                string
		workload, figure, c string
		want                spread
		ok                  bool
	}{
		{"within each round", "get", mRate, subjectName, spread{1.5, 1.5, 1.5}, true},
		{"lower is better", "get", mCPU, subjectName, spread{2, 2, 2}, true},
		{"worse", "get", mCPU, "<peer>", spread{0.01, 0.01, 0.01}, true},
		{"not measured", "kept", mRetained, subjectName, spread{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got, ok := r.figure(test.workload, test.figure).ratio(test.c); got != test.want || ok != test.ok {
				t.Errorf("got %v, %v; want %v, %v", got, ok, test.want, test.ok)
			}
		})
	}
}

func TestRatioOfRoundsThatBothHave(t *testing.T) {
	t.Parallel()
	f := &figure{Readings: map[string][]reading{
		subjectName: {{0, 10}, {2, 30}},
		baseName:    {{0, 5}, {1, 1}},
	}}
	if got, ok := f.ratio(subjectName); got != (spread{2, 2, 2}) || !ok {
		t.Errorf("got %v, %v", got, ok)
	}
}

func TestGoals(t *testing.T) {
	t.Parallel()
	r := sample()
	for _, test := range []struct {
		workload, figure, want string
	}{
		{"get", mRate, "≥ ×1.25 met"},
		{"get", mCPU, ""},
		{"idle", mMemory, "≤ 18.0 KiB MISSED"},
		{"kept", mRetained, "≥ 60.0%"},
	} {
		if got := r.figure(test.workload, test.figure).goalText(); got != test.want {
			t.Errorf("%s %s: %q, want %q", test.workload, test.figure, got, test.want)
		}
	}
}

func TestRunSurvivesJSON(t *testing.T) {
	t.Parallel()
	want := sample()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := new(run)
	if err := json.Unmarshal(text, got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s\nunmarshals to %+v, want %+v", text, got, want)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := sample().writeTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| forward GET & more | rate ",
		"| 3.00k requests/s ×1.50 (1.50–1.50) ",
		"| 2.00k requests/s ",
		"| ≥ ×1.25 met ",
		"| 40.0 µs ",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

func TestQuantity(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value      float64
		unit, want string
	}{
		{0, "GB/s", "0.00 GB/s"},
		{9.994, "GB/s", "9.99 GB/s"},
		{9.996, "GB/s", "10.0 GB/s"},
		{99.96, "ms", "100 ms"},
		{999.4, unitTime, "999 µs"},
		{999.6, unitTime, "1.00 ms"},
		{1_100_000, unitTime, "1.10 s"},
		{1100, "ms", "1.10 s"},
		{-2500, unitTime, "-2.50 ms"},
		{9996, "requests/s", "10.0k requests/s"},
		{123456, "/CPU s", "123k/CPU s"},
		{1234567, "/s", "1.23M/s"},
		{97.14, "%", "97.1%"},
		{2, "", "2.00"},
	} {
		if got := quantity(test.value, test.unit); got != test.want {
			t.Errorf("quantity(%g, %q) = %q, want %q", test.value, test.unit, got, test.want)
		}
	}
}

func TestFormatInt(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{7: "7", 100: "100", 1200: "1,200", 100000: "100,000", 1234567: "1,234,567"} {
		if got := formatInt(n); got != want {
			t.Errorf("formatInt(%d) = %q, want %q", n, got, want)
		}
	}
}
