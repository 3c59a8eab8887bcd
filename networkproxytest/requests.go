// Checks of single requests: allowed traffic, the limited mode, and header fields.

package networkproxytest

import (
	"bufio"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy"
)

// allowOnly returns a policy that allows one address at all ports.
func allowOnly(host string) networkproxy.PolicyConfig {
	return networkproxy.PolicyConfig{AllowedDomains: []string{host}}
}

func checkAllowed(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	for _, p := range r.paths {
		if strings.HasPrefix(p.name, "HTTP") {
			o := newOrigin(t)
			out, _, _ := p.open(t, o.addr)
			got, faults := o.received()
			if !out.reached || len(got) != 1 || len(faults) != 0 {
				t.Errorf("%s: %s; the origin received %q, faults %q; want one request and no fault", p.name, out.text, got, faults)
			}
			continue
		}
		out, c, ok := p.open(t, p.echo(t))
		if !ok || c == nil {
			t.Errorf("%s: %s, want a tunnel", p.name, out.text)
			continue
		}
		if err := echoes(c); err != nil {
			t.Errorf("%s: the tunnel does not echo: %v", p.name, err)
		}
	}
	if list := r.Blocked(); slices.ContainsFunc(list, func(b networkproxy.BlockedRequest) bool { return b.Host == "127.0.0.1" }) {
		t.Errorf("refusals of allowed requests were recorded: %v", list)
	}
}

func checkLimitedMode(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeLimited)
	for _, p := range r.paths {
		if !strings.HasPrefix(p.name, "HTTP") {
			r.refuses(p, newOrigin(t).addr, networkproxy.ReasonMethodNotAllowed)
		}
	}
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get", "Get", "GETT", "QUERY", "UPGRADE"} {
		r.limited(method, slices.Contains([]string{"GET", "HEAD", "OPTIONS"}, method))
	}
	r.limited("GET", false, "Connection: Upgrade", "Upgrade: websocket")
	r.limited("OPTIONS", false, "Connection: keep-alive, upgrade", "Upgrade: h2c, tcp")
	r.limited("GET", true, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__") // an ordinary request
}

// limited sends one request and checks whether the limited mode allows it.
func (r *testProxy) limited(method string, want bool, fields ...string) {
	r.t.Helper()
	o := newOrigin(r.t)
	c := dial(r.t, r.session.HTTPAddr())
	defer c.Close()
	send(c, method+" http://"+o.addr+"/ HTTP/1.1\r\nHost: "+o.addr+"\r\n"+fieldLines(fields)+"\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		r.t.Errorf("%s %q: no response: %v", method, fields, err)
		return
	}
	c.Close()
	got, faults := o.received()
	if passed := resp.StatusCode == http.StatusOK; passed != want || (len(got) > 0) != want || len(faults) > 0 {
		r.t.Errorf("%s %q: %s, the origin received %q, faults %q; want it allowed: %t", method, fields, resp.Status, got, faults, want)
	}
}

func checkProxyFields(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	o := newOrigin(t)
	forward := forwardVia(r.session.HTTPAddr(), "Connection: X-Hop", "X-Hop: 1", "Proxy-Connection: keep-alive", "Proxy-Secret: s", "Keep-Alive: 1", "X-Stays: 1")
	if out, _, _ := forward(t, o.addr); !out.reached {
		t.Errorf("a request with fields for the proxy: %s, want it allowed", out.text)
	}
	shared := r.paths[0] // its requests have the session's token
	if out, _, _ := shared.open(t, o.addr); !out.reached {
		t.Errorf("%s: %s, want it allowed", shared.name, out.text)
	}
	requests, _ := o.received()
	if len(requests) != 2 || !slices.Contains(requests[0].fields, "X-Stays: 1") {
		t.Errorf("the origin received %v, want two requests, the first with X-Stays", requests)
	}
	for _, request := range requests {
		for _, field := range request.fields {
			name, value, _ := strings.Cut(strings.ToLower(field), ":")
			if strings.HasPrefix(name, "proxy-") || slices.Contains([]string{"x-hop", "keep-alive", "x-forwarded-for", "via", "forwarded"}, name) ||
				strings.Contains(value, strings.ToLower(r.session.Token())) {
				t.Errorf("the origin received %q, which is for the proxy only", field)
			}
		}
	}
}
