// Responses of the proxy itself: JSON, or plain text for CONNECT.

package httpproxy

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"

	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/policy"
)

// refusalBody is the JSON of a refused or failed plain-HTTP request.
type refusalBody struct {
	Status   string          `json:"status"` // "blocked" by policy, else "error"
	Host     string          `json:"host,omitempty"`
	Port     uint16          `json:"port,omitempty"`
	Protocol policy.Protocol `json:"protocol"`
	Method   string          `json:"method"`
	Socket   string          `json:"unix_socket,omitempty"` // the path in x-unix-socket
	Reason   policy.Reason   `json:"reason"`
	Source   policy.Source   `json:"source,omitempty"`
	Decision string          `json:"decision,omitempty"` // "deny" or "ask"
	Rule     string          `json:"rule,omitempty"`     // the pattern that decided
	Message  jsonText        `json:"message"`
	Hint     jsonText        `json:"hint,omitempty"`
}

// jsonText is a JSON string that is kept as bytes, so that it can be part of a
// reused buffer.
type jsonText []byte

func (p jsonText) MarshalText() ([]byte, error) { return p, nil }

func (p *jsonText) UnmarshalText(text []byte) error {
	*p = append((*p)[:0], text...)
	return nil
}

// appendJSON appends the body as encoding/json would encode it. It is faster,
// because a client that retries can cause many refusals (BenchmarkRefuseWork).
func (r *refusalBody) appendJSON(b []byte) []byte {
	b = append(b, `{"status":`...)
	b = appendJSONString(b, r.Status)
	optional := func(key, value string) {
		if value != "" {
			b = appendJSONString(append(b, key...), value)
		}
	}
	optional(`,"host":`, r.Host)
	if r.Port != 0 {
		b = strconv.AppendUint(append(b, `,"port":`...), uint64(r.Port), 10)
	}
	b = appendJSONString(append(b, `,"protocol":`...), string(r.Protocol))
	b = appendJSONString(append(b, `,"method":`...), r.Method)
	optional(`,"unix_socket":`, r.Socket)
	b = appendJSONString(append(b, `,"reason":`...), string(r.Reason))
	optional(`,"source":`, string(r.Source))
	optional(`,"decision":`, r.Decision)
	optional(`,"rule":`, r.Rule)
	b = appendJSONString(append(b, `,"message":`...), r.Message)
	if len(r.Hint) > 0 {
		b = appendJSONString(append(b, `,"hint":`...), r.Hint)
	}
	return append(b, '}')
}

// appendJSONString appends s as a JSON string. It escapes quotation marks itself
// and leaves strings with other special characters to encoding/json.
func appendJSONString[T string | jsonText](b []byte, s T) []byte {
	begin := len(b)
	b = append(b, '"')
	done := 0 // bytes of s that are appended
	for i := range len(s) {
		switch jsonChars[s[i]] {
		case jsonPlain:
		case jsonQuote:
			b = append(append(b, s[done:i]...), '\\')
			done = i
		default:
			text, _ := json.Marshal(string(s)) // a string: cannot fail
			return append(b[:begin], text...)
		}
	}
	return append(append(b, s[done:]...), '"')
}

// jsonChars tells how appendJSONString treats each byte. Like encoding/json, it
// escapes the characters that are markup in HTML.
var jsonChars = func() (class [256]uint8) {
	for c := range class {
		switch {
		case c == '"':
			class[c] = jsonQuote
		case c < ' ' || c > '~' || c == '\\' || c == '<' || c == '>' || c == '&':
			class[c] = jsonOther
		}
	}
	return class
}()

const (
	jsonPlain = iota // copied
	jsonQuote        // escaped with a backslash
	jsonOther        // left to encoding/json
)

// proxyResponse is a response of the proxy itself, in place of one from an origin
// server. Obtain it from newProxyResponse, set its fields, and call write once.
type proxyResponse struct {
	status int
	body   refusalBody
	token  string      // value of ErrorHeader; empty for none
	extra  http1.Field // additional header field; zero for none
	close  bool        // close the connection

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
	if r.body.Protocol == policy.ProtocolHTTPSConnect {
		// No client sends a second CONNECT on the connection, and in Node.js an
		// open connection keeps the process from exiting.
		r.close = true
		add("Content-Type", "text/plain; charset=utf-8")
		text = append(append(text, r.body.Message...), '\n')
		if len(r.body.Hint) > 0 {
			text = append(append(text, r.body.Hint...), '\n')
		}
	} else {
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
	w.(http1.Responder).Respond(r.status, r.fields[:n], text) // an error means that the client has left
	*r = proxyResponse{explanation: r.explanation, payload: text}
	proxyResponses.Put(r)
}
