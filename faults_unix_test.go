//go:build unix

// Test of a process without free file descriptors.

package networkproxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"example.com/networkproxy"
)

// starved is the environment variable that makes TestDescriptorsRunOut act as the
// process with few descriptors. Its value is the origin server's address.
const starved = "NETWORKPROXY_TEST_STARVED"

// TestDescriptorsRunOut takes all descriptors. Requests that need one fail with an
// explanation, open connections continue, nothing spins, and everything works
// again when descriptors are free.
func TestDescriptorsRunOut(t *testing.T) {
	if origin := os.Getenv(starved); origin != "" {
		runStarved(t, origin)
		return
	}
	t.Parallel()
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		io.WriteString(w, "ok")
	})}
	go s.Serve(origin)
	t.Cleanup(func() { s.Close() })

	child := exec.Command(os.Args[0], "-test.run=^TestDescriptorsRunOut$")
	child.Env = append(os.Environ(), starved+"="+origin.Addr().String())
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		if err := child.Wait(); err != nil {
			t.Errorf("the process with few descriptors: %v", err)
		}
	}()
	lines := bufio.NewReader(out)
	addr := strings.TrimSpace(readLine(t, lines))
	count := func() (c counts) {
		io.WriteString(in, "count\n")
		line := readLine(t, lines)
		if _, err := fmt.Sscanf(line, countsFormat, &c.clients, &c.targets, &c.descriptors, &c.goroutines); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return c
	}
	get := func() (status int) {
		w := dialRaw(t, addr)
		defer w.Close()
		w.get("http://ok.example/", "Connection: close")
		return w.readResponse("GET").StatusCode
	}
	if status := get(); status != 200 {
		t.Fatalf("before the shortage: got %d", status)
	}
	// A handler's goroutine may end slightly after its connection.
	var before counts
	eventually(t, "no open request", func() bool {
		last := before
		before = count()
		return before == last && before.clients == 0
	})

	served := dialRaw(t, addr) // already accepted, so it is served during the shortage
	served.get("http://miss.example/")
	if a := served.readResponse("GET"); a.StatusCode != 403 {
		t.Fatalf("before the shortage: got %s", a.Status)
	}
	var crowd []net.Conn
	for range 100 {
		crowd = append(crowd, dialRaw(t, addr))
	}
	eventually(t, "a request that lacks a descriptor", func() bool {
		served.get("http://ok.example/")
		a := served.readResponse("GET")
		if a.StatusCode == 502 && a.refusal(t).Reason == "connect_failure" {
			return true
		}
		if a.StatusCode != 200 {
			t.Fatalf("got %s %s", a.Status, a.body)
		}
		return false
	})
	served.get("http://miss.example/")
	if a := served.readResponse("GET"); a.StatusCode != 403 {
		t.Errorf("a refusal, which needs no descriptor: got %s", a.Status)
	}

	served.Close()
	for _, c := range crowd {
		c.Close()
	}
	// Closed connections may still be in the listen queue and take descriptors
	// again.
	eventually(t, "a request is served after the shortage", func() bool { return get() == 200 })
	eventually(t, "the counts are the same as before", func() bool {
		after := count()
		return after.clients == 0 && after.targets <= before.targets &&
			after.descriptors <= before.descriptors && after.goroutines <= before.goroutines
	})
}

// counts is the report of the process with few descriptors.
type counts struct{ clients, targets, descriptors, goroutines int }

const countsFormat = "clients %d targets %d descriptors %d goroutines %d\n"

func readLine(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("the process with few descriptors has ended: %q, %v", s, err)
	}
	return s
}

// runStarved serves with few descriptors and prints its counts on request.
func runStarved(t *testing.T, origin string) {
	to, err := net.ResolveTCPAddr("tcp", origin)
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	b := networkproxy.NewBuilder()
	config := allow("ok.example")
	config.Enabled = true
	l.run(b.Config(config), nil)
	l.mapHost("ok.example", 80, to)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = 40
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	fmt.Println(l.HTTPAddr())
	in := bufio.NewReader(os.Stdin)
	for {
		if _, err := in.ReadString('\n'); err != nil {
			break
		}
		fmt.Printf(countsFormat, l.LiveClients(), l.LiveTargets(), openDescriptors(), runtime.NumGoroutine())
	}
	if !strings.Contains(l.log.String(), "accept failed") {
		t.Error("accept never failed, so there was no shortage")
	}
}

// openDescriptors counts the open descriptors without opening one.
func openDescriptors() (n int) {
	var st syscall.Stat_t
	for fd := range 64 {
		if syscall.Fstat(fd, &st) == nil {
			n++
		}
	}
	return n
}
