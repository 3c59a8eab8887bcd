// Tests that secrets in requests do not appear in logs, records, metrics and
// errors.

package networkproxy_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// secret is part of every value that must not appear.
const secret = "S3cr3tM4rker"

// TestLogsCarryNoSecrets sends secrets in every part of a request, with every
// protocol and every outcome.
func TestLogsCarryNoSecrets(t *testing.T) {
	t.Parallel()
	var jsonLog testnet.Buffer
	var auditLog bytes.Buffer // read after the end of the proxy only
	var all events
	adminToken := secret + "-of-the-admin"
	l := start(t, withSOCKS(allow("*.example")), func(b *networkproxy.Builder) {
		debug := &slog.HandlerOptions{Level: slog.LevelDebug}
		text := newLab(t).log
		b.Logger(slog.New(both{slog.NewTextHandler(text, debug), slog.NewJSONHandler(&jsonLog, debug)})).
			AdminToken(adminToken).AuditLog(&auditLog).OnEvent(all.add).
			PolicyDecider(func(_ context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
				if r.Host == "panic.test" {
					panic("no")
				}
				return networkproxy.Deny("no\x1b[31m\x00\r\nforged=1"), nil
			})
		t.Cleanup(func() { checkLog(t, text.String()) })
	})
	jsonLog.Flush = func() { networkproxy.FlushLog(l.Handle) }
	l.scripted("o.example", emptyResponse)
	l.mapHost("tunnel.example", 443, testnet.Echo(t).Addr())
	l.dns.Set("gone.example", testnet.NXDomain())
	for i, response := range []string{
		"HTTP/1.1 200 OK\r\nSet-Cookie " + secret + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nSet-Cookie: \x00" + secret + "\x1b[2J\r\n\r\n",
		"HTTP/1.1 " + secret + "\r\n\r\n",
		secret + "\x1b[2J\r\n\r\n",
		"HTTP/1.1 200 OK\r\n " + secret + "\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\nSet-Cookie: " + secret + "\r\n\r\n",
	} {
		l.serve(fmt.Sprintf("odd%d.example", i), uint16(8000+i), func(c *net.TCPConn) {
			c.Read(make([]byte, 4096))
			io.WriteString(c, response)
			c.CloseWrite()
			io.Copy(io.Discard, c)
		})
	}
	session, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: "curl"}})
	if err != nil {
		t.Fatal(err)
	}

	basic := base64.StdEncoding.EncodeToString([]byte("user:" + secret))
	fields := []string{
		"Authorization: Bearer " + secret, "Proxy-Authorization: Basic " + basic, "Cookie: a=" + secret,
		"X-Api-Key: " + secret, "X-Unix-Socket: ",
	}
	send := func(text string) {
		w := l.dialHTTP(t)
		w.send(text)
		w.CloseWrite()
		w.readAll()
		w.Close()
	}
	query := "/p?token=" + secret + "&" + secret
	// The rest of a request: with and without credentials for the proxy, which nobody
	// has, an upgrade, and a body.
	var rests []string
	for _, body := range []string{"", secret} {
		length := fmt.Sprint("Content-Length: ", len(body))
		for _, f := range [][]string{fields[:1], fields} {
			rests = append(rests, lines(slices.Concat(f, []string{length}))+"\r\n"+body,
				lines(slices.Concat(f, []string{"Connection: Upgrade", "Upgrade: x", length}))+"\r\n"+body)
		}
	}
	for _, host := range []string{
		"o.example", "gone.example", "closed.example:81", "no.test", "panic.test", "127.0.0.1", "a..example",
		"odd0.example:8000", "odd1.example:8001", "odd2.example:8002", "odd3.example:8003", "odd4.example:8004", "odd5.example:8005",
		"user:" + secret + "@o.example", secret + "@o.example", "o.example:" + secret, "o.example:port" + secret,
	} {
		for _, rest := range rests {
			send("POST http://" + host + query + " HTTP/1.1\r\nHost: o.example\r\n" + rest)
		}
	}
	for _, target := range []string{
		"tunnel.example:443", "no.test:443", "gone.example:443", "user:" + secret + "@o.example:443", "o.example:443?" + secret,
		"o.example:443/" + secret, "http://o.example" + query, "o.example:443#" + secret,
	} {
		send("CONNECT " + target + " HTTP/1.1\r\nHost: o.example\r\n" + lines(fields[2:]) + "\r\n" + secret)
	}
	// Malformed requests.
	for _, text := range []string{
		"GET " + query + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://o.example" + query + "\r\n\r\n",
		"GET http://o.example" + query + " x HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://o.example" + query + " HTTP/9.9\r\nHost: x\r\n\r\n",
		"GET http://o.example" + query + "%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://o.ex%zzample" + query + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://o.example:" + secret + "/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET https://o.example" + query + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET ftp://u:" + secret + "@o.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http:" + secret + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://o.example/ HTTP/1.1\r\nHost: x\r\nAuthorization Bearer " + secret + "\r\n\r\n",
		"GET http://o.example/ HTTP/1.1\r\nHost: x\r\nAuthorization Bearer " + secret + ": 1\r\n\r\n",
		"GET http://o.example/ HTTP/1.1\r\nHost: u:" + secret + "@x\r\n\r\n",
		"GET http://o.example/ HTTP/1.1\r\nHost: x\r\nCookie: \x00" + secret + "\r\n\r\n",
		"GET http://o.example/ HTTP/1.1\r\nHost: x\r\nCookie: a\n" + secret + "\r\n\r\n",
		"GET http://o.example/ HTTP/1.1\r\nHost: x\r\n " + secret + "\r\n\r\n",
		secret + "\r\n\r\n", "\x16\x03\x01" + secret, "\x05\x01\x00" + secret,
		"GET http://\x1b[2Jo.example/?" + secret + " HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		send(text)
	}
	// SOCKS5: passwords and invalid names.
	for _, text := range []string{
		"\x05\x01\x02\x01\x04user" + string(rune(len(secret))) + secret,
		"\x04\x01" + secret, "GET /?" + secret + " HTTP/1.1\r\n\r\n",
	} {
		c := l.dialSOCKS()
		io.WriteString(c, text)
		c.CloseWrite()
		io.Copy(io.Discard, c)
	}
	for _, name := range []string{"user:" + secret + "@o.example", "o.example/?" + secret, "no.test", "gone.example", "\x1b[2J.example"} {
		for _, command := range []byte{socksConnect, socksBind} {
			l.socksRequest(command, socksDestName(name, 80))
		}
	}
	u := l.associate()
	u.send(socksDestName("user:"+secret+"@o.example", 53), secret)
	u.send(socksDestName("no.test", 53), secret)
	// A session's token: correct, wrong, and on another session's listener.
	wrong := secret + strings.Repeat("x", len(session.Token())-len(secret))
	for _, token := range []string{session.Token(), wrong, secret} {
		c := "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("session:"+token))
		for _, host := range []string{"o.example", "no.test", "gone.example"} {
			send("GET http://" + host + query + " HTTP/1.1\r\nHost: x\r\n" + c + "\r\n\r\n")
		}
	}
	// The host's own requests.
	client := &http.Client{Transport: l.Transport(networkproxy.Attribution{})}
	for _, url := range []string{"http://no.test" + query, "http://gone.example" + query, "http://u:" + secret + "@no.test/", "ftp://o.example" + query, "http://a..example" + query} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(secret))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", secret)
		_, err = client.Transport.RoundTrip(r)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got the error %v", url, err)
		}
		var refused *networkproxy.RefusedError
		if errors.As(err, &refused) && strings.Contains(fmt.Sprintf("%+v", refused), secret) {
			t.Errorf("%s: the error contains the secret: %+v", url, refused)
		}
	}
	// The admin API, with its token and with wrong ones.
	right := "Authorization: Bearer " + adminToken
	for _, field := range []string{right, "Authorization: Bearer " + secret, "Origin: https://" + secret} {
		for _, path := range []string{"/health", "/explain?url=http://u:" + secret + "@o.example/?" + secret, "/explain?url=" + secret + "://", "/" + secret} {
			l.adminRaw(t, "GET", path, "", field)
		}
		l.adminRaw(t, "POST", "/mode", `{"mode":"`+secret+`"}`, field)
		l.adminRaw(t, "POST", "/reload", secret, field)
	}

	eventually(t, "enough refusals are recorded", func() bool { return len(l.Blocked()) >= 20 }) // refusals of datagrams come later
	for _, path := range []string{"/blocked", "/metrics", "/config", "/health", "/patterns", "/grants"} {
		a := l.adminRaw(t, "GET", path, "", right)
		if a.StatusCode != 200 {
			t.Errorf("%s: got %s, want 200", path, a.Status)
		}
		checkNoSecrets(t, path, a.body, session.Token())
	}
	records, err := json.Marshal([]any{l.Blocked(), session.Blocked(), l.Warnings()})
	if err != nil {
		t.Fatal(err)
	}
	checkNoSecrets(t, "the record", string(records), session.Token())
	for _, b := range l.Blocked() {
		if b.Message == "" {
			t.Errorf("the record lacks a message: %+v", b)
		}
		checkNoSecrets(t, "the record in words", b.Message+b.Hint+b.String(), session.Token())
		if strings.ContainsFunc(b.Host+b.Method+string(b.Reason)+b.Message+b.Hint+b.String(), isControl) {
			t.Errorf("the record has control bytes: %+v", b)
		}
	}
	l.Close()
	checkNoSecrets(t, "the audit log", auditLog.String(), session.Token())
	for _, kind := range []networkproxy.EventKind{
		networkproxy.EventAllowed, networkproxy.EventRefused, networkproxy.EventFailed, networkproxy.EventAsked,
		networkproxy.EventAnswered, networkproxy.EventOpened, networkproxy.EventClosed, networkproxy.EventReload,
	} {
		if all.count(kind) == 0 {
			t.Errorf("there is no event of the kind %s, so the test proves nothing", kind)
		}
	}
	for _, e := range all.all() {
		checkNoSecrets(t, "an event", fmt.Sprintf("%+v", e), session.Token())
	}
	checkNoSecrets(t, "the log as JSON", jsonLog.String(), session.Token())
	checkLog(t, jsonLog.String())
	for line := range strings.Lines(jsonLog.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("the line is not JSON: %s", line)
		}
	}
}

