// The proxy's own answers, as they go out: JSON for programs, text where a
// client prints it as it comes.

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
	Socket   string          `json:"unix_socket,omitempty"` // the path, where one was asked for
	Reason   policy.Reason   `json:"reason"`
	Source   policy.Source   `json:"source,omitempty"`
	Decision string          `json:"decision,omitempty"` // "deny" or "ask"
	Rule     string          `json:"rule,omitempty"`     // the pattern that decided
	Message  jsonText        `json:"message"`
	Hint     jsonText        `json:"hint,omitempty"`
}

// jsonText is text that is a string in JSON, and a part of a buffer here.
type jsonText []byte

func (p jsonText) MarshalText() ([]byte, error) { return p, nil }

func (p *jsonText) UnmarshalText(text []byte) error {
	*p = append((*p)[:0], text...)
	return nil
}

// appendJSON appends what encoding/json makes of the body, without its price:
// refusals can come as fast as a client retries.
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

// appendJSONString appends a string of JSON. The backslash goes before quotes
// alone here; what needs more is left to encoding/json.
func appendJSONString[T string | jsonText](b []byte, s T) []byte {
	begin := len(b)
	b = append(b, '"')
	done := 0 // of s
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

// jsonChars says what becomes of a byte in a string of JSON as encoding/json
// writes it, which escapes what HTML would read as markup.
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
	jsonPlain = iota // it stands for itself
	jsonQuote        // it needs a backslash
	jsonOther        // it needs more
)

// proxyResponse is an answer of the proxy's own, in place of an origin's.
type proxyResponse struct {
	status int
	body   refusalBody
	token  string      // of the X-Proxy-Error field; empty for none
	extra  http1.Field // beside what every such answer has; zero for none
	close  bool        // the connection ends with it

	// What it is written in, and used again.
	explanation, payload []byte
	fields               [5]http1.Field
}

var proxyResponses = sync.Pool{New: func() any { return new(proxyResponse) }}

func newProxyResponse(status int) *proxyResponse {
	r := proxyResponses.Get().(*proxyResponse)
	r.status = status
	return r
}

// write writes the answer: the body as JSON, or as text to a CONNECT, whose
// clients print it as it comes. It is the last that is done with the answer.
func (r *proxyResponse) write(w http.ResponseWriter) {
	n := 0
	add := func(name, value string) {
		r.fields[n] = http1.Field{Name: name, Value: value}
		n++
	}
	text := r.payload[:0]
	if r.body.Protocol == policy.ProtocolHTTPSConnect {
		// Clients do not ask for a second tunnel on the connection, and one,
		// Node.js, lets it keep its process alive.
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
	w.(http1.Responder).Respond(r.status, r.fields[:n], text) // a client that has gone is no concern of the answer
	*r = proxyResponse{explanation: r.explanation, payload: text}
	proxyResponses.Put(r)
}
