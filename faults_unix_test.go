//go:build unix

// A shortage of descriptors, in a process of its own.

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

// starved is the environment variable that makes TestDescriptorsRunOut the
// process that has few descriptors; its value is the origin's address.
const starved = "NETWORKPROXY_TEST_STARVED"

// TestDescriptorsRunOut: with all descriptors taken, a request that needs one
// is told so, what is open goes on, nothing spins, and when there are some
// again everything works.
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
			t.Errorf("the process that ran out: %v", err)
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
		t.Fatalf("to begin with: %d", status)
	}
	// A handler's goroutine may outlive its connection by a moment.
	var before counts
	eventually(t, "nothing under way", func() bool {
		last := before
		before = count()
		return before == last && before.clients == 0
	})

	served := dialRaw(t, addr) // accepted, and so served whatever comes
	served.get("http://miss.example/")
	if a := served.readResponse("GET"); a.StatusCode != 403 {
		t.Fatalf("to begin with: %s", a.Status)
	}
	var crowd []net.Conn
	for range 100 {
		crowd = append(crowd, dialRaw(t, addr))
	}
	eventually(t, "a request that wants for a descriptor", func() bool {
		served.get("http://ok.example/")
		a := served.readResponse("GET")
		if a.StatusCode == 502 && a.refusal(t).Reason == "connect_failure" {
			return true
		}
		if a.StatusCode != 200 {
			t.Fatalf("%s %s", a.Status, a.body)
		}
		return false
	})
	served.get("http://miss.example/")
	if a := served.readResponse("GET"); a.StatusCode != 403 {
		t.Errorf("a refusal, which needs no descriptor: %s", a.Status)
	}

	served.Close()
	for _, c := range crowd {
		c.Close()
	}
	// Some of the crowd may be ahead in the listen queue, closed as they are,
	// and take the descriptors once more.
	eventually(t, "a request that is served afterwards", func() bool { return get() == 200 })
	eventually(t, "everything is as it was", func() bool {
		after := count()
		return after.clients == 0 && after.targets <= before.targets &&
			after.descriptors <= before.descriptors && after.goroutines <= before.goroutines
	})
}

// counts is what the process that has few descriptors tells about itself.
type counts struct{ clients, targets, descriptors, goroutines int }

const countsFormat = "clients %d targets %d descriptors %d goroutines %d\n"

func readLine(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("the process that runs out has ended: %q, %v", s, err)
	}
	return s
}

// runStarved serves with few descriptors, and tells its counts when asked.
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
		t.Error("accept has never failed: the test shows nothing")
	}
}

// openDescriptors counts without opening one.
func openDescriptors() (n int) {
	var st syscall.Stat_t
	for fd := range 64 {
		if syscall.Fstat(fd, &st) == nil {
			n++
		}
	}
	return n
}
