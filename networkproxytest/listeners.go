// Checks of the listeners and of the admin API.

package networkproxytest

import (
	"bufio"
	"fmt"
	"net/http"
	"net/netip"
	"testing"

	"example.com/networkproxy"
)

func checkLoopback(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, networkproxy.PolicyConfig{}, networkproxy.ModeFull)
	for _, addr := range []string{r.HTTPAddr(), r.AdminAddr(), r.SOCKSAddr(), r.session.HTTPAddr()} {
		if a, err := netip.ParseAddrPort(addr); addr != "" && (err != nil || !a.Addr().IsLoopback()) {
			t.Errorf("a listener has the address %s, want a loopback address", addr)
		}
	}
}

func checkWebPages(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, networkproxy.PolicyConfig{}, networkproxy.ModeFull)
	if r.AdminAddr() == "" {
		return // the proxy has no admin API
	}
	host := "Host: " + r.AdminAddr()
	for _, fields := range [][]string{
		{"Host: rebound.invalid"},
		{"Host: rebound.invalid:8080"},
		{host, "Origin: http://page.invalid"},
		{host, "Origin: null"},
		{host, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"},
		{host, "Sec-Fetch-Site: same-site"},
	} {
		c := dial(t, r.AdminAddr())
		const body = `{"mode":"limited"}`
		send(c, "POST /mode HTTP/1.1\r\n"+fieldLines(fields)+fmt.Sprintf("Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n", len(body))+body)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode/100 != 4 {
			t.Errorf("POST /mode with %q: %v, %v; want status 4xx", fields, resp, err)
		}
		c.Close()
	}
	if m := r.Mode(); m != networkproxy.ModeFull {
		t.Errorf("the requests changed the mode to %s", m)
	}
}
