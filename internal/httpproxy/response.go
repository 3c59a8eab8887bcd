// Responses of the proxy itself: JSON, or plain text for CONNECT.

package httpproxy

import (
	"net/http"
	"strconv"
	"sync"

	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/jsonobject"
	"example.com/networkproxy/internal/policy"
)

// refusalBody is the JSON of a refused or failed plain-HTTP request.
type refusalBody struct {
	Status   string              `json:"status"` // "blocked" by policy, else "error"
	Host     string              `json:"host,omitempty"`
	Port     uint16              `json:"port,omitempty"`
	Protocol policy.Protocol     `json:"protocol"`
	Method   string              `json:"method"`
	Socket   string              `json:"unix_socket,omitempty"` // the path in x-unix-socket
	Reason   policy.Reason       `json:"reason"`
	Source   policy.Source       `json:"source,omitempty"`
	Decision policy.DecisionKind `json:"decision,omitempty"` // "deny" or "ask"
	Rule     string              `json:"rule,omitempty"`     // the pattern that decided
	Message  jsonText            `json:"message"`
	Hint     jsonText            `json:"hint,omitempty"`
}

// jsonText is a JSON string that is kept as bytes, so that it can be part of a
// reused buffer.
type jsonText []byte

func (p jsonText) MarshalText() ([]byte, error) { return p, nil }

func (p *jsonText) UnmarshalText(text []byte) error {
	*p = append((*p)[:0], text...)
	return nil
}

// appendJSON appends the body as encoding/json would encode it, but faster, because
// a client that retries can cause many refusals (see BenchmarkRefuseWork).
func (r *refusalBody) appendJSON(b []byte) []byte {
	o := jsonobject.Begin(b).String("status", r.Status).OptString("host", r.Host).OptUint("port", uint64(r.Port)).
		String("protocol", string(r.Protocol)).String("method", r.Method).OptString("unix_socket", r.Socket).
		String("reason", string(r.Reason)).OptString("source", string(r.Source)).OptString("decision", string(r.Decision)).
		OptString("rule", r.Rule)
	o = jsonobject.AppendString(o.Key("message"), r.Message)
	if len(r.Hint) > 0 {
		o = jsonobject.AppendString(o.Key("hint"), r.Hint)
	}
	return o.End()
}

// proxyResponse is a response of the proxy itself, in place of one from an origin
// server. Obtain it from newProxyResponse, set its fields, and call write once.
type proxyResponse struct {
	status int
	body   refusalBody
	token  string      // value of ErrorHeader; empty for none
	extra  http1.Field // additional header field; zero for none
	close  bool        // close the connection
	plain  bool        // write text and not JSON

	// Buffers that stay allocated in the pool.
	explanation, payload []byte
	fields               [5]http1.Field
}

var proxyResponses = sync.Pool{New: func() any { return new(proxyResponse) }}

func newProxyResponse(status int) *proxyResponse {
	r := proxyResponses.Get().(*proxyResponse)
	r.status = status
	return r
}

// write writes the response and returns r to the pool: r must not be used after
// it. The body is JSON, or plain text for CONNECT, because clients of CONNECT
// print it unchanged if they print it at all.
func (r *proxyResponse) write(w http.ResponseWriter) {
	n := 0
	add := func(name, value string) {
		r.fields[n] = http1.Field{Name: name, Value: value}
		n++
	}
	text := r.payload[:0]
	switch {
	case r.plain: // for git, which prints plain text only
		add("Content-Type", "text/plain; charset=utf-8")
		text = r.appendText(text)
	case r.body.Protocol == policy.ProtocolHTTPSConnect:
		// No client sends a second CONNECT on the connection, and in Node.js an
		// open connection keeps the process from exiting.
		r.close = true
		add("Content-Type", "text/plain; charset=utf-8")
		text = r.appendText(text)
	default:
		add("Content-Type", "application/json")
		text = append(r.body.appendJSON(text), '\n')
	}
	add("X-Content-Type-Options", "nosniff")
	if r.token != "" {
		add(ErrorHeader, r.token)
	}
	if r.extra.Name != "" {
		add(r.extra.Name, r.extra.Value)
	}
	if r.close {
		add("Connection", "close")
	}
	respond(w, r.status, r.fields[:n], text)
	*r = proxyResponse{explanation: r.explanation, payload: text}
	proxyResponses.Put(r)
}

// appendText appends the message and the hint as lines of text.
func (r *proxyResponse) appendText(b []byte) []byte {
	b = append(append(b, r.body.Message...), '\n')
	if len(r.body.Hint) > 0 {
		b = append(append(b, r.body.Hint...), '\n')
	}
	return b
}

// respond writes a complete response. An error means that the client has left.
func respond(w http.ResponseWriter, status int, fields []http1.Field, body []byte) {
	if http1Writer, ok := w.(http1.Responder); ok {
		http1Writer.Respond(status, fields, body)
		return
	}
	for _, f := range fields {
		if !f.Is("connection") { // HTTP/2 has no such field (RFC 9113 section 8.2.2)
			w.Header().Set(f.Name, f.Value)
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}
