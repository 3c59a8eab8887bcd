package httpproxy_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy/internal/gatetest"
	"example.com/networkproxy/internal/httprule"
	"example.com/networkproxy/internal/policy"
)

// FuzzOpenedRequests sends bytes through an opened tunnel in limited mode, to a host with
// rules. Whatever reaches the origin server is, as net/http reads it, a request that the
// mode and the rules permit, for the host of the tunnel.
func FuzzOpenedRequests(f *testing.F) {
	const host = "Host: a.test\r\n"
	for _, s := range []string{
		"GET /v1/x HTTP/1.1\r\n" + host + "\r\n",
		"GET /v2/x HTTP/1.1\r\n" + host + "\r\n",
		"POST /v1/x HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabcGET /v1/y HTTP/1.1\r\n" + host + "\r\n",
		"GET /v1/../v2 HTTP/1.1\r\n" + host + "\r\n", "GET /v1/%2e%2e/v2 HTTP/1.1\r\n" + host + "\r\n", "GET //v1/x HTTP/1.1\r\n" + host + "\r\n",
		"GET http://a.test/v1/x HTTP/1.1\r\n" + host + "\r\n", "GET http://b.test/v1/x HTTP/1.1\r\n" + host + "\r\n",
		"GET /v1/x HTTP/1.1\r\nHost: b.test\r\n\r\n", "GET /v1/x HTTP/1.1\r\n" + host + "Host: b.test\r\n\r\n",
		"GET /v1/x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n",
		"GET /v1/x HTTP/1.0\r\n\r\n", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "CONNECT a.test:443 HTTP/1.1\r\n" + host + "\r\n",
		"GET /v1/x HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET /v1/x HTTP/1.1\r\n" + host + "X-HTTP-Method-Override: POST\r\n\r\n",
		"POST /v1/git-upload-pack HTTP/1.1\r\n" + host + "Content-Type: application/x-git-upload-pack-request\r\nContent-Length: 4\r\n\r\n0000",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	rule, problems := httprule.Parse(&httprule.Spec{Host: "a.test", Methods: []string{"*"}, PathPrefixes: []string{"/v1"}})
	if len(problems) > 0 {
		f.Fatal(problems)
	}
	rules := httprule.NewSet([]*httprule.Rule{rule})
	l := newOpenedLab(f)
	l.Install(func(p *policy.Policy) {
		p.Inspection = &policy.Inspection{Hooks: gatetest.RuleSets(f, "mitm_hooks", "rule")[0], Rules: rules}
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		l.t = t
		if len(data) == 0 {
			return
		}
		var got bytes.Buffer
		s := newPlainOrigin(t, &got)
		l.lead("a.test", s.Addr())
		c, response := l.connect("a.test:443")
		if !strings.HasPrefix(response, "HTTP/1.1 200") {
			t.Fatal(response)
		}
		c.Write(data)
		c.(*net.TCPConn).CloseWrite()
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("%q: %v", data, err)
		}
		c.Close()
		s.Close()
		target := l.target("a.test")
		for br := bufio.NewReader(&got); ; {
			r, err := http.ReadRequest(br)
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatalf("%q: the origin server got something that is no request: %v", data, err)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil && err != io.ErrUnexpectedEOF {
				t.Fatalf("%q: the origin server got a body that cannot be read: %v", data, err)
			}
			if r.Host != "a.test:443" && r.Host != "a.test" {
				t.Fatalf("%q: the origin server got a request for %q", data, r.Host)
			}
			q := &httprule.Request{Method: r.Method, Target: r.RequestURI, Header: r.Header}
			content, ok := httprule.ReadOnly(q)
			if !ok || !rules.For(target).Judge(q).Allowed {
				t.Fatalf("%q: the origin server got %s %s", data, r.Method, r.RequestURI)
			}
			if _, err := content.Check(r.Header, bytes.NewReader(body)); err != nil && content != httprule.ContentAny {
				t.Fatalf("%q: the origin server got the body %q", data, body)
			}
		}
	})
}
