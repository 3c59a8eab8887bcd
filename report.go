// What a host can learn and show: reports, outcomes and summaries of sessions, the
// list of open sessions, the allowlist that observed requests suggest, and metrics.

package networkproxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"example.com/networkproxy/internal/adminhttp"
	"example.com/networkproxy/internal/audit"
)

// Outcome says whether requests of a session were refused, and by whom.
type Outcome string

const (
	OutcomeNothingRefused  Outcome = "nothing_refused"
	OutcomeRefusedByPolicy Outcome = "refused_by_policy" // by the configuration, a limit, or because nobody approved
	OutcomeRefusedByUser   Outcome = "refused_by_user"   // by a decider
)

// Outcome returns the outcome of the session's requests so far. After
// [Session.SetAttribution], it is about the requests with that attribution only.
// It may be called after the end of the session.
//
// A Deny or an Ask of a decider is a refusal by the user, and so is the
// revocation of a grant in use. One of them makes the outcome
// OutcomeRefusedByUser, even if the policy refused other requests. A request to
// which the decider gave no answer is refused by policy, because no allowlist
// entry matches it: the decider failed, did not answer in time or had too many
// questions, or the client did not wait. Malformed requests, and allowed ones
// that did not reach their targets, are not refused.
func (s *Session) Outcome() Outcome {
	switch n, byUser := s.principal.Account.Refused(); {
	case byUser:
		return OutcomeRefusedByUser
	case n > 0:
		return OutcomeRefusedByPolicy
	}
	return OutcomeNothingRefused
}

// Report returns the refusals of the session as text for the result of an agent's
// tool, which a language model and a person can read. It is empty if nothing was
// refused. After [Session.SetAttribution], it is about the requests with that
// attribution only. It may be called after the end of the session.
//
// The text has a heading and then, for each distinct refusal, the target, the
// reason, the number of requests, and what the user could change. The oldest
// refusals come first. The text has at most 4 KiB. If it leaves requests out, its
// last line says how many. Its only control characters are the line feeds at the
// ends of its lines.
//
// The command chose the hosts, methods and paths in the text, so treat the text
// like the command's output: a tricked command can name any host, such as
// ignore-all-rules.example. [Session.Blocked] returns refusals as data.
func (s *Session) Report() string { return s.principal.Account.Report() }

