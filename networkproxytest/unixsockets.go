// The check of the header field x-unix-socket, which names a service of this
// machine. Most platforms do not support it.

package networkproxytest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/networkproxy"
)

func checkUnixSockets(t testing.TB, start Start) {
	t.Helper()
	dir, err := os.MkdirTemp("", "np") // paths in t.TempDir are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	secret, listed, link := filepath.Join(dir, "secret"), filepath.Join(dir, "listed"), filepath.Join(dir, "link")
	l, err := net.Listen("unix", secret)
	if err != nil {
		t.Fatal(err)
	}
	service := serveOn(t, l, func(c net.Conn) {
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	if err := os.Symlink(secret, link); err != nil {
		t.Logf("symbolic links are not tested: %v", err)
	}

	r := startProxy(t, start, networkproxy.PolicyConfig{AllowedDomains: []string{"127.0.0.1"}, AllowUnixSockets: []string{listed}}, networkproxy.ModeFull)
	o := newOrigin(t)
	addrs := []string{r.session.HTTPAddr()}
	if !requiresSession(t, r.Handle) {
		addrs = append(addrs, r.HTTPAddr())
	}
	for _, paths := range [][]string{
		{secret}, {link}, {secret, secret}, {listed, secret}, {"", secret}, {filepath.Join(dir, "x") + "/../secret"}, {listed + "/../secret"},
		{"/" + secret}, {"/./" + secret}, {secret + "/"}, {"unix://" + secret}, {"@" + secret}, {listed + ", " + secret}, {listed + "\x00" + secret},
		{strings.ToUpper(listed)}, {dir}, {"/"}, {"secret"}, {"~/secret"},
	} {
		var fields []string
		for _, p := range paths {
			fields = append(fields, "x-unix-socket: "+p)
		}
		for _, addr := range addrs {
			if out, _, _ := forwardVia(addr, fields...)(t, o.addr); out.reached {
				t.Errorf("x-unix-socket: %q: %s, want a refusal", paths, out.text)
			}
			if out, _, _ := connectVia(addr, fields...)(t, o.addr); out.reached {
				t.Errorf("CONNECT with x-unix-socket: %q: %s, want a refusal", paths, out.text)
			}
		}
	}
	if n := service.accepted(); n > 0 {
		t.Errorf("the unlisted socket received %d connections", n)
	}
	if requests, _ := o.received(); len(requests) > 0 {
		t.Errorf("the origin received %v, which named a socket", requests)
	}
}
