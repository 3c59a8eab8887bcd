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
	Message  prose           `json:"message"`
	Hint     prose           `json:"hint,omitempty"`
}

// prose is text that is a string in JSON, and a part of a buffer here.
type prose []byte

func (p prose) MarshalText() ([]byte, error) { return p, nil }

func (p *prose) UnmarshalText(text []byte) error {
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
func appendJSONString[T string | prose](b []byte, s T) []byte {
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
	explanation, content []byte
	fields               [5]http1.Field
}

var answers = sync.Pool{New: func() any { return new(proxyResponse) }}

func newProxyResponse(status int) *proxyResponse {
	a := answers.Get().(*proxyResponse)
	a.status = status
	return a
}

// write writes the answer: the body as JSON, or as text to a CONNECT, whose
// clients print it as it comes. It is the last that is done with the answer.
func (a *proxyResponse) write(w http.ResponseWriter) {
	n := 0
	add := func(name, value string) {
		a.fields[n] = http1.Field{Name: name, Value: value}
		n++
	}
	text := a.content[:0]
	if a.body.Protocol == policy.ProtocolHTTPSConnect {
		// Clients do not ask for a second tunnel on the connection, and one,
		// Node.js, lets it keep its process alive.
		a.close = true
		add("Content-Type", "text/plain; charset=utf-8")
		text = append(append(text, a.body.Message...), '\n')
		if len(a.body.Hint) > 0 {
			text = append(append(text, a.body.Hint...), '\n')
		}
	} else {
		add("Content-Type", "application/json")
		text = append(a.body.appendJSON(text), '\n')
	}
	add("X-Content-Type-Options", "nosniff")
	if a.token != "" {
		add(ErrorHeader, a.token)
	}
	if a.extra.Name != "" {
		add(a.extra.Name, a.extra.Value)
	}
	if a.close {
		add("Connection", "close")
	}
	w.(http1.Responder).Respond(a.status, a.fields[:n], text) // a client that has gone is no concern of the answer
	*a = proxyResponse{explanation: a.explanation, content: text}
	answers.Put(a)
}
