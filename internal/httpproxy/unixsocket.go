// The x-unix-socket header: a plain HTTP request with it is forwarded to the
// service that listens on that Unix socket. The path is the target. The host of
// the URL becomes the Host field and has no other effect, so neither the lists
// of hosts nor the decider apply to it.
//
// The checks, in order: an empty header (400), the platform (501), the header's
// syntax (400), the proxy turned off (503), one of the proxy's own sockets,
// allow_unix_sockets, the mode. The proxy connects after all of them.

package httpproxy

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/policy"
)

// UnixSocketsSupported reports whether clients may name Unix sockets as targets
// on this system. It is true on macOS only, because on other systems a command
// in a sandbox has other ways to reach a socket.
const UnixSocketsSupported = runtime.GOOS == "darwin"

// socketHeader is the name of the header, in net/http's canonical case.
const socketHeader = "X-Unix-Socket"

// maxSocketPath is PATH_MAX on macOS. Paths that sockets can be connected to are
// shorter still.
const maxSocketPath = 1024

var errEmptySocketHeader = errors.New("x-unix-socket is empty; set it to the absolute path of a socket, " +
	"or omit it to reach the host of the URL")

// setSocketTarget sets the target of req to the socket that the header names. It
// returns false if it has responded to the request.
func (h *Proxy) setSocketTarget(w http.ResponseWriter, req *gate.Request, paths []string) bool {
	if len(paths) == 1 && paths[0] == "" {
		// An empty field still means a socket. With the host of the URL as the
		// target, the request would go where the client did not intend.
		h.malformed(w, req.Principal, req.Client, req.Protocol, req.Method, errEmptySocketHeader)
		return false
	}
	if !h.config.UnixSockets {
		err := errors.New("the x-unix-socket header is supported on macOS only")
		h.gate.Malformed(req.Principal, req.Client, req.Protocol, err)
		resp := newProxyResponse(http.StatusNotImplemented)
		resp.body = refusalBody{
			Status: "error", Protocol: req.Protocol, Method: req.Method, Reason: "unix_socket_unsupported",
			Message: jsonText(MalformedMessage(err) + "."),
		}
		resp.write(w)
		return false
	}
	path, err := parseSocketPath(req.Protocol, paths)
	if err != nil {
		h.malformed(w, req.Principal, req.Client, req.Protocol, req.Method, err)
		return false
	}
	req.Socket = policy.Socket{Asked: strings.Clone(path)} // a substring of the whole header
	if p := h.gate.Policy(); p.Enabled && p.AllowsSockets() {
		// Looking at a path that the client chose can have side effects, such as
		// an automount. Do it only if a socket may be allowed.
		req.Socket = policy.ResolveSocket(path)
	}
	return true
}

// parseSocketPath returns the path in the values of the header. It accepts only
// the one spelling that the configuration accepts.
func parseSocketPath(protocol policy.Protocol, paths []string) (string, error) {
	if protocol != policy.ProtocolHTTP {
		return "", errors.New("x-unix-socket is not supported with CONNECT; use a plain http:// request")
	}
	if len(paths) != 1 {
		return "", fmt.Errorf("x-unix-socket appears %d times; send it once", len(paths))
	}
	path := paths[0]
	problem := ""
	switch {
	case len(path) > maxSocketPath:
		return "", fmt.Errorf("x-unix-socket: the path has %d bytes; the limit is %d", len(path), maxSocketPath)
	case !utf8.ValidString(path):
		problem = "the path is not valid UTF-8"
	default:
		var better string
		if problem, better = policy.SocketPathProblem(path); better != "" {
			problem += ": it contains an empty element, . or .." // without quoting the header's value
		}
	}
	// NUL has its own message, from SocketPathProblem.
	for _, r := range path {
		if problem == "" && unicode.IsControl(r) {
			problem = "the path contains control characters"
		}
	}
	if problem != "" {
		return "", errors.New("x-unix-socket: " + problem)
	}
	return path, nil
}
