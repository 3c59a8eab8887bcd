package policy

import (
	"net/netip"
	"strings"
	"unicode"

	"example.com/networkproxy/internal/httprule"
)

// Verdict is the policy's decision on one request. The zero value refuses.
type Verdict struct {
	Allowed     bool
	Ask         bool  // refused for now: the decider wants the user to be asked
	Unmatched   bool  // no request rule of the host matches; Entry is the first of them
	OwnReason   bool  // Source is SourceDecider, but Reason is one of this package's and not the decider's
	Check       Check // the check that refused
	Reason      Reason
	Source      Source
	Generation  uint64     // of the policy that was applied
	Entry       Entry      // the entry that decided, if one did
	SessionMode Mode       // the mode of the session, if that refused
	Address     netip.Addr // the resolved address that decided, if one did
	ServerName  string     // the name in the ClientHello that decided, if one did
	Problem     string     // what is wrong with the ClientHello, the path, the body or the certificate that decided, or what the request does

	// Of a request that is allowed.
	Open    bool             // TLS in the tunnel must be opened
	Content httprule.Content // what the body must begin with
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

// List returns the list of the rule that decided, or "".
func (v *Verdict) List() string {
	switch {
	case v.SessionMode != "":
		return sessionModeList
	case v.Entry.set == nil:
		return ""
	}
	return v.Entry.set.List
}

// Pattern returns the pattern of the rule that decided, or "".
func (v *Verdict) Pattern() string {
	if v.SessionMode != "" {
		return string(v.SessionMode)
	}
	return v.Entry.pattern()
}

// Decision returns [DecisionAllow], [DecisionAsk] for a refusal that the user may
// still lift, and [DecisionDeny] for every other refusal.
func (v *Verdict) Decision() DecisionKind {
	switch {
	case v.Allowed:
		return DecisionAllow
	case v.Ask:
		return DecisionAsk
	}
	return DecisionDeny
}

// ByUser reports whether the decider refused, or a grant was revoked. It reports
// false for a decider that gave no answer.
func (v *Verdict) ByUser() bool {
	return v.Source == SourceDecider && !v.Allowed && (!v.OwnReason || v.Reason == ReasonGrantRevoked)
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
		case ReasonHostMismatch:
			return "blocked-by-host-mismatch"
		case ReasonMITMRequired:
			return "blocked-by-mitm-required"
		case ReasonMITMHookDenied:
			return "blocked-by-mitm-hook"
		case ReasonCredentialNotAllowed:
			return "blocked-by-credential-policy"
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
	return Verdict{Reason: ReasonGrantRevoked, OwnReason: true, Source: SourceDecider, Generation: generation, Check: CheckAllowlist}
}

// CleanReason returns a decider's reason without control characters and cut to
// 200 bytes, so that it is safe in logs, header fields and terminals.
func CleanReason(s string) Reason { return Reason(CleanText(s, 200)) }

// CleanText returns s without control characters, line separators and characters
// that change the direction of text, cut to limit bytes.
func CleanText(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0:
			return -1
		case r >= 0x80 && unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return strings.TrimSpace(s)
}
