// Routes: which function serves a request, and how its result becomes
// a response.

package adminhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"example.com/networkproxy/internal/track"
)

// Route is a resource and the one method that it supports.
type Route struct {
	// Method is "GET", which includes HEAD, or another method. Requests with
	// any other method get status 405.
	Method string

	// Path is a pattern of [http.ServeMux] without a method: "/health". Only "/{$}"
	// has a wildcard.
	Path string

	// Public routes need no token, and may be used while the API is read-only.
	// They must neither tell nor change anything that others are to be kept from.
	Public bool

	// Serve returns the body of the response: a [Text], a [Stream], or a value that
	// is encoded as JSON. The status is 200. For an error it is that of the
	// [StatusError] in its chain, or 409 Conflict if it has none, and the body
	// is {"error": "..."}.
	Serve func(*http.Request) (any, error)
}

// Text is a response body that is not JSON.
type Text struct {
	Type   string // of the content, for Content-Type
	Body   string
	Header http.Header // further fields; may be nil
}

// Stream is a response body that Write writes as long as it likes. The context ends
// when the client has gone, and when the server is closed. Each call of the writer
// sends what it is given at once, and fails if the client does not take it within 30
// seconds. An error is the response, as one of [Route.Serve], if nothing was written before.
type Stream struct {
	Type  string
	Write func(ctx context.Context, w io.Writer) error
}

// StatusError is an error with the HTTP status of its response.
type StatusError struct {
	Status int
	Err    error
}

func (e *StatusError) Error() string { return e.Err.Error() }
func (e *StatusError) Unwrap() error { return e.Err }

// BadRequest returns err with status 400.
func BadRequest(err error) error { return &StatusError{http.StatusBadRequest, err} }

// mux returns a handler that dispatches requests to the routes.
func (s *Server) mux() *http.ServeMux {
	mux := http.NewServeMux()
	var resources []string
	for _, route := range s.config.Routes {
		resources = append(resources, route.Method+" "+strings.TrimSuffix(route.Path, "{$}"))
		mux.HandleFunc(route.Path, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, route) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { // less specific than "/{$}"
		writeError(w, http.StatusNotFound, "no such resource; the resources are "+strings.Join(resources, ", "))
	})
	return mux
}

// serve serves a request for a route.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, route Route) {
	if !route.supports(r.Method) {
		w.Header().Set("Allow", route.allow())
		writeError(w, http.StatusMethodNotAllowed, fmt.Sprintf("%s takes %s, not %s", route.Path, route.allow(), r.Method))
		return
	}
	if route.Method != http.MethodGet && !route.Public && s.config.ReadOnly != nil && s.config.ReadOnly() {
		writeError(w, http.StatusForbidden, "this admin API is read-only (admin_read_only = true): "+route.Method+" is refused")
		return
	}
	result, err := call(route, r)
	if err != nil {
		writeFailure(w, err)
		return
	}
	switch body := result.(type) {
	case Text:
		setHeader(w, body.Type)
		maps.Copy(w.Header(), body.Header)
		io.WriteString(w, body.Body)
	case Stream:
		body.serve(w, r)
	default:
		writeJSON(w, http.StatusOK, body)
	}
}

// serve writes the stream as the response.
func (s Stream) serve(w http.ResponseWriter, r *http.Request) {
	setHeader(w, s.Type)
	if r.Method == http.MethodHead {
		return
	}
	if c, ok := r.Context().Value(connKey{}).(interface{ SetWriteBuffer(bytes int) error }); ok {
		c.SetWriteBuffer(streamBuffer) // an error leaves the default
	}
	stream := &streamWriter{w: w, control: http.NewResponseController(w)}
	stream.control.SetReadDeadline(time.Time{}) // otherwise the context would end with the time to read the request
	if err := s.Write(r.Context(), stream); err != nil && !stream.began {
		writeFailure(w, err)
	}
}

// streamWriter is the writer of a Stream.
type streamWriter struct {
	w       io.Writer
	control *http.ResponseController
	began   bool
}

func (s *streamWriter) Write(b []byte) (int, error) {
	s.began = true
	s.control.SetWriteDeadline(time.Now().Add(ioTimeout))
	n, err := s.w.Write(b)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}

// supports reports whether the route serves requests with a method.
func (r Route) supports(method string) bool {
	return method == r.Method || r.Method == http.MethodGet && method == http.MethodHead
}

// allow returns the value of the Allow field.
func (r Route) allow() string {
	if r.Method == http.MethodGet {
		return "GET, HEAD"
	}
	return r.Method
}

// call calls the function of a route. The connection counts as busy only during
// the call. While the client sends the body or reads the response, which may
// take it long, the connection may be closed to make room for others.
func call(route Route, r *http.Request) (any, error) {
	if route.Method != http.MethodGet {
		if err := readBody(r); err != nil {
			return nil, err
		}
	}
	conn, _ := r.Context().Value(entryKey{}).(*track.Entry)
	if !conn.Begin() {
		panic(http.ErrAbortHandler) // the connection was closed
	}
	defer func() { conn.Idle(time.Now()) }()
	return route.Serve(r)
}

// readBody reads the whole body of r and puts it back.
func readBody(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return &StatusError{http.StatusRequestEntityTooLarge, fmt.Errorf("the request body is over %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return BadRequest(fmt.Errorf("reading the request body: %w", err))
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// ReadJSON decodes the body of r, which must be a single JSON value without
// unknown fields. It ignores Content-Type because curl labels every body
// a form. Its errors have status 400.
func ReadJSON(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if err == io.EOF {
			err = errors.New("it is empty")
		}
		return BadRequest(fmt.Errorf("invalid request body: %w", err))
	}
	if _, err := d.Token(); err != io.EOF {
		return BadRequest(errors.New("invalid request body: something after the JSON value"))
	}
	return nil
}

// writeFailure writes the response for an error of a route's function.
func writeFailure(w http.ResponseWriter, err error) {
	status := http.StatusConflict
	if withStatus := (*StatusError)(nil); errors.As(err, &withStatus) {
		status = withStatus.Status
	}
	writeError(w, status, err.Error())
}

// writeError writes the response for a request that did not succeed.
func writeError(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, struct {
		Error string `json:"error"`
	}{text})
}

// writeJSON writes v as the response. A write error means that the client has
// gone, so it is ignored.
func writeJSON(w http.ResponseWriter, status int, v any) {
	setHeader(w, "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	e.Encode(v)
}

// setHeader sets the header fields that every response has.
func setHeader(w http.ResponseWriter, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
}
