// Unix sockets as targets: a plain-HTTP request whose x-unix-socket header
// names a path goes to the service that listens there. The path is the
// target; the host of the URL is a Host field for that service and nothing
// else, so neither the lists of hosts nor the decider are asked about it.
//
// The checks, in order: an empty header (400), the platform (501), the header (400), the proxy turned
// off (503), one of the proxy's own sockets, allow_unix_sockets, the mode.
// Only then is there a connection, and its errors.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"example.com/networkproxy/internal/pindial"
)

// unixSocketsSupported is the one place that knows the platform: the sandboxes
// that leave a command no way to a socket but this are macOS's.
const unixSocketsSupported = runtime.GOOS == "darwin"

// socketHeader carries the path, in the canonical case of net/http.
const socketHeader = "X-Unix-Socket"

// maxAskedPath is PATH_MAX of macOS; what can be connected to is shorter still.
const maxAskedPath = 1024

var errSocketUnnamed = errors.New("x-unix-socket is empty: it must name the absolute path of a socket; " +
	"leave the field out to reach the host of the URL")

// toSocket makes the socket that a request names its target. It reports false
// when it has answered the request itself.
func (h *httpProxy) toSocket(w http.ResponseWriter, req *request, paths []string) bool {
	if len(paths) == 1 && paths[0] == "" {
		// An empty field asks for a socket all the same. Falling back to the
		// host would send the request where the client did not mean it to go.
		h.gate.malformed(req.client, req.protocol, errSocketUnnamed)
		writeMalformed(w, req.protocol, req.method, errSocketUnnamed)
		return false
	}
	if !h.gate.sockets.supported {
		err := errors.New("the x-unix-socket header is supported on macOS only")
		h.gate.malformed(req.client, req.protocol, err)
		a := newProxyResponse(http.StatusNotImplemented)
		a.body = refusalBody{
			Status: "error", Protocol: req.protocol, Method: req.method, Reason: "unix_socket_unsupported",
			Message: prose("networkproxy cannot carry this request: " + err.Error() + "."),
		}
		a.write(w)
		return false
	}
	path, err := parseSocketPath(req.protocol, paths)
	if err != nil {
		h.gate.malformed(req.client, req.protocol, err)
		writeMalformed(w, req.protocol, req.method, err)
		return false
	}
	req.socket = socketPath{asked: strings.Clone(path)} // see lastTarget.own
	if p := h.gate.current.Load(); p.enabled && len(p.sockets.entries) > 0 {
		// The path is a client's, and to look at one can have effects of its
		// own (an automounter's): not where nothing is allowed anyway.
		req.socket = resolveSocket(path)
	}
	return true
}

// parseSocketPath reads the values of the header. A path has one spelling
// here, as it has in the configuration.
func parseSocketPath(protocol Protocol, paths []string) (string, error) {
	if protocol != ProtocolHTTP {
		return "", errors.New("x-unix-socket goes with a plain http:// request, not with CONNECT")
	}
	if len(paths) != 1 {
		return "", fmt.Errorf("x-unix-socket is there %d times; one request has one target", len(paths))
	}
	path := paths[0]
	problem := ""
	switch {
	case len(path) > maxAskedPath:
		return "", fmt.Errorf("x-unix-socket is longer than any path of a socket (%d bytes)", len(path))
	case !utf8.ValidString(path):
		problem = "it is not UTF-8"
	default:
		problem = socketPathProblem(path)
	}
	if strings.HasPrefix(problem, notClean) {
		problem = "not a clean path: it has an empty element, . or .." // the value of a field is not quoted
	}
	// NUL has been found by now: it has a sentence of its own.
	for _, r := range path {
		if problem == "" && unicode.IsControl(r) {
			problem = "a path with control characters is not carried"
		}
	}
	if problem != "" {
		return "", errors.New("x-unix-socket: " + problem)
	}
	return path, nil
}

// socketPath is a socket as a client names it, and the path that this led to
// at one moment. The zero value is none.
type socketPath struct {
	asked string
	real  string // without symbolic links; empty where nothing was found
}

// resolveSocket follows the symbolic links once, for every check and for the
// connection: a link that is turned round afterwards leads nowhere else.
func resolveSocket(path string) socketPath {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = ""
	}
	return socketPath{asked: path, real: real}
}

func (s socketPath) isZero() bool { return s == socketPath{} }

// socketList is allow_unix_sockets. The zero value allows none.
type socketList struct {
	entries []string
	origin  func(i int) Position
}

func (l socketList) rule(i int) Rule {
	return Rule{List: lastKey(keyAllowUnixSockets), Pattern: l.entries[i], Position: l.origin(i)}
}

// rules lists every rule, in the order of the list.
func (l socketList) rules() []Rule {
	rules := []Rule{}
	for i := range l.entries {
		rules = append(rules, l.rule(i))
	}
	return rules
}

// match finds the entry that is the path asked for, or leads to the same place
// now. What the entries lead to is looked up each time: services come and go.
func (l socketList) match(s socketPath) (Rule, bool) {
	if i := slices.Index(l.entries, s.asked); i >= 0 {
		return l.rule(i), true
	}
	if s.real == "" {
		return Rule{}, false
	}
	for i, entry := range l.entries {
		if resolveSocket(entry).real == s.real {
			return l.rule(i), true
		}
	}
	return Rule{}, false
}

