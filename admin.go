// The admin API: what the proxy is doing and why, and the few things that may
// be changed while it runs. Made for curl; guarded against web pages.

package networkproxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/networkproxy/internal/track"
)

const (
	adminBodyLimit   = 8 << 10
	adminConnections = 64
	adminTimeout     = 30 * time.Second
)

// adminServer serves the admin API of one handle.
type adminServer struct {
	h      *Handle
	server *http.Server
	conns  *track.Group
}

// adminRoute is one resource and the one method that it has. GET answers
// HEAD as well.
type adminRoute struct {
	method, path string
	serve        func(a *adminServer, r *http.Request) (any, error)
}

func adminRoutes() []adminRoute {
	return []adminRoute{
		{"GET", "/health", (*adminServer).health},
		{"GET", "/config", (*adminServer).config},
		{"GET", "/patterns", (*adminServer).patterns},
		{"GET", "/blocked", (*adminServer).blocked},
		{"GET", "/metrics", (*adminServer).metrics},
		{"GET", "/explain", (*adminServer).explain},
		{"GET", "/suggest", (*adminServer).suggest},
		{"GET", "/grants", (*adminServer).grants},
		{"POST", "/grants/revoke", (*adminServer).revokeGrant},
		{"POST", "/mode", (*adminServer).setMode},
		{"POST", "/reload", (*adminServer).reload},
	}
}

func newAdminServer(h *Handle) *adminServer {
	a := &adminServer{h: h, conns: track.NewGroup(nil)}
	a.conns.SetLimit(adminConnections)
	a.server = &http.Server{
		Handler:           a.handler(),
		ReadHeaderTimeout: h.enforcer.limits.HeaderTimeout,
		ReadTimeout:       adminTimeout,
		WriteTimeout:      adminTimeout,
		IdleTimeout:       h.enforcer.limits.IdleTimeout,
		MaxHeaderBytes:    h.enforcer.limits.HeaderBytes,
		ErrorLog:          slog.NewLogLogger(h.enforcer.bounded.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return h.drain },

		DisableGeneralOptionsHandler: true, // or OPTIONS * goes past the guard
	}
	return a
}

// serve serves the API on l until the server is shut down.
func (a *adminServer) serve(l net.Listener) error {
	tracked := &track.Listener{Inner: l, Group: a.conns, StartIdle: true, Logger: a.h.enforcer.bounded}
	a.server.ConnState = tracked.ConnState
	a.server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, adminConnKey{}, tracked.Entry(c))
	}
	return a.server.Serve(tracked)
}

func (a *adminServer) handler() http.Handler {
	mux := http.NewServeMux()
	for _, route := range adminRoutes() {
		mux.HandleFunc(route.path, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != route.method && !(route.method == http.MethodGet && r.Method == http.MethodHead) {
				allow := route.method
				if allow == http.MethodGet {
					allow = "GET, HEAD"
				}
				w.Header().Set("Allow", allow)
				writeJSON(w, http.StatusMethodNotAllowed, adminError{fmt.Sprintf("%s takes %s, not %s", route.path, allow, r.Method)})
				return
			}
			if route.method != http.MethodGet && a.readOnly() {
				writeJSON(w, http.StatusForbidden, adminError{"this admin API is read-only (admin_read_only = true): " + route.method + " is refused"})
				return
			}
			answer, err := a.answer(route, r)
			if err != nil {
				writeAdminError(w, err)
				return
			}
			if t, ok := answer.(text); ok {
				w.Header().Set("Content-Type", t.kind)
				w.Header().Set("Cache-Control", "no-store")
				w.Header().Set("X-Content-Type-Options", "nosniff")
				io.WriteString(w, t.content)
				return
			}
			writeJSON(w, http.StatusOK, answer)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var paths []string
		for _, route := range adminRoutes() {
			paths = append(paths, route.method+" "+route.path)
		}
		writeJSON(w, http.StatusNotFound, adminError{"no such resource; there are " + strings.Join(paths, ", ")})
	})
	return a.guard(mux)
}

// adminConnKey finds the *track.Entry of a request's connection in its context.
type adminConnKey struct{}

// answer has a route serve a request. Only meanwhile is the connection busy:
// one whose client sends its content or reads the answer slowly can be closed
// to make room for others.
func (a *adminServer) answer(route adminRoute, r *http.Request) (any, error) {
	if route.method != http.MethodGet {
		body, err := io.ReadAll(r.Body)
		switch {
		case errors.As(err, new(*http.MaxBytesError)):
			return nil, err
		case err != nil:
			return nil, badRequest{fmt.Errorf("the body did not arrive: %w", err)}
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	conn, _ := r.Context().Value(adminConnKey{}).(*track.Entry)
	if !conn.Begin() {
		panic(http.ErrAbortHandler) // it was closed
	}
	defer func() { conn.Idle(time.Now()) }()
	return route.serve(a, r)
}

// guard lets through only what a local tool sends. A web page in the user's
// browser can send requests here too; it is told apart by the Host that it
// was tricked into (DNS rebinding), by Origin, Referer and Sec-Fetch-Site.
func (a *adminServer) guard(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !a.knownHost(r.Host):
			writeJSON(w, http.StatusForbidden, adminError{"the Host field is not this admin API's address"})
		case fromPage(r.Header) || crossOrigin.Check(r) != nil:
			writeJSON(w, http.StatusForbidden, adminError{"requests from web pages are refused"})
		case !a.authorized(r):
			w.Header().Set("WWW-Authenticate", `Bearer realm="networkproxy admin"`)
			writeJSON(w, http.StatusUnauthorized, adminError{"this admin API wants a token: curl -H 'Authorization: Bearer …'"})
		default:
			r.Body = http.MaxBytesReader(w, r.Body, adminBodyLimit)
			next.ServeHTTP(w, r)
		}
	})
}

