// What run prints after its command has ended.

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"example.com/networkproxy"
)

// summaryFlags are the flags of run for its summary.
type summaryFlags struct {
	quiet, json bool
	file        string
}

// runSummary is the summary of a command.
type runSummary struct {
	ExitStatus int                  `json:"exit_status"` // of the program
	Outcome    networkproxy.Outcome `json:"outcome"`
	networkproxy.Summary
	Refusals []refusalCount            `json:"refusals"`           // of the newest refused requests
	Report   string                    `json:"report,omitempty"`   // the refusals as text
	Observed *suggestion               `json:"observed,omitempty"` // only with -observe
	Fence    *networkproxy.FenceReport `json:"fence,omitempty"`    // only with -fence
}

// refusalCount counts equal refusals.
type refusalCount struct {
	Host     string                `json:"host"`
	Port     uint16                `json:"port"`
	Protocol networkproxy.Protocol `json:"protocol"`
	Reason   networkproxy.Reason   `json:"reason"`
	Rule     string                `json:"rule,omitempty"` // the entry that denied
	Count    int                   `json:"count"`
}

// suggestion is the allowlist that covers the observed requests.
type suggestion struct {
	AllowedDomains []string                   `json:"allowed_domains"`
	RefusedLocal   []networkproxy.LocalTarget `json:"refused_local,omitempty"`
}

// summarize returns the summary of a session that has ended. status is the exit
// status of its command.
func summarize(h *networkproxy.Handle, s *networkproxy.Session, observed bool, status int) runSummary {
	sum := runSummary{
		ExitStatus: status,
		Outcome:    s.Outcome(),
		Summary:    s.Summary(),
		Refusals:   countRefusals(s.Blocked()),
		Report:     s.Report(),
	}
	if observed {
		sum.Observed = &suggestion{append([]string{}, h.Suggest()...), h.SuggestLocal()}
	}
	return sum
}

// write writes s as a line of JSON.
func (s runSummary) write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(s)
}

// countRefusals counts equal refusals. Those with the most requests come first.
func countRefusals(blocked []networkproxy.BlockedRequest) []refusalCount {
	counts := make(map[refusalCount]int)
	for _, b := range blocked {
		counts[refusalCount{b.Host, b.Port, b.Protocol, b.Reason, b.Rule.Pattern, 0}]++
	}
	list := make([]refusalCount, 0, len(counts))
	for r, n := range counts {
		r.Count = n
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b refusalCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.String(), b.String()))
	})
	return list
}

// String returns a line of the summary, without its count.
func (r refusalCount) String() string {
	line := r.Host
	if r.Port != 0 { // a lookup has none
		line += fmt.Sprintf(" port %d", r.Port)
	}
	line += fmt.Sprintf("  %s  %s", r.Protocol, r.Reason)
	if r.Rule != "" {
		line += fmt.Sprintf(" (%s)", r.Rule)
	}
	return line
}

// printRefused prints each refused target and reason once, with its count, and the
// command that explains one of them.
func (p *program) printRefused(s runSummary, explain string) {
	if len(s.Refusals) == 0 {
		return
	}
	listed := 0
	var lines strings.Builder
	for _, r := range s.Refusals {
		listed += r.Count
		fmt.Fprintf(&lines, "  %5d  %s\n", r.Count, r)
	}
	total := max(int(s.Refused), listed)
	summary := fmt.Sprintf("refused %s from this command", requestCount(total))
	if total > listed {
		summary += fmt.Sprintf("; these are the newest %d", listed)
	}
	if p.json {
		p.record(slog.LevelWarn, summary, slog.Any("refusals", s.Refusals), slog.String("explain", explain))
		return
	}
	p.print("networkproxy: " + summary + ":\n" + p.paint(red, lines.String()))
	if explain != "" {
		p.report(slog.LevelInfo, "to see why, and what would allow a request: "+explain)
	}
}

// printSuggestion prints an allowlist that covers the hosts that the command
// reached while observing, with the local targets that were refused in comments.
func (p *program) printSuggestion(handle *networkproxy.Handle) {
	allowed, local := handle.Suggest(), handle.SuggestLocal()
	attrs := []slog.Attr{slog.Any("allowed_domains", allowed)}
	if len(local) > 0 {
		attrs = append(attrs, slog.Any("refused_local", local))
	}
	switch {
	case len(allowed) == 0 && len(local) == 0:
		p.report(slog.LevelInfo, "nothing to suggest: the command reached no host through the proxy", attrs...)
	case p.json:
		p.record(slog.LevelInfo, "an allowlist for the observed requests. Review it before use: a command that was tricked may have reached hosts it should not", attrs...)
	default:
		p.print("networkproxy: an allowlist for the observed requests:\n" + handle.SuggestTOML())
	}
}

func requestCount(n int) string {
	if n == 1 {
		return "one request"
	}
	return fmt.Sprintf("%d requests", n)
}