// judgeSocket applies the checks to a request whose target is a unix socket.
// No decider may be asked: it knows hosts, and a socket can be worth more than
// any of them.
func (p *policy) judgeSocket(q *query, tr *trace) (v Verdict) {
	if p.self.containsSocket(q.socket) {
		p.refuse(&v, checkOwnListener, ReasonNotAllowedLocal, SourceBaselinePolicy, entry{}, tr)
		return v
	}
	tr.pass(checkOwnListener)
	rule, ok := p.sockets.match(q.socket)
	if !ok {
		p.refuse(&v, checkUnixSocket, ReasonNotAllowed, SourceBaselinePolicy, entry{}, tr)
		return v
	}
	tr.passRule(checkUnixSocket, rule)
	if by, ok := p.permits(q); !ok {
		v = p.modeRefusal(by)
		tr.add(Check{Name: checkMode, Rule: v.Rule})
		return v
	}
	tr.pass(checkMode)
	return Verdict{Allowed: true, Source: SourceBaselinePolicy, Rule: rule, Generation: p.generation}
}

// connectUnixFunc connects to a unix socket.
type connectUnixFunc = func(ctx context.Context, path string) (*net.UnixConn, error)

// socketDialer connects to sockets that were allowed.
type socketDialer struct {
	supported bool
	timeout   time.Duration
	connect   connectUnixFunc // nil: the kernel's
	own       *selfListeners  // what is never connected to; nil: nothing
}

// socketError says why a socket that is allowed cannot be connected to.
type socketError struct {
	path string
	err  error
}

func (e *socketError) Error() string { return fmt.Sprintf("the unix socket %s: %v", e.path, e.err) }
func (e *socketError) Unwrap() error { return e.err }

// errSocketSwapped says that a path led elsewhere after the connection than
// before it.
var errSocketSwapped = errors.New("the path was changed while it was connected to")

// dial connects to what the path led to when it was judged, and then makes
// sure that it was that: nothing keeps a directory of the path from being
// replaced by a link after the check.
func (d socketDialer) dial(ctx context.Context, s socketPath) (*net.UnixConn, error) {
	fail := func(err error) (*net.UnixConn, error) {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err // the path is told already
		}
		return nil, &socketError{path: s.asked, err: unwrapOp(err)}
	}
	if s.real == "" {
		return fail(fs.ErrNotExist)
	}
	before, err := socketAt(s.real)
	if err == nil && d.own.containsFile(before) {
		err = errSocketSwapped // or it would not have been allowed
	}
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	connect := d.connect
	if connect == nil {
		connect = connectUnix
	}
	conn, err := pindial.RetryTooManyFiles(ctx, func(ctx context.Context) (*net.UnixConn, error) { return connect(ctx, s.real) })
	if err != nil {
		return fail(err)
	}
	after, err := socketAt(s.real)
	if err != nil || !os.SameFile(before, after) {
		conn.Close()
		return fail(errSocketSwapped)
	}
	return conn, nil
}

func connectUnix(ctx context.Context, path string) (*net.UnixConn, error) {
	return new(net.Dialer).DialUnix(ctx, "unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
}

// socketAt is the socket at a path on which there are no symbolic links.
func socketAt(path string) (fs.FileInfo, error) {
	if real, err := filepath.EvalSymlinks(path); err != nil {
		return nil, err
	} else if real != path {
		return nil, errSocketSwapped
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, errors.New("it is not a socket")
	}
	return info, nil
}

// socketRefusal is err, or the refusal where a socket was not what had been
// allowed. v is the verdict that had.
func socketRefusal(req *request, v *Verdict, err error) error {
	if !errors.Is(err, errSocketSwapped) {
		return err
	}
	return &RefusedError{Host: req.target.Host.String(), Port: req.target.Port, Verdict: Verdict{
		Reason: ReasonNotAllowed, Source: SourceBaselinePolicy, Rule: v.Rule, Generation: v.Generation, check: checkUnixSocket,
	}}
}

// appendSubject appends what a request is for, in words.
func (r *request) appendSubject(b []byte) []byte {
	if !r.socket.isZero() {
		return append(append(b, "the unix socket "...), r.socket.asked...)
	}
	return r.target.AppendTo(b)
}

// logger adds to a log what only some requests have.
func (r *request) logger(log *slog.Logger) *slog.Logger {
	if !r.socket.isZero() {
		log = log.With("unix_socket", r.socket.asked)
	}
	return log
}

// exposed is the address of a listener that other machines can reach, or "".
func (h *Handle) exposed() string {
	for _, l := range h.listeners {
		if a := addrPortOf(l.Addr()); a.IsValid() && !a.Addr().IsLoopback() {
			return a.String()
		}
	}
	return ""
}

// socketsWithheld says why the unix sockets of a configuration are not
// allowed all the same, or "". A start puts the listeners on loopback instead,
// see clampAddr; a reload cannot.
func (h *Handle) socketsWithheld(l *loadedConfig) string {
	exposed := h.exposed()
	if exposed == "" || len(l.Config.Policy.AllowUnixSockets) == 0 {
		return ""
	}
	return fmt.Sprintf("%s stays off: other machines can reach the listener on %s, and must not reach the sockets; "+
		"the next start puts the listener on loopback, and the sockets are allowed then", keyAllowUnixSockets, exposed)
}