// readOnly reports whether the API may change nothing at the moment.
func (a *adminServer) readOnly() bool {
	a.h.mu.Lock()
	defer a.h.mu.Unlock()
	return a.h.loaded.Config.AdminReadOnly
}

// crossSite reports whether a browser says that a page caused the request.
func crossSite(site string) bool { return site != "" && site != "none" }

// knownHost reports whether host, with or without a port, is a way to write
// the address of the listener: "localhost" or a loopback address. Where other
// machines can reach the listener, any IP address is accepted, because its own
// may be translated on the way. Other names are refused, because an attacker's
// DNS server can answer for them. A unix socket accepts everything: clients
// have no host to write there.
func (a *adminServer) knownHost(host string) bool {
	at := a.h.listeners[1].Addr()
	if at.Network() == "unix" {
		return true
	}
	name, ok := hostOfField(host)
	if !ok {
		return false
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	if listening := addrPortOf(at); listening.IsValid() && !listening.Addr().IsLoopback() {
		return true
	}
	return addr.Zone() == "" && addr.Unmap().IsLoopback()
}

// hostOfField returns the host of a Host field (RFC 9110 section 7.2) without
// the brackets of an IPv6 address. It reports false if the field is malformed.
func hostOfField(host string) (name string, ok bool) {
	name, port := host, ""
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return "", false
		}
		name, port = host[1:end], host[end+1:]
		if !strings.Contains(name, ":") {
			return "", false
		}
	} else if colon := strings.IndexByte(host, ':'); colon >= 0 {
		name, port = host[:colon], host[colon:]
	}
	if port == "" || port == ":" {
		return name, true
	}
	_, err := strconv.ParseUint(port[1:], 10, 16)
	return name, port[0] == ':' && err == nil
}

// fromPage reports whether a web page sent the request. Local tools send none
// of these fields; old browsers send only the Referer of a page's GET.
func fromPage(header http.Header) bool {
	return len(header["Origin"]) > 0 || len(header["Referer"]) > 0 ||
		slices.ContainsFunc(header["Sec-Fetch-Site"], crossSite)
}

// authorized compares digests, so that neither the content nor the length of
// the token shows in the time it takes.
func (a *adminServer) authorized(r *http.Request) bool {
	want := a.h.settings.adminToken
	if want == "" {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got, expected := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(want))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], expected[:]) == 1
}

// text is an answer that is not JSON.
type text struct{ kind, content string }

// adminError is the body of every answer that is not a success.
type adminError struct {
	Error string `json:"error"`
}

// badRequest is an error that is the client's.
type badRequest struct{ error }

