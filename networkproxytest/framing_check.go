// The check of the framing cases.

package networkproxytest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy"
)

// checkFraming sends all framing cases to the HTTP listeners.
func checkFraming(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	addrs := []string{r.session.HTTPAddr()}
	if !requiresSession(t, r.Handle) {
		addrs = append(addrs, r.HTTPAddr())
	}
	for _, f := range FramingCases() {
		for _, addr := range addrs {
			f.check(t, addr)
		}
	}
}

func (f FramingCase) check(t testing.TB, addr string) {
	t.Helper()
	o := newOrigin(t)
	fill := func(text string) string { return strings.ReplaceAll(text, "{origin}", o.addr) }
	c := dial(t, addr)
	defer c.Close()
	send(c, fill(f.Send))
	if f.HalfClose {
		c.CloseWrite()
	}
	list, err := statuses(c, f.Send)
	if err != nil {
		t.Errorf("%s: after responses with statuses %v: %v", f.Name, list, err)
	}
	if !slices.Equal(list, f.Statuses) {
		t.Errorf("%s: statuses %v, want %v", f.Name, list, f.Statuses)
	}
	requests, faults := o.received()
	if len(faults) > 0 {
		t.Errorf("%s: the origin received malformed requests: %q", f.Name, faults)
	}
	var got, want []string
	for _, r := range requests {
		got = append(got, r.String())
	}
	for _, r := range f.Forwarded {
		want = append(want, fill(r))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: the origin received %q, want %q", f.Name, got, want)
	}
}

// statuses returns the statuses of the final responses on a connection, up to its
// end.
func statuses(c net.Conn, sent string) ([]int, error) {
	var list []int
	br := bufio.NewReader(c)
	method := http.MethodGet
	if strings.HasPrefix(sent, "CONNECT {origin}") {
		method = http.MethodConnect
	}
	for {
		if _, err := br.Peek(1); err != nil {
			if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
				return list, fmt.Errorf("the connection is still open")
			}
			return list, nil // both EOF and a reset end the connection
		}
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return list, err
		}
		method = http.MethodGet
		if resp.StatusCode < 200 {
			continue
		}
		list = append(list, resp.StatusCode)
		if resp.Request.Method == http.MethodConnect && resp.StatusCode == http.StatusOK {
			continue
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return list, err
		}
	}
}
