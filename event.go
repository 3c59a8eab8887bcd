// Events: what happens in a running proxy, for hosts that show or record it.

package networkproxy

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/jsonobject"
	"example.com/networkproxy/internal/policy"
)

// EventKind is the kind of an [Event].
type EventKind = audit.Kind

// The kinds of events. The comments name the fields that an event of the kind
// has, besides Kind, Seq and Time, and besides SessionID, Group, Command and Labels
// in a session.
//
// An event about a request has Request, Protocol, Host, Port, Method, UnixSocket
// and Client, as far as they apply. A UDP flow is a request, and so is a request of
// the host, see [Handle.Transport] and [Handle.DialContext].
const (
	// EventAllowed: a request was allowed and reached its target. Each request
	// has exactly one event of the kinds allowed, refused and failed, as in
	// /metrics. Fields: Decision, Source, Rule without its Position, Generation, Grant.
	//
	// A forwarded request is allowed when the response begins. A tunnel is allowed
	// when its server name has passed the check, and UDP with the first datagram.
	//
	// A short request that the proxy forwards has no other event: its event allowed has Sent,
	// Received and Duration, too. A request is short if its body has at most 32 KiB
	// and the whole response has arrived together with its header.
	EventAllowed EventKind = audit.KindAllowed

	// EventRefused: a request was refused or is malformed. The fields are those of
	// [BlockedRequest]; a malformed request has Reason and Error, and no Host.
	EventRefused EventKind = audit.KindRefused

	// EventFailed: a request was allowed, but its target could not be reached, or
	// the request ended before that. Fields: Reason, Error, and those of allowed.
	EventFailed EventKind = audit.KindFailed

	// EventAsked: the decider is asked. Identical requests that wait together are
	// one question.
	EventAsked EventKind = audit.KindAsked

	// EventAnswered: the decider has answered, or the question has ended without an
	// answer. Fields: Decision, Reason, Message with the answer in words, Duration, Error.
	EventAnswered EventKind = audit.KindAnswered

	// EventGranted: an Allow of the decider has become a grant. Fields: Grant, Host with
	// the pattern, Port (0: every port), Message with its terms.
	EventGranted EventKind = audit.KindGranted

	// EventRevoked: a grant was revoked. Fields: Grant, Host, Port.
	EventRevoked EventKind = audit.KindRevoked

	// EventCut: an open request or an idle connection was cut, because a later
	// policy refuses it or its grant was revoked. Fields: those of refused. An idle
	// connection has no Request.
	EventCut EventKind = audit.KindCut

	// EventOpened: an allowed request has a connection to its target. If a forwarded
	// request has a body of at most 32 KiB, its event comes later, when the header of the
	// response has arrived, but Time is still that of the connection.
	EventOpened EventKind = audit.KindOpened

	// EventClosed: a request that was opened has ended. Fields: Sent, Received, Duration.
	// Each event of the kind opened is followed by one of the kind closed.
	EventClosed EventKind = audit.KindClosed

	// EventReload: a reload has put a configuration or changed managed limits in
	// force, or has failed. Fields: Generation, or Error if it has failed.
	EventReload EventKind = audit.KindReload

	// EventMode: the mode in force was changed. Fields: Mode, Generation.
	EventMode EventKind = audit.KindMode

	// EventRule: an entry was added to the rules at run time, or removed, by one of
	// [Handle.AllowDomain], [Handle.DenyDomain], [Handle.RemoveDomain], [Handle.Remember],
	// [Handle.Forget], [Session.Allow] and [Handle.AllowGroup]. Fields: Host with the
	// pattern, Decision (empty for a removal), Message, Generation.
	EventRule EventKind = audit.KindRule

	// EventSessionOpened and EventSessionClosed: a session was opened, or has
	// ended. Sent and Received of a closed session are the bytes of all its
	// requests that have ended, and Duration is its age. Two kinds of events can
	// follow the end of their session: those of its last requests on the shared
	// listeners, and the answer to a question that other sessions of its group wait
	// for.
	EventSessionOpened EventKind = audit.KindSessionOpened
	EventSessionClosed EventKind = audit.KindSessionClosed

	// EventDropped: events are missing here, because the consumer was too slow. Fields:
	// Dropped. Its Seq is that of the last missing event.
	EventDropped EventKind = audit.KindDropped
)