// TestLogValuesHaveNoControlBytes checks that the values have no control bytes
// before the handler escapes them, because not every handler does.
func TestLogValuesHaveNoControlBytes(t *testing.T) {
	t.Parallel()
	var log valueLog
	l := start(t, allow("o.example"), func(b *networkproxy.Builder) {
		b.Resolver(brokenResolver{}).Logger(slog.New(&log))
	})
	w := l.dialHTTP(t)
	w.get("http://o.example/")
	if a := w.readResponse("GET"); a.StatusCode != 502 {
		t.Errorf("got %s, want 502", a.Status)
	}
	l.Close()
	found := false
	for _, v := range log.values {
		found = found || strings.Contains(v, "out of order")
		if strings.ContainsFunc(v, isControl) {
			t.Errorf("the logged value %q has control bytes", v)
		}
	}
	if !found {
		t.Errorf("the log lacks the error: %q", log.values)
	}
}

// brokenResolver fails with control bytes in its error.
type brokenResolver struct{}

func (brokenResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, errors.New("out of order\x1b[2J\r\nlevel=INFO msg=forged\x00\u009b")
}

// valueLog records the values that are logged.
type valueLog struct {
	mu     sync.Mutex
	values []string
}

func (l *valueLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *valueLog) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		l.values = append(l.values, a.Value.String())
		return true
	})
	return nil
}

