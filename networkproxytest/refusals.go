// Checks that targets are refused.

package networkproxytest

import (
	"encoding/json"
	"net"
	"testing"
	"time"

	"example.com/networkproxy"
)

// newest is the last refusal of the record, if it is not older than since.
func (r *testProxy) newest(since time.Time) (networkproxy.BlockedRequest, bool) {
	list := r.Blocked()
	if len(list) == 0 || list[len(list)-1].Time.Before(since) {
		return networkproxy.BlockedRequest{}, false
	}
	return list[len(list)-1], true
}

// refuses sends a target by a way and checks that it is refused for a reason:
// in the outcome, and in the record.
func (r *testProxy) refuses(p path, target string, want networkproxy.Reason) {
	r.t.Helper()
	since := time.Now()
	a, c, ok := p.open(r.t, target)
	if !ok || p.udp && want == networkproxy.ReasonInvalidTarget {
		return // of what becomes of datagrams to no target, nothing is to be seen
	}
	if c != nil {
		defer c.Close()
	}
	if p.udp && a.reached {
		r.dropped(p, c, target, want)
		return
	}
	b, recorded := r.newest(since)
	switch {
	case a.reached:
		r.t.Errorf("%s: %q: reached (%s), want it refused: %s", p.name, target, a.text, want)
	case want == networkproxy.ReasonInvalidTarget:
		if !a.malformed || recorded {
			r.t.Errorf("%s: %q: %s, recorded as %q; want it refused as no target", p.name, target, a.text, b.Reason)
		}
	case !recorded:
		r.t.Errorf("%s: %q: %s, and no refusal was recorded, want %s", p.name, target, a.text, want)
	case b.Reason != want && !(want == networkproxy.ReasonNotAllowed && b.Source == networkproxy.SourceDecider):
		r.t.Errorf("%s: %q: refused as %q, want %q", p.name, target, b.Reason, want)
	case a.reason != "" && a.reason != b.Reason:
		r.t.Errorf("%s: %q: told %q, recorded %q", p.name, target, a.reason, b.Reason)
	}
}

// resendInterval is after how long without a refusal a datagram is sent again: the first
// may be the last of a flow that a change of the policy cuts at that moment,
// which is dropped with it and is no request.
const resendInterval = 50 * time.Millisecond

// dropped sends datagrams and checks that their target is refused.
func (r *testProxy) dropped(p path, c net.Conn, target string, want networkproxy.Reason) {
	r.t.Helper()
	if r.silent[p.name] {
		return
	}
	since := time.Now()
	for next := since; time.Since(since) < timeout; {
		if !time.Now().Before(next) {
			send(c, "ping")
			next = next.Add(resendInterval)
		}
		switch b, recorded := r.newest(since); {
		case !recorded:
			<-time.After(time.Millisecond)
		case b.Reason != want && !(want == networkproxy.ReasonNotAllowed && b.Source == networkproxy.SourceDecider):
			r.t.Errorf("%s: %q: refused as %q, want %q", p.name, target, b.Reason, want)
			return
		default:
			return
		}
	}
	r.silent[p.name] = true
	r.t.Errorf("%s: %q: no refusal was recorded, want %s", p.name, target, want)
}

// reasonIn is the reason that the JSON of a refusal gives.
func reasonIn(body []byte) networkproxy.Reason {
	var told struct{ Reason networkproxy.Reason }
	if json.Unmarshal(body, &told) != nil {
		return ""
	}
	return told.Reason
}

func (table TargetTable) check(t testing.TB, start Start) {
	t.Helper()
	table.checkAll(startProxy(t, start, table.Policy, networkproxy.ModeFull))
}

// checkAll sends the targets by every way.
func (table TargetTable) checkAll(r *testProxy) {
	r.t.Helper()
	for _, target := range table.Targets {
		target = ExpandTarget(target, r.Handle)
		if target == "" {
			continue
		}
		for _, p := range r.paths {
			r.refuses(p, target, table.Reason)
		}
	}
}
