package main

import (
	"testing"
	"time"
)

func TestParseCPUTime(t *testing.T) {
	t.Parallel()
	const rest = " S 1 1 1 0 -1 4194560 1000 0 0 0 250 50 7 9 20 0 8 0 100 1000000 500"
	for _, test := range []struct {
		name, stat string
		want       time.Duration
		bad        bool
	}{
		{"plain", "42 (squid)" + rest, 3 * time.Second, false},
		{"odd name", "42 (a) R 9 (b c)" + rest, 3 * time.Second, false},
		{"no name", "42 S 1 1", 0, true},
		{"short", "42 (x) S 1 1 1", 0, true},
		{"not a number", "42 (x) S 1 1 1 0 -1 4194560 1000 0 0 0 many 50 7 9", 0, true},
		{"empty", "", 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseCPUTime(test.stat)
			if got != test.want || (err != nil) != test.bad {
				t.Errorf("got %v, %v; want %v", got, err, test.want)
			}
		})
	}
}

func TestParseMachineTime(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, stat string
		want       time.Duration
		bad        bool
	}{
		{"all but idle and iowait, and guests once", "cpu  100 10 200 7000 900 1 2 3 40 50\ncpu0 1 2 3 4\n", 3160 * time.Millisecond, false},
		{"short", "cpu 1 2 3\n", 0, true},
		{"another line", "cpu0 100 10 200 7000 900 1 2 3\n", 0, true},
		{"not a number", "cpu a b c d e f g h\n", 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseMachineTime(test.stat)
			if got != test.want || (err != nil) != test.bad {
				t.Errorf("got %v, %v; want %v", got, err, test.want)
			}
		})
	}
}

func TestParseKiB(t *testing.T) {
	t.Parallel()
	const status = "Name:\tRssAnon: 9 kB\nVmRSS:\t    2048 kB\nRssAnon:\t    1024 kB\nThreads:\t7\n"
	for _, test := range []struct {
		name string
		want int64
		bad  bool
	}{
		{"VmRSS", 2 << 20, false},
		{"RssAnon", 1 << 20, false},
		{"Threads", 0, true},
		{"VmHWM", 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseKiB(status, test.name)
			if got != test.want || (err != nil) != test.bad {
				t.Errorf("got %v, %v; want %v", got, err, test.want)
			}
		})
	}
}