func (l *valueLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *valueLog) WithGroup(string) slog.Handler      { return l }

// checkLog checks that a log has no secrets, and has the lines that could.
func checkLog(t *testing.T, log string) {
	checkNoSecrets(t, "the log", log, secret)
	for _, what := range []string{"refused", "malformed request", "failed", "tunnel", "no.test", "decider panicked"} {
		if !strings.Contains(log, what) {
			t.Errorf("the log lacks %q, so the test proves nothing", what)
		}
	}
}

// checkNoSecrets checks that text has no secret, and no control byte except at the
// end of a line.
func checkNoSecrets(t *testing.T, name, text, token string) {
	t.Helper()
	for line := range strings.Lines(text) {
		bare := strings.TrimSuffix(line, "\n")
		if strings.Contains(line, secret) || strings.Contains(line, token) ||
			strings.Contains(line, base64.StdEncoding.EncodeToString([]byte("user:"+secret))) || strings.ContainsFunc(bare, isControl) {
			t.Errorf("%s has a secret or a control byte: %q", name, line)
		}
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }

// both is a slog.Handler that calls two handlers.
type both struct{ a, b slog.Handler }

func (h both) Enabled(context.Context, slog.Level) bool { return true }

func (h both) Handle(ctx context.Context, r slog.Record) error {
	return errors.Join(h.a.Handle(ctx, r.Clone()), h.b.Handle(ctx, r))
}

func (h both) WithAttrs(attrs []slog.Attr) slog.Handler {
	return both{h.a.WithAttrs(attrs), h.b.WithAttrs(attrs)}
}

func (h both) WithGroup(name string) slog.Handler {
	return both{h.a.WithGroup(name), h.b.WithGroup(name)}
}
