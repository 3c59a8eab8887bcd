package policy

import (
	"net/netip"
	"strings"
)

// Verdict is the policy's decision on one request. The zero value refuses.
type Verdict struct {
	Allowed     bool
	Ask         bool  // refused for now: the decider wants the user to be asked
	Check       Check // the check that refused
	Reason      Reason
	Source      Source
	Generation  uint64     // of the policy that was applied
	Entry       Entry      // the entry that decided, if one did
	SessionMode Mode       // the mode of the session, if that refused
	Address     netip.Addr // the resolved address that decided, if one did
	ServerName  string     // the name in the ClientHello that decided, if one did
	Unreadable  string     // why the ClientHello that decided cannot be read: "the hello …"
}

// sessionModeList is the List of the rule that stands for a session's mode.
const sessionModeList = "session_mode"

// Rule returns the rule that decided, or the zero Rule.
func (v *Verdict) Rule() Rule {
	if v.SessionMode != "" {
		return Rule{List: sessionModeList, Pattern: string(v.SessionMode)}
	}
	return v.Entry.Rule()
}

// Pattern returns the pattern of the rule that decided, or "".
func (v *Verdict) Pattern() string {
	if v.SessionMode != "" {
		return string(v.SessionMode)
	}
	return v.Entry.pattern()
}

// Decision returns "allow", "ask" for a refusal that the user may still lift,
// and "deny" for every other refusal.
func (v *Verdict) Decision() string {
	switch {
	case v.Allowed:
		return "allow"
	case v.Ask:
		return "ask"
	}
	return "deny"
}

// ErrorToken returns the value of the x-proxy-error header field: one of a
// fixed vocabulary that programs may switch on. A decider's reason never maps to
// the token of a built-in check.
func (v *Verdict) ErrorToken() string {
	if v.Source != SourceDecider {
		switch v.Reason {
		case ReasonNotAllowed, ReasonNotAllowedLocal:
			return "blocked-by-allowlist"
		case ReasonDenied:
			return "blocked-by-denylist"
		case ReasonMethodNotAllowed:
			return "blocked-by-method-policy"
		}
	}
	return "blocked-by-policy"
}

// Approval returns the source that allowed a request, or "" if a list did. v must
// allow the request.
func (v *Verdict) Approval() Source {
	if v.Source == SourceBaselinePolicy {
		return ""
	}
	return v.Source
}

// Revoked returns the verdict on a request whose grant was revoked.
func Revoked(generation uint64) Verdict {
	return Verdict{Reason: ReasonGrantRevoked, Source: SourceDecider, Generation: generation, Check: CheckAllowlist}
}

// CleanReason returns a decider's reason without control characters and cut to
// 200 bytes, so that it is safe in logs, header fields and terminals.
func CleanReason(s string) Reason { return Reason(CleanText(s, 200)) }

// CleanText returns s without control characters, cut to limit bytes.
func CleanText(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return strings.TrimSpace(s)
}
