// Unix sockets: x-unix-socket names a service of this machine, which most
// platforms do not carry at all.

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

func unlistedSocketsAreRefused(t testing.TB, start Start) {
	t.Helper()
	dir, err := os.MkdirTemp("", "np") // t.TempDir is too long for a socket's path
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
		t.Logf("no symbolic links here: %v", err)
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
			if a, _, _ := forwardVia(addr, fields...)(t, o.addr); a.reached {
				t.Errorf("x-unix-socket: %q: %s", paths, a.text)
			}
			if a, _, _ := connectVia(addr, fields...)(t, o.addr); a.reached {
				t.Errorf("CONNECT with x-unix-socket: %q: %s", paths, a.text)
			}
		}
	}
	if n := service.accepted(); n > 0 {
		t.Errorf("the socket that is not listed was connected to %d times", n)
	}
	if requests, _ := o.received(); len(requests) > 0 {
		t.Errorf("the origin got %v, which was for a socket", requests)
	}
}