func writeAdminError(w http.ResponseWriter, err error) {
	var tooLarge *http.MaxBytesError
	var bad badRequest
	status := http.StatusConflict // the request was fine; the configuration or its limits were not
	switch {
	case errors.As(err, &tooLarge):
		status = http.StatusRequestEntityTooLarge
		err = fmt.Errorf("the body is over %d bytes", tooLarge.Limit)
	case errors.As(err, &bad):
		status = http.StatusBadRequest
	case errors.Is(err, ErrNoGrant):
		status = http.StatusNotFound
	case errors.Is(err, ErrClosed):
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, adminError{err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	e.Encode(v) // a client that has gone is no concern of the answer
}

// readJSON reads one JSON value and nothing after it. What Content-Type says
// is not looked at: curl labels every body a form.
func readJSON(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	var tooLarge *http.MaxBytesError
	if err := d.Decode(v); err != nil {
		if errors.As(err, &tooLarge) {
			return err
		}
		if err == io.EOF {
			err = errors.New("it is empty")
		}
		return badRequest{fmt.Errorf("the body is not the JSON that is wanted here: %w", err)}
	}
	if _, err := d.Token(); err != io.EOF {
		if errors.As(err, &tooLarge) {
			return err
		}
		return badRequest{errors.New("the body has something after its JSON value")}
	}
	return nil
}

func (a *adminServer) health(*http.Request) (any, error) {
	e := a.h.enforcer
	p := e.current.Load()
	// The gravest state names the status and comes first in the detail.
	status, details := "ok", []string(nil)
	a.h.mu.Lock()
	if a.h.fault != nil {
		status = "degraded"
		details = append(details, "the last reload failed, the configuration before it is in force: "+a.h.fault.Error())
	}
	if cutBack := a.h.loaded.cutBack; len(cutBack) > 0 {
		status = "degraded"
		details = append(details, cutBack...)
	}
	a.h.mu.Unlock()
	if e.observed != nil {
		status = "observing"
		details = slices.Insert(details, 0, observingWarning)
	}
	if !p.enabled {
		status = "disabled"
		details = slices.Insert(details, 0, "network_proxy.enabled is false: every request is refused")
	}
	detail := strings.Join(details, "\n")
	return struct {
		Status      string `json:"status"` // "ok", "degraded", "observing" or "disabled"
		Detail      string `json:"detail,omitempty"`
		Mode        Mode   `json:"mode"`
		Generation  uint64 `json:"generation"`
		Connections int    `json:"connections"` // of clients
		Allowed     uint64 `json:"allowed"`
		Refused     uint64 `json:"refused"`
		Failed      uint64 `json:"failed"`
		Cut         uint64 `json:"cut"`
		Dropped     uint64 `json:"datagrams_dropped"` // of SOCKS5 clients
	}{
		status, detail, p.mode, p.generation, a.h.live.Len(),
		e.count.total(outcomeAllowed), e.count.total(outcomeRefused), e.count.total(outcomeFailed), e.count.cut.Load(),
		e.count.datagramsDropped(),
	}, nil
}

func (a *adminServer) config(*http.Request) (any, error) {
	a.h.mu.Lock()
	l := a.h.loaded
	a.h.mu.Unlock()
	return struct {
		NetworkProxy Config            `json:"network_proxy"`
		Mode         Mode              `json:"mode_in_force"`
		HTTP         string            `json:"http_address"`
		Admin        string            `json:"admin_address"`
		SOCKS        string            `json:"socks_address,omitempty"`
		Origins      map[string]string `json:"origins"` // where each key's value stands
		Warnings     []string          `json:"warnings,omitempty"`
	}{l.Config, a.h.Mode(), a.h.httpAddr, a.h.adminAddr, a.h.socksAddr, l.sources(), a.h.Warnings()}, nil
}

func (a *adminServer) patterns(*http.Request) (any, error) {
	p := a.h.enforcer.current.Load()
	return struct {
		Allowed []Rule `json:"allowed"`
		Denied  []Rule `json:"denied"`
		Sockets []Rule `json:"unix_sockets"`
	}{p.allow.rules(), p.deny.rules(), p.sockets.rules()}, nil
}

func (a *adminServer) blocked(*http.Request) (any, error) {
	list, total := a.h.enforcer.blocked.list()
	slices.Reverse(list)
	return struct {
		Total   uint64           `json:"total"`   // since the start
		Limit   int              `json:"limit"`   // how many are kept
		Blocked []BlockedRequest `json:"blocked"` // newest first
	}{total, a.h.enforcer.limits.BlockedKept, list}, nil
}

func (a *adminServer) explain(r *http.Request) (any, error) {
	q := r.URL.Query()
	if q.Get("url") == "" {
		return nil, badRequest{errors.New("url is missing: /explain?url=https://host/path&method=GET; resolve=1 looks the name up")}
	}
	resolve := q.Get("resolve") != "" && q.Get("resolve") != "0"
	x, err := a.h.ExplainURL(r.Context(), q.Get("url"), q.Get("method"), resolve)
	if err != nil {
		return nil, badRequest{err}
	}
	return x, nil
}

func (a *adminServer) suggest(*http.Request) (any, error) {
	o := a.h.enforcer.observed
	if o == nil {
		return nil, errors.New("the proxy is not observing: start it with -observe, let the work run, and ask again")
	}
	return text{"text/plain; charset=utf-8", suggestion(o.suggest())}, nil
}

func (a *adminServer) grants(*http.Request) (any, error) {
	return struct {
		Grants []Grant `json:"grants"` // oldest first
	}{a.h.Grants()}, nil
}

func (a *adminServer) revokeGrant(r *http.Request) (any, error) {
	var body struct {
		ID uint64 `json:"id"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	cut, err := a.h.enforcer.revoke(body.ID)
	if err != nil {
		return nil, err
	}
	return struct {
		Revoked uint64 `json:"revoked"`
		Cut     int    `json:"connections_cut"`
	}{body.ID, cut}, nil
}

func (a *adminServer) setMode(r *http.Request) (any, error) {
	var body struct {
		Mode Mode `json:"mode"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if _, err := ParseMode(string(body.Mode)); err != nil {
		return nil, badRequest{err}
	}
	if err := a.h.SetMode(body.Mode); err != nil {
		return nil, err
	}
	body.Mode = a.h.Mode()
	return body, nil
}

func (a *adminServer) reload(r *http.Request) (any, error) {
	// A body is allowed, curl -d may send one, and not looked at.
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	return a.h.reload(r.Context())
}
