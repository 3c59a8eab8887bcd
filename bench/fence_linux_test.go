package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// connectProxy starts a proxy that responds to CONNECT for want and leads to an origin.
func connectProxy(t *testing.T, want string, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil || r.Method != http.MethodConnect || r.Host != want {
					io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
					return
				}
				target, err := net.Dial("tcp", to.String())
				if err != nil {
					return
				}
				defer target.Close()
				io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
				copyBothWays(c.(*net.TCPConn), target.(*net.TCPConn), relayCopy)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// TestFenceClient runs the client of fences outside of a fence.
func TestFenceClient(t *testing.T) {
	t.Parallel()
	for _, w := range fenceWorks() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			o := startOrigin(t, w.origin)
			to := o.addr()
			proxy := connectProxy(t, strings.Replace(to.String(), loopback.String(), fenceOrigin, 1), to)
			jobsIn, jobs := io.Pipe()
			messages, messagesOut := io.Pipe()
			ended := make(chan error, 1)
			go func() { ended <- runFenceClient(jobsIn, messagesOut, to, proxy) }()
			decoder := json.NewDecoder(messages)
			receive := func() (m fenceMessage) {
				t.Helper()
				if err := decoder.Decode(&m); err != nil || m.Error != "" {
					t.Fatalf("the client says %+v, %v", m, err)
				}
				return m
			}
			if m := receive(); m.Process == 0 {
				t.Errorf("the client begins with %+v, want its process", m)
			}
			for _, captured := range []bool{true, false} {
				_, bulk := o.(*streamer)
				job := fenceJob{Captured: captured, Conns: 2, Bulk: bulk, Time: 50 * time.Millisecond}
				if err := json.NewEncoder(jobs).Encode(job); err != nil {
					t.Fatal(err)
				}
				if m := receive(); !m.Begin {
					t.Errorf("captured %t: the client says %+v, want the begin", captured, m)
				}
				if m := receive(); m.Elapsed < job.Time {
					t.Errorf("captured %t: the measurement ended after %v, want %v", captured, m.Elapsed, job.Time)
				}
			}
			jobs.Close()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFenceClientTellsErrors checks that a refused connection fails the measurement.
func TestFenceClientTellsErrors(t *testing.T) {
	t.Parallel()
	proxy := connectProxy(t, "another.test:1", netip.AddrPort{})
	j := fenceJob{Conns: 1, Time: time.Millisecond}
	for name, run := range map[string]func(netip.AddrPort, string, func()) (int64, time.Duration, error){"connect": j.connect, "bulk": j.bulk} {
		if _, _, err := run(proxy, fenceOrigin+":80", func() {}); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("%s: %v, want an error with 403", name, err)
		}
	}
}

func TestFenceFigures(t *testing.T) {
	t.Parallel()
	r := &run{Candidates: []string{fencedName, comparedName}, Subject: fencedName, Base: comparedName}
	for name, value := range map[string]float64{fencedName: 6, comparedName: 9} {
		r.add(fenceStartName, fenceStartTitle, fenceStartMetrics(), name, 0, readings{mAdded: value})
	}
	var table strings.Builder
	if err := r.writeTable(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"the ratio to the column compared", "| 6.00 ms ×1.50 (1.50–1.50) | 9.00 ms  | ≥ ×1.25 met |"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
}

func TestFenceOptions(t *testing.T) {
	t.Parallel()
	if o, err := parseOptions([]string{"-fence"}); err != nil || !o.fence {
		t.Errorf("-fence: %+v, %v", o, err)
	}
	for _, args := range [][]string{{"-fence", "-peer", "squid"}, {"-fence", "-svg", "x"}} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
	if err := runFence(t.Context(), []string{"other"}); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("serve-fence other: %v, want its usage", err)
	}
}