// Summary sums up the requests of a session.
type Summary struct {
	Allowed uint64 `json:"allowed"` // requests that reached their targets; a tunnel is one request
	Refused uint64 `json:"refused"` // requests that the policy or a limit refused
	Failed  uint64 `json:"failed"`  // requests that were allowed but did not reach their targets

	// Bytes sent to targets and received from them, in bodies, tunnels and
	// datagrams. The bytes of a request count when it has ended.
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`

	// Hosts are the hosts of the allowed and failed requests, in the order of the
	// first request to each: at most 100. MoreHosts means that there were more.
	Hosts     []HostSummary `json:"hosts"`
	MoreHosts bool          `json:"more_hosts,omitempty"`
}

// HostSummary sums up the requests of a session to one host.
type HostSummary struct {
	Host     string `json:"host"` // a name or an address
	Allowed  uint64 `json:"allowed"`
	Failed   uint64 `json:"failed"`
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
}

// Summary returns a summary of the session's requests so far. It may be called
// after the end of the session. Requests that end meanwhile may be part of some of
// its numbers only.
func (s *Session) Summary() Summary {
	a, traffic := s.principal.Account.Summary(), &s.principal.Traffic
	sum := Summary{
		Allowed: a.Requests[audit.Allowed], Refused: a.Requests[audit.Refused], Failed: a.Requests[audit.Failed],
		Sent: traffic.Sent.Load(), Received: traffic.Received.Load(),
		Hosts: make([]HostSummary, len(a.Hosts)), MoreHosts: a.MoreHosts, // Hosts is never nil: it is [] in JSON
	}
	for i, h := range a.Hosts {
		sum.Hosts[i] = HostSummary(h)
	}
	return sum
}

// Sessions returns the open sessions in the order in which they were opened.
func (h *Handle) Sessions() []*Session { return h.sessions.list() }

// list returns the open sessions in the order in which they were opened.
func (t *sessions) list() []*Session {
	t.mu.Lock()
	open := make([]*Session, 0, len(t.open))
	for s := range t.open {
		open = append(open, s)
	}
	t.mu.Unlock()
	slices.SortFunc(open, func(a, b *Session) int {
		return cmp.Or(cmp.Compare(len(a.id), len(b.id)), cmp.Compare(a.id, b.id)) // s9 before s10
	})
	return open
}

// Suggest returns the smallest allowlist that would have allowed every request
// that passed since the start, sorted. It lists a host by its name if only the
// ports of HTTP and HTTPS were used, and with its ports otherwise. It does not
// propose wildcards, because the other hosts of a domain may serve anything. It
// returns nil unless the proxy observes.
func (h *Handle) Suggest() []string {
	list, _ := h.gate.Observations.Suggest()
	return list
}

// LocalTarget is a local target that was refused while the proxy observed.
type LocalTarget struct {
	// Entry is the allowlist entry for exactly this host and port.
	Entry string `json:"entry"`

	// Address is the local address that the name resolved to. An entry opens
	// it only with allow_local_binding. It is zero if the target itself is
	// local, so that the entry suffices.
	Address netip.Addr `json:"address,omitzero"`
}

// SuggestLocal returns the targets that were refused since the start because they
// are local or because their names resolved to a local address, sorted. It leaves
// out the proxy's own listeners, which no entry allows. It returns nil unless the
// proxy observes.
func (h *Handle) SuggestLocal() []LocalTarget {
	var list []LocalTarget
	for _, t := range h.gate.Observations.Local() {
		list = append(list, LocalTarget{t.Target.String(), t.Address})
	}
	return list
}

// SuggestTOML returns the result of Suggest as TOML that a user can paste, with
// the result of SuggestLocal in comments. It returns "" unless the proxy observes.
func (h *Handle) SuggestTOML() string {
	if h.gate.Observations == nil {
		return ""
	}
	list, complete := h.gate.Observations.Suggest()
	return suggestion(list, h.SuggestLocal(), complete)
}

// suggestion returns an allowlist as TOML. complete is false if there were more
// targets than the proxy records.
func suggestion(list []string, local []LocalTarget, complete bool) string {
	var b strings.Builder
	b.WriteString("# The targets of requests that passed while observing. Review them before you paste\n# this: a tricked agent may have reached hosts that it should not.\n")
	if !complete {
		fmt.Fprintf(&b, "# The list is incomplete, because there were more than %d targets.\n", audit.MaxObserved)
	}
	b.WriteString("[network_proxy.policy]\nallowed_domains = [\n")
	for _, entry := range list {
		fmt.Fprintf(&b, "  %q,\n", entry)
	}
	comment := "  # Refused, because they are local. Remove the # from a line to allow that target.\n"
	for _, t := range local {
		if !t.Address.IsValid() {
			fmt.Fprintf(&b, "%s  # %q,\n", comment, t.Entry)
			comment = ""
		}
	}
	comment = "  # Refused, because the names resolve to local addresses. These lines need allow_local_binding = true as well.\n"
	for _, t := range local {
		if t.Address.IsValid() {
			fmt.Fprintf(&b, "%s  # %q, # %s\n", comment, t.Entry, t.Address)
			comment = ""
		}
	}
	b.WriteString("]\n")
	return b.String()
}

// sessionReport describes an open session, for GET /sessions.
type sessionReport struct {
	ID       string            `json:"id"`
	Group    string            `json:"group,omitempty"`
	Command  string            `json:"command,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Opened   time.Time         `json:"opened"`
	Allowed  uint64            `json:"allowed"`
	Refused  uint64            `json:"refused"`
	Failed   uint64            `json:"failed"`
	Sent     uint64            `json:"sent"`
	Received uint64            `json:"received"`
}

// sessionReports describes the open sessions, oldest first.
func (h *Handle) sessionReports() []sessionReport {
	list := []sessionReport{} // [] in JSON if there is none
	for _, s := range h.Sessions() {
		by, sum := s.principal.Attribution(), s.Summary()
		list = append(list, sessionReport{s.id, s.Group(), by.Command, by.Labels, s.principal.Opened(), sum.Allowed, sum.Refused, sum.Failed, sum.Sent, sum.Received})
	}
	return list
}

