// The account of a decision, check by check, as the decision function itself
// gives it while it decides.

package networkproxy

import "net/netip"

// The checks, in the order in which they are made.
const (
	checkTarget        = "target"         // the target is well-formed
	checkLimit         = "limit"          // there is room for it
	checkSession       = "session"        // who asks is established, where a listener does not say
	checkEnabled       = "enabled"        // the proxy is on
	checkOwnListener   = "own_listener"   // the target is not the proxy itself
	checkDenylist      = "denylist"       // no denylist entry matches
	checkUnixSocket    = "unix_socket"    // the path is in allow_unix_sockets; the checks of hosts are not made then
	checkLocal         = "local"          // not a local literal, or explicitly allowed
	checkAllowlist     = "allowlist"      // an allowlist entry matches, or the decider allows
	checkManaged       = "managed_limits" // made on an allowlist miss: the managed allowed_domains let a decider allow the host
	checkMode          = "mode"           // the mode permits the method and the protocol
	checkResolve       = "resolve"        // the name has addresses
	checkAddress       = "address"        // every address is public
	checkDeniedAddress = "denied_address" // no address is on the denylist
	checkServerName    = "server_name"    // TLS in the tunnel asks for the target; made when it does
	checkUpstream      = "upstream"       // upstream proxies are allowed, where an open connection goes through one
)

// Check is one step of a decision.
type Check struct {
	Name    string     `json:"check"`
	Passed  bool       `json:"passed"`
	Rule    Rule       `json:"rule,omitzero"`    // the entry that settled it, if one did
	Source  Source     `json:"source,omitempty"` // who settled it, where that is not a list
	Address netip.Addr `json:"address,omitzero"` // the address that settled it, if one did
}

// trace collects checks. A nil trace collects nothing and costs nothing.
type trace []Check

func (t *trace) add(c Check) {
	if t != nil {
		*t = append(*t, c)
	}
}

func (t *trace) pass(name string)             { t.add(Check{Name: name, Passed: true}) }
func (t *trace) passRule(name string, r Rule) { t.add(Check{Name: name, Passed: true, Rule: r}) }
func (t *trace) passBy(name string, s Source) { t.add(Check{Name: name, Passed: true, Source: s}) }

// passEntry is passRule for a rule that is not made yet.
func (t *trace) passEntry(name string, e entry) {
	if t != nil {
		t.passRule(name, e.rule())
	}
}
