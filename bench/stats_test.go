package main

import (
	"testing"
	"time"
)

func TestSpreadOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		values []float64
		want   spread
	}{
		{"one", []float64{3}, spread{3, 3, 3}},
		{"odd", []float64{9, 1, 4}, spread{4, 1, 9}},
		{"even", []float64{8, 1, 2, 4}, spread{3, 1, 8}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got, ok := spreadOf(test.values); got != test.want || !ok {
				t.Errorf("spreadOf(%v) = %v, %v; want %v", test.values, got, ok, test.want)
			}
		})
	}
	if _, ok := spreadOf(nil); ok {
		t.Error("spreadOf(nil) returned a spread")
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, test := range []struct {
		name   string
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		{"none", nil, 0.5, 0},
		{"one", []time.Duration{7}, 0.99, 7},
		{"least", hundred, 0, 1},
		{"middle", hundred, 0.5, 50},
		{"most", hundred, 0.99, 99},
		{"all", hundred, 1, 100},
		{"of two", []time.Duration{1, 2}, 0.51, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := percentile(test.sorted, test.p); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}
