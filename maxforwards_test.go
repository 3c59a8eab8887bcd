// Tests of Max-Forwards (RFC 9110 section 7.6.2) on every path, and of the
// response to TRACE.

package networkproxy_test

import (
	"bufio"
	"encoding/base64"
	"io"
	"net"
	"strings"
	"testing"

	"example.com/networkproxy"
)

func TestMaxForwards(t *testing.T) {
	t.Parallel()
	const (
		direct      = "direct"
		plain       = "upstream proxy without credentials"
		credentials = "upstream proxy with credentials"
		socket      = "upstream proxy, upgrade in a tunnel"
	)
	for _, test := range []struct {
		name, route, method string
		fields              []string
		status              int
		forwarded           string // the field that is forwarded; "-": the request is forwarded without it; empty: it is not forwarded
	}{
		{"the last TRACE", direct, "TRACE", []string{"Max-Forwards: 0"}, 200, ""},
		{"the last TRACE", plain, "TRACE", []string{"Max-Forwards: 0"}, 200, ""},
		{"the last TRACE", credentials, "TRACE", []string{"Max-Forwards: 0"}, 200, ""},
		{"the last TRACE, upgrading", socket, "TRACE", []string{"Max-Forwards: 0", "Connection: Upgrade", "Upgrade: websocket"}, 200, ""},
		{"the last trace in lower case", credentials, "trace", []string{"Max-Forwards: 0"}, 200, ""},
		{"the last OPTIONS", direct, "OPTIONS", []string{"Max-Forwards: 0"}, 200, ""},
		{"the last OPTIONS, with more digits", credentials, "OPTIONS", []string{"Max-Forwards: 000"}, 200, ""},
		{"one more", direct, "TRACE", []string{"Max-Forwards: 1"}, 200, "0"},
		{"one more, named in Connection", direct, "TRACE", []string{"Max-Forwards: 1", "Connection: Max-Forwards"}, 200, "0"},
		{"one more in lower case", plain, "OPTIONS", []string{"max-forwards: 01"}, 200, "0"},
		{"one more to a proxy", plain, "TRACE", []string{"Max-Forwards: 2"}, 200, "1"},
		{"more than numbers hold", direct, "OPTIONS", []string{"Max-Forwards: 99999999999999999999999"}, 200, "2147483646"},
		{"no limit", direct, "TRACE", nil, 200, "-"},
		{"no limit", plain, "TRACE", nil, 200, "-"},
		{"no limit", credentials, "OPTIONS", nil, 200, "-"},
		{"TRACE that would show credentials", credentials, "TRACE", nil, 501, ""},
		{"TRACE that would show credentials at the next proxy", credentials, "TRACE", []string{"Max-Forwards: 1"}, 501, ""},
		{"TRACE that would show credentials, in lower case", credentials, "trace", nil, 501, ""},
		{"not a number", direct, "TRACE", []string{"Max-Forwards: -1"}, 400, ""},
		{"nothing", direct, "OPTIONS", []string{"Max-Forwards:"}, 400, ""},
		{"two", direct, "TRACE", []string{"Max-Forwards: 5", "Max-Forwards: 0"}, 400, ""},
		{"a list", direct, "TRACE", []string{"Max-Forwards: 5, 0"}, 400, ""},
		{"other methods ignore it", direct, "GET", []string{"Max-Forwards: 0"}, 200, "0"},
		{"other methods ignore it", credentials, "DELETE", []string{"Max-Forwards: x"}, 200, "x"},
	} {
		t.Run(test.name+", "+test.method+", "+test.route, func(t *testing.T) {
			t.Parallel()
			headers := make(chan string, 4)
			l := newLab(t)
			config := allow("o.example")
			config.Enabled, config.AllowUpstreamProxy = true, true
			serve := func(c *net.TCPConn) {
				head := readHeader(bufio.NewReader(c))
				if head == "" {
					return
				}
				headers <- head
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
			l.run(networkproxy.NewBuilder().Config(config), func(b *networkproxy.Builder) {
				switch test.route {
				case plain:
					b.UpstreamEnviron([]string{"ALL_PROXY=proxy.example:3128"})
				case credentials, socket:
					b.UpstreamEnviron([]string{"ALL_PROXY=user:secret@proxy.example:3128"})
				}
			})
			if test.route == direct {
				l.serve("o.example", 80, serve)
			} else {
				l.serve("proxy.example", 3128, serve)
			}

			w := l.dialHTTP(t)
			w.request(test.method, "http://o.example/x", append(test.fields, "Authorization: s3cret", "X-Seen: yes")...)
			got := w.readResponse(test.method)
			if got.StatusCode != test.status {
				t.Errorf("got %s %s, want %d", got.Status, got.body, test.status)
			}
			var head string
			select {
			case head = <-headers:
			default:
			}
			switch value, has := headerField(head, "Max-Forwards"); {
			case test.forwarded == "" && head != "":
				t.Errorf("the request was forwarded, want no request:\n%s", head)
			case test.forwarded == "-" && (head == "" || has):
				t.Errorf("the forwarded request has a Max-Forwards field:\n%s", head)
			case test.forwarded != "" && test.forwarded != "-" && value != test.forwarded:
				t.Errorf("got Max-Forwards %q, want %q, in\n%s", value, test.forwarded, head)
			}
		})
	}
}

// The response to TRACE contains the request without its credentials.
func TestTraceShowsNoCredentials(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	session, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{SharedPort: true})
	if err != nil {
		t.Fatal(err)
	}
	w := l.dialHTTP(t)
	w.request("TRACE", "http://o.example/x?y", "Max-Forwards: 0", "X-Seen: yes", "Proxy-Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte("session:"+session.Token())),
		"AUTHORIZATION: s3cret", "Cookie: s3cret", "cookie2: s3cret", "Proxy-Foo: s3cret", "X-Api-Key: s3cret", "X-Auth-Token: s3cret",
		"X-Csrf: s3cret", "X-Amz-Security-Token: s3cret", "Signature: s3cret")
	got := w.readResponse("TRACE")
	want := "TRACE http://o.example/x?y HTTP/1.1\r\nHost: o.example\r\nMax-Forwards: 0\r\nX-Seen: yes\r\n\r\n"
	if got.StatusCode != 200 || got.Header.Get("Content-Type") != "message/http" || got.body != want {
		t.Errorf("%s %v\n%q, want\n%q", got.Status, got.Header, got.body, want)
	}
}

// headerField returns the value of a field in the text of a header.
func headerField(head, name string) (value string, found bool) {
	for line := range strings.SplitSeq(head, "\r\n") {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}