// Event is something that happened in the proxy. It has no header values, query
// strings or credentials. Its JSON is a line of the audit log, see
// [Builder.AuditLog]. Fields that do not apply are zero, and left out in JSON.
type Event struct {
	Kind EventKind `json:"kind"`
	Seq  uint64    `json:"seq"` // increases from event to event; events that this consumer does not get have numbers, too
	Time time.Time `json:"time"`

	SessionID string            `json:"session,omitempty"` // empty outside sessions
	Group     string            `json:"group,omitempty"`
	Command   string            `json:"command,omitempty"` // of the attribution, like Labels
	Labels    map[string]string `json:"labels,omitempty"`

	Request    uint64         `json:"request,omitzero"` // the number of the request, to find events about the same one
	Protocol   Protocol       `json:"protocol,omitempty"`
	Host       string         `json:"host,omitempty"`
	Port       uint16         `json:"port,omitzero"`
	Method     string         `json:"method,omitempty"`
	UnixSocket string         `json:"unix_socket,omitempty"` // the requested path; empty if the target is a host
	Client     netip.AddrPort `json:"client,omitzero"`       // zero for requests of the host

	Decision   DecisionKind `json:"decision,omitempty"`
	Reason     Reason       `json:"reason,omitempty"`      // of a refusal or a failure
	Source     Source       `json:"source,omitempty"`      // the part of the policy that decided
	Rule       Rule         `json:"rule,omitzero"`         // the entry that decided
	Address    netip.Addr   `json:"address,omitzero"`      // the resolved address that decided
	ServerName string       `json:"server_name,omitempty"` // the name in the ClientHello that decided
	Generation uint64       `json:"generation,omitzero"`   // of the policy
	Message    string       `json:"message,omitempty"`     // for people
	Hint       string       `json:"hint,omitempty"`        // what the user could change

	Grant uint64 `json:"grant,omitzero"` // the ID of a grant
	Mode  Mode   `json:"mode,omitempty"`

	Sent     int64         `json:"sent,omitzero"`        // bytes to the target: of bodies, tunnels and datagrams, without headers
	Received int64         `json:"received,omitzero"`    // bytes from the target
	Duration time.Duration `json:"duration_ns,omitzero"` // since the request got its connection, or since the question

	Error   string `json:"error,omitempty"`
	Dropped uint64 `json:"dropped,omitzero"` // number of missing events
}

// String returns the event as one line without control characters, for logs and screens: the kind, the
// request, and in parentheses what else is known about it.
func (e Event) String() string {
	line := []string{string(e.Kind)}
	for _, s := range []string{string(e.Protocol), e.Method, e.target()} {
		if s != "" {
			line = append(line, s)
		}
	}
	var rest []string
	add := func(known bool, format string, v ...any) {
		if known {
			rest = append(rest, fmt.Sprintf(format, v...))
		}
	}
	add(e.Decision != "", "%s", e.Decision)
	add(e.Reason != "", "%s", e.Reason)
	add(e.Mode != "", "mode %s", e.Mode)
	add(e.Dropped > 0, "%d events", e.Dropped)
	add(e.Sent > 0 || e.Received > 0, "%d bytes sent, %d received", e.Sent, e.Received)
	add(e.Duration > 0, "%v", e.Duration)
	add(e.Grant > 0, "grant %d", e.Grant)
	add(e.SessionID != "", "session %s", e.SessionID)
	add(e.Group != "", "group %q", e.Group)
	add(e.Command != "", "command %q", e.Command)
	add(e.Message != "", "%s", e.Message)
	add(e.Error != "", "error: %s", e.Error)
	text := strings.Join(line, " ")
	if len(rest) > 0 {
		text += " (" + strings.Join(rest, ", ") + ")"
	}
	return policy.CleanText(text, len(text))
}

// target returns the target or the pattern of the event, or "" if it has none.
func (e *Event) target() string {
	switch {
	case e.UnixSocket != "":
		return e.UnixSocket
	case e.Host != "" && e.Port != 0:
		return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
	}
	return e.Host
}

// eventFunc returns f as a function that the gate can call, or nil if f is nil.
func eventFunc(f func(Event)) func(*audit.Event) {
	if f == nil {
		return nil
	}
	return func(e *audit.Event) { f(publicEvent(e)) }
}

func publicEvent(e *audit.Event) (p Event) {
	p.set(e)
	p.Time = p.Time.Round(0).UTC()
	p.Labels = maps.Clone(p.Labels)
	return p
}

