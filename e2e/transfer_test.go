//go:build e2e && linux

// This file tests transfers of 1 GiB and hundreds of concurrent requests.

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

const gibibyte = 1 << 30

// maxResident is the limit of the program's memory after it has transferred many times
// as much. It is generous because of the race detector.
const maxResident = 256 << 20

// TestLargeTransfers transfers 1 GiB each way with curl, forwarded and through a
// tunnel. It is not parallel because it would slow down tests with timeouts.
func TestLargeTransfers(t *testing.T) {
	want, err := digestOf(stream(gibibyte))
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, config{Allowed: []string{"allowed.example"}})
	for _, route := range []struct{ name, flag string }{
		{"forwarded", "--silent"},
		{"through CONNECT", "--proxytunnel"},
	} {
		t.Run("down "+route.name, func(t *testing.T) {
			cmd := p.command(t.Context(), "curl", "-sS", route.flag, fmt.Sprint("http://allowed.example/stream/", gibibyte))
			if got := digestOutput(t, cmd); got != want {
				t.Errorf("curl received %s, want %s", got, want)
			}
		})
		t.Run("up "+route.name, func(t *testing.T) {
			cmd := p.command(t.Context(), "curl", "-sS", route.flag, "-T", "-", "http://allowed.example/digest")
			cmd.Stdin = stream(gibibyte)
			if got := strings.TrimSpace(harness.Run(t, cmd).MustSucceed(t).Stdout); got != want {
				t.Errorf("the origin received %s, want %s", got, want)
			}
		})
	}
	if got := peakMemory(t, p); got > maxResident {
		t.Errorf("the program used up to %d bytes of memory, want at most %d", got, maxResident)
	}
}

// digestOutput runs cmd and returns the digest of its output.
func digestOutput(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	digest, readErr := digestOf(stdout)
	if err := cmd.Wait(); err != nil || readErr != nil {
		t.Fatalf("%s: %v, %v\n%s", cmd, err, readErr, &stderr)
	}
	return digest
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMemory returns the largest resident set size of the program so far, in bytes.
func peakMemory(t *testing.T, p *program) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := highWater.FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmHWM in %s", status)
	}
	kib, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// TestTransfersWithTLS makes smaller transfers over TLS with several clients.
func TestTransfersWithTLS(t *testing.T) {
	t.Parallel()
	const size = 32 << 20
	want, err := digestOf(stream(size))
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, config{Allowed: []string{"allowed.example"}})
	url := fmt.Sprint("https://allowed.example/stream/", size)
	for name, cmd := range map[string]*exec.Cmd{
		"curl": p.command(t.Context(), "curl", "-sS", url),
		"wget": p.command(t.Context(), "wget", "-q", "--ca-certificate="+lab.ca.file, "-O", "-", url),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := digestOutput(t, cmd); got != want {
				t.Errorf("%s received %s, want %s", name, got, want)
			}
		})
	}
	t.Run("net-http up", func(t *testing.T) {
		t.Parallel()
		transport := p.transport()
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), "PUT", "https://allowed.example/digest", stream(size))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("the origin received %q (%v), want %s", got, err, want)
		}
	})
}

// parallelRequests is the number of concurrent requests. The origin responds only after
// the last has arrived.
const parallelRequests = 500

func TestParallelRequests(t *testing.T) {
	p := start(t, config{Allowed: []string{"allowed.example"}})
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			transport := p.transport()
			defer transport.CloseIdleConnections()
			client := http.Client{Transport: transport, Timeout: 2 * timeout}
			group := lab.unique("go")
			var wg sync.WaitGroup
			for i := range parallelRequests {
				wg.Go(func() {
					item := strconv.Itoa(i)
					resp, err := client.Get(fmt.Sprintf("%s://allowed.example/group/%s/%d/%s", scheme, group, parallelRequests, item))
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					body, err := io.ReadAll(resp.Body)
					if want := groupBody(group, item); err != nil || string(body) != want {
						t.Errorf("request %s: %d %q, %v; want %q", item, resp.StatusCode, body, err, want)
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestParallelCurl makes as many requests with one curl, 300 at a time, which is curl's
// own limit.
func TestParallelCurl(t *testing.T) {
	p := start(t, config{Allowed: []string{"allowed.example"}})
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			dir, group := t.TempDir(), lab.unique("curl")
			var urls strings.Builder
			for i := range parallelRequests {
				fmt.Fprintf(&urls, "url = %q\noutput = %q\n",
					fmt.Sprintf("%s://allowed.example/group/%s-%d/1/%d", scheme, group, i, i),
					filepath.Join(dir, strconv.Itoa(i)))
			}
			list := filepath.Join(t.TempDir(), "urls")
			if err := os.WriteFile(list, []byte(urls.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			p.run(t, "curl", "-sS", "--http1.1", "--parallel", "--parallel-immediate", "--parallel-max", "300", "-K", list).MustSucceed(t)
			for i := range parallelRequests {
				got, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i)))
				want := groupBody(fmt.Sprintf("%s-%d", group, i), strconv.Itoa(i))
				if err != nil || string(got) != want {
					t.Errorf("request %d: %q, %v; want %q", i, got, err, want)
				}
			}
		})
	}
}