// metrics returns all metrics, for GET /metrics.
func (h *Handle) metrics() adminhttp.Text {
	s := h.status()
	c := s.count
	var m adminhttp.Metrics
	m.Family("networkproxy_requests_total", adminhttp.Counter,
		"Requests by outcome. Each request ends once: allowed, refused or failed. A UDP flow is a request.")
	for o := range audit.Outcomes {
		for p, protocol := range audit.Protocols {
			for r, reason := range audit.Reasons {
				if n := c.Requests[o][p][r].Load(); n > 0 || o == audit.Allowed && r == 0 {
					m.Sample("networkproxy_requests_total", n,
						"protocol", string(protocol), "outcome", o.String(), "reason", string(reason))
				}
			}
		}
	}
	_, blocked := h.refusals()
	m.Metric("networkproxy_blocked_total", adminhttp.Counter, "Recorded refusals. Malformed requests are not recorded.", blocked)

	m.Metric("networkproxy_connections", adminhttp.Gauge, "Open connections of clients.", s.clients)
	m.Metric("networkproxy_connections_refused_total", adminhttp.Counter, "Connections of clients that were refused because of the limit.", s.clientsRefused)
	m.Metric("networkproxy_connections_cut_total", adminhttp.Counter,
		"Connections to targets that were cut, because a later policy refuses them or their grant was revoked.", c.Cut.Load())
	m.Metric("networkproxy_tunnels", adminhttp.Gauge, "Open tunnels.", c.Tunnels.Load())
	m.Family("networkproxy_tunnel_bytes_total", adminhttp.Counter, "Bytes that tunnels relayed, counted when they end.")
	m.Sample("networkproxy_tunnel_bytes_total", c.BytesSent.Load(), "direction", "sent")
	m.Sample("networkproxy_tunnel_bytes_total", c.BytesReceived.Load(), "direction", "received")
	m.Family("networkproxy_datagrams_dropped_total", adminhttp.Counter, "Datagrams from and to SOCKS5 clients that were dropped.")
	for cause := range audit.DropCauses {
		m.Sample("networkproxy_datagrams_dropped_total", c.Dropped[cause].Load(), "cause", cause.String())
	}

	m.Family("networkproxy_callbacks_dropped_total", adminhttp.Counter,
		"Refusals, log lines and events that were dropped because their consumer was too slow.")
	m.Sample("networkproxy_callbacks_dropped_total", s.droppedRefusals, "callback", "OnBlocked")
	m.Sample("networkproxy_callbacks_dropped_total", s.droppedLogLines, "callback", "log")
	for consumer := range audit.Consumers {
		m.Sample("networkproxy_callbacks_dropped_total", h.gate.Events.Dropped(consumer), "callback", consumer.String())
	}

	m.Metric("networkproxy_audit_log_errors_total", adminhttp.Counter, "Writes to the audit log that have failed.", h.gate.AuditLog.Failures())

	m.Metric("networkproxy_sessions", adminhttp.Gauge, "Open sessions.", s.sessions)
	m.Metric("networkproxy_grants", adminhttp.Gauge, "Grants that are valid or have open connections.", s.grants)
	m.Metric("networkproxy_questions", adminhttp.Gauge, "Questions that wait for the decider.", s.questions)

	m.Family("networkproxy_reloads_total", adminhttp.Counter, "Reloads of the configuration.")
	m.Sample("networkproxy_reloads_total", c.ReloadsOK.Load(), "result", "ok")
	m.Sample("networkproxy_reloads_total", c.ReloadsFailed.Load(), "result", "failed")
	m.Metric("networkproxy_policy_generation", adminhttp.Gauge, "Generation of the policy in force. Each change increases it.", s.policy.Generation)
	m.Family("networkproxy_build_info", adminhttp.Gauge, "Always 1. The labels are the versions that the proxy was built from.")
	m.Sample("networkproxy_build_info", 1, "version", moduleVersion(), "goversion", runtime.Version())
	return m.Text()
}

// modulePath is the path of this module.
const modulePath = "example.com/networkproxy"

// moduleVersion returns the version of this module in the running program, or
// "unknown".
func moduleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == modulePath && m.Version != "" {
			return m.Version
		}
	}
	return "unknown"
}