// set sets the fields that e has. The others must be zero. Labels is shared with e.
func (p *Event) set(e *audit.Event) {
	p.Kind, p.Seq, p.Time, p.Request, p.Client, p.Grant = e.Kind, e.Seq, e.Time, e.Request, e.Client, e.Grant
	p.Sent, p.Received, p.Duration = e.Sent, e.Received, e.Duration
	if o := e.Owner; o != nil {
		p.SessionID, p.Group = o.Names()
	}
	if a := e.Attribution; a != nil {
		p.Command, p.Labels = a.Command, a.Labels
	}
	if q := e.Query; q != nil {
		p.Protocol, p.Host, p.Port, p.Method, p.UnixSocket = q.Protocol, q.Target.Host.String(), q.Target.Port, q.Method, q.Socket.Asked
	}
	if v := e.Verdict; v != nil {
		p.Decision, p.Reason, p.Source, p.Rule = v.Decision(), v.Reason, v.Source, publicRule(v.Rule())
		p.Address, p.ServerName, p.Generation = v.Address, v.ServerName, v.Generation
		if v.Allowed {
			p.Rule.Position = Position{} // would be most of the text of an allowed request
		}
		if e.Query != nil && !v.Allowed {
			p.Message, p.Hint = v.Explain(e.Query)
		}
	}
	if r := e.Rare; r != nil {
		p.Protocol, p.Reason, p.Decision = cmp.Or(r.Protocol, p.Protocol), cmp.Or(r.Reason, p.Reason), cmp.Or(r.Decision, p.Decision)
		p.Host, p.Port, p.Generation = cmp.Or(r.Pattern, p.Host), cmp.Or(r.Port, p.Port), cmp.Or(r.Generation, p.Generation)
		p.Mode, p.Message, p.Error, p.Dropped = r.Mode, cmp.Or(r.Message, p.Message), r.Error, r.Dropped
	}
}

// eventHead is the beginning of an event in JSON. The version changes when a field or a kind
// gets another meaning or is removed, not when one is added.
const eventHead = `{"version":1`

// MarshalJSON implements [json.Marshaler]. The object begins with the member version.
// The time is in UTC.
func (e Event) MarshalJSON() ([]byte, error) {
	return e.appendRest(appendEventHead(nil, e.Kind, e.Seq, e.Time, nil)), nil
}

// appendEventHead appends the beginning of an event.
func appendEventHead(b []byte, kind EventKind, seq uint64, t time.Time, c *jsonobject.Clock) []byte {
	return jsonobject.Object(append(b, eventHead...)).String("kind", string(kind)).Uint("seq", seq).Time("time", t, c)
}

// appendEvent is the [audit.Encoder]. It appends an event as encoding/json would encode
// the fields of an Event.
func appendEvent(b []byte, e *audit.Event, m *audit.Memo) []byte {
	if m == nil {
		m = new(audit.Memo)
	}
	if v := e.Verdict; e.Kind == audit.KindAllowed && e.Query != nil && e.Rare == nil && v.Reason == "" && !v.Address.IsValid() && v.ServerName == "" {
		return appendAllowed(b, e, m)
	}
	var p Event
	p.set(e)
	return p.appendRest(appendEventHead(b, e.Kind, e.Seq, e.Time, &m.Clock))
}

// appendAllowed appends an event of the kind allowed without rare fields. Nearly all events
// of a busy proxy are of this kind. An Event in between would take as long as the text, and
// so would the calls of jsonobject for members that are always there.
func appendAllowed(b []byte, e *audit.Event, m *audit.Memo) []byte {
	q := e.Query
	b = strconv.AppendUint(append(b, eventHead+`,"kind":"`+string(audit.KindAllowed)+`","seq":`...), e.Seq, 10)
	b = jsonobject.Object(b).Time("time", e.Time, &m.Clock)
	if e.Owner != nil {
		session, group := e.Owner.Names()
		b = jsonobject.Object(b).OptString("session", session).OptString("group", group)
	}
	if a := e.Attribution; a != nil {
		b = appendLabels(jsonobject.Object(b).OptString("command", a.Command), a.Labels)
	}
	if e.Request != 0 {
		b = strconv.AppendUint(append(b, `,"request":`...), e.Request, 10)
	}
	b = append(append(append(b, `,"protocol":"`...), q.Protocol...), `","host":"`...)
	if h := q.Target.Host; h.IsIP() && h.Zone() == "" {
		b = append(h.Addr().AppendTo(b), '"')
	} else {
		b = jsonobject.AppendString(b[:len(b)-1], h.String())
	}
	if q.Target.Port != 0 { // not a Unix socket
		b = strconv.AppendUint(append(b, `,"port":`...), uint64(q.Target.Port), 10)
	}
	o := jsonobject.Object(b).OptString("method", q.Method).OptString("unix_socket", q.Socket.Asked)
	if e.Client.IsValid() {
		o = append(e.Client.AppendTo(append(o, `,"client":"`...)), '"')
	}
	if m.Verdict != e.Verdict {
		m.Verdict, m.Text = e.Verdict, appendApproval(m.Text[:0], e.Verdict)
	}
	return append(o, m.Text...).OptUint("grant", e.Grant).
		OptInt("sent", e.Sent).OptInt("received", e.Received).OptInt("duration_ns", int64(e.Duration)).End()
}

