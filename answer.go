// The proxy's own answers, as they go out: JSON for programs, text where a
// client prints it as it comes.

package networkproxy

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
)

// refusalBody is the JSON of a refused or failed plain-HTTP request.
type refusalBody struct {
	Status   string   `json:"status"` // "blocked" by policy, else "error"
	Host     string   `json:"host,omitempty"`
	Port     uint16   `json:"port,omitempty"`
	Protocol Protocol `json:"protocol"`
	Method   string   `json:"method"`
	Socket   string   `json:"unix_socket,omitempty"` // the path, where one was asked for
	Reason   Reason   `json:"reason"`
	Source   Source   `json:"source,omitempty"`
	Decision string   `json:"decision,omitempty"` // "deny" or "ask"
	Rule     string   `json:"rule,omitempty"`     // the pattern that decided
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`
}

// appendJSON appends what encoding/json makes of the body, without its price:
// refusals can come as fast as a client retries.
func (r *refusalBody) appendJSON(b []byte) []byte {
	b = append(b, `{"status":`...)
	b = appendJSONString(b, r.Status)
	optional := func(key, value string) {
		if value != "" {
			b = append(append(append(b, `,"`...), key...), `":`...)
			b = appendJSONString(b, value)
		}
	}
	optional("host", r.Host)
	if r.Port != 0 {
		b = strconv.AppendUint(append(b, `,"port":`...), uint64(r.Port), 10)
	}
	b = appendJSONString(append(b, `,"protocol":`...), string(r.Protocol))
	b = appendJSONString(append(b, `,"method":`...), r.Method)
	optional("unix_socket", r.Socket)
	b = appendJSONString(append(b, `,"reason":`...), string(r.Reason))
	optional("source", string(r.Source))
	optional("decision", r.Decision)
	optional("rule", r.Rule)
	b = appendJSONString(append(b, `,"message":`...), r.Message)
	optional("hint", r.Hint)
	return append(b, '}')
}

// appendJSONString appends a string of JSON. The backslash goes before quotes
// alone here; what needs more is left to encoding/json.
func appendJSONString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // a string: cannot fail
			return append(b, text...)
		}
	}
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// The fields that every answer of the proxy's own has. They are not changed.
var (
	typeJSON  = []string{"application/json"}
	typeText  = []string{"text/plain; charset=utf-8"}
	noSniff   = []string{"nosniff"}
	closeConn = []string{"close"}
)

// answerTexts are buffers for the content of answers.
var answerTexts = sync.Pool{New: func() any { return new([]byte) }}

// writeAnswer writes the body as JSON, or as text to a CONNECT, whose clients
// print it as it comes.
func writeAnswer(w http.ResponseWriter, status int, body refusalBody) {
	header := w.Header()
	buffer := answerTexts.Get().(*[]byte)
	defer answerTexts.Put(buffer)
	text := (*buffer)[:0]
	if body.Protocol == ProtocolHTTPSConnect {
		// Clients do not ask for a second tunnel on the connection, and one,
		// Node.js, lets it keep its process alive.
		header["Connection"], header["Content-Type"] = closeConn, typeText
		text = append(text, body.Message...)
		text = append(text, '\n')
		if body.Hint != "" {
			text = append(append(text, body.Hint...), '\n')
		}
	} else {
		header["Content-Type"] = typeJSON
		text = append(body.appendJSON(text), '\n')
	}
	*buffer = text
	header["X-Content-Type-Options"] = noSniff
	header["Content-Length"] = []string{strconv.Itoa(len(text))}
	w.WriteHeader(status)
	w.Write(text) // a client that has gone is no concern of the answer
}