// appendApproval appends the members about the verdict on an allowed request, after a
// member.
func appendApproval(b []byte, v *policy.Verdict) []byte {
	o := jsonobject.Object(append(b, `,"decision":"allow"`...)).OptString("source", string(v.Source))
	if list, pattern := v.List(), v.Pattern(); list != "" || pattern != "" {
		o = jsonobject.Begin(o.Key("rule")).OptString("list", list).OptString("pattern", pattern).End()
	}
	return o.OptUint("generation", v.Generation)
}

// appendLabels appends the member labels, unless there are none.
func appendLabels(o jsonobject.Object, list map[string]string) jsonobject.Object {
	if len(list) == 0 {
		return o
	}
	labels := jsonobject.Begin(o.Key("labels"))
	for _, name := range slices.Sorted(maps.Keys(list)) {
		labels = append(jsonobject.AppendString(labels.Comma(), name), ':')
		labels = jsonobject.AppendString(labels, list[name])
	}
	return labels.End()
}

// appendRest appends what follows the member time.
func (e *Event) appendRest(b []byte) []byte {
	o := jsonobject.Object(b).OptString("session", e.SessionID).OptString("group", e.Group).OptString("command", e.Command)
	o = appendLabels(o, e.Labels).OptUint("request", e.Request).OptString("protocol", string(e.Protocol)).OptString("host", e.Host).OptUint("port", uint64(e.Port)).
		OptString("method", e.Method).OptString("unix_socket", e.UnixSocket)
	if e.Client.IsValid() {
		o = append(e.Client.AppendTo(append(o.Key("client"), '"')), '"')
	}
	o = o.OptString("decision", string(e.Decision)).OptString("reason", string(e.Reason)).OptString("source", string(e.Source))
	if e.Rule != (Rule{}) {
		rule := jsonobject.Begin(o.Key("rule")).OptString("list", e.Rule.List).OptString("pattern", e.Rule.Pattern)
		if p := e.Rule.Position; p != (Position{}) {
			rule = jsonobject.Begin(rule.Key("origin")).String("file", p.File).OptInt("line", int64(p.Line)).OptInt("column", int64(p.Column)).End()
		}
		o = rule.End()
	}
	if e.Address.IsValid() {
		o = jsonobject.AppendString(o.Key("address"), e.Address.String())
	}
	return o.OptString("server_name", e.ServerName).OptUint("generation", e.Generation).
		OptString("message", e.Message).OptString("hint", e.Hint).OptUint("grant", e.Grant).OptString("mode", string(e.Mode)).
		OptInt("sent", e.Sent).OptInt("received", e.Received).OptInt("duration_ns", int64(e.Duration)).
		OptString("error", e.Error).OptUint("dropped", e.Dropped).End()
}

// OnEvent sets a function that is called for every event, in order, on a goroutine
// of its own. Nothing in the proxy waits for it. While a call does not return, at
// least the next 1,024 events wait. Further ones are dropped for this function
// alone: they are counted in /metrics and reported in the log, and an event of the
// kind [EventDropped] stands in their place. The proxy logs panics of f. f may call
// every method of the Handle and of sessions. [Handle.Shutdown] describes how
// Shutdown and Close wait for it.
func (b *Builder) OnEvent(f func(Event)) *Builder {
	b.settings.onEvent = f
	return b
}

// AuditLog sets a writer for all events, as one line of JSON for each: see [Event]
// and docs/audit-log.md, which describes the format. One goroutine calls it, with
// many lines at once if events are frequent, and at most 5 ms after an event. While
// a call does not return, at least the next 8,192 events wait. Shutdown and Close
// wait for the last lines, as [Handle.Shutdown] describes. They do not close w.
//
// If w returns an error, the proxy continues. The log reports the first error, and
// /metrics counts them. Events are lost then, and if w is too slow. A line of the
// kind [EventDropped] reports their number.
func (b *Builder) AuditLog(w io.Writer) *Builder {
	if w == nil {
		return b.fail("AuditLog: the writer is nil")
	}
	b.settings.auditLog = w
	return b
}
