// Checks that targets are refused.

package networkproxytest

import (
	"encoding/json"
	"net"
	"testing"
	"time"

	"example.com/networkproxy"
)

// newest returns the last recorded refusal, if it is not older than since.
func (r *testProxy) newest(since time.Time) (networkproxy.BlockedRequest, bool) {
	list := r.Blocked()
	if len(list) == 0 || list[len(list)-1].Time.Before(since) {
		return networkproxy.BlockedRequest{}, false
	}
	return list[len(list)-1], true
}

// refuses sends target via p and checks that the response and the record refuse it
// with the reason want.
func (r *testProxy) refuses(p path, target string, want networkproxy.Reason) {
	r.t.Helper()
	since := time.Now()
	out, c, ok := p.open(r.t, target)
	if !ok || p.udp && want == networkproxy.ReasonInvalidTarget {
		return // the proxy drops datagrams to invalid targets without a trace
	}
	if c != nil {
		defer c.Close()
	}
	if p.udp && out.reached {
		r.dropped(p, c, target, want)
		return
	}
	b, recorded := r.newest(since)
	switch {
	case out.reached:
		r.t.Errorf("%s: %q: allowed (%s), want a refusal with reason %s", p.name, target, out.text, want)
	case want == networkproxy.ReasonInvalidTarget:
		if !out.malformed || recorded {
			r.t.Errorf("%s: %q: %s, recorded with reason %q; want a refusal as invalid and no record", p.name, target, out.text, b.Reason)
		}
	case !recorded:
		r.t.Errorf("%s: %q: %s, but no refusal was recorded; want one with reason %s", p.name, target, out.text, want)
	case b.Reason != want && !(want == networkproxy.ReasonNotAllowed && b.Source == networkproxy.SourceDecider):
		r.t.Errorf("%s: %q: refused with reason %q, want %q", p.name, target, b.Reason, want)
	case out.reason != "" && out.reason != b.Reason:
		r.t.Errorf("%s: %q: the response has reason %q, but the record has %q", p.name, target, out.reason, b.Reason)
	}
}

// resendInterval is the time without a recorded refusal after which a datagram is
// sent again. A change of the policy may cut the flow of the first datagram at the
// same moment. The proxy then drops it with the flow and records no refusal.
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
			r.t.Errorf("%s: %q: refused with reason %q, want %q", p.name, target, b.Reason, want)
			return
		default:
			return
		}
	}
	r.silent[p.name] = true
	r.t.Errorf("%s: %q: no refusal was recorded, want one with reason %s", p.name, target, want)
}

// reasonIn returns the reason in the JSON body of a refusal, or "".
func reasonIn(body []byte) networkproxy.Reason {
	var refusal struct{ Reason networkproxy.Reason }
	if json.Unmarshal(body, &refusal) != nil {
		return ""
	}
	return refusal.Reason
}

func (table TargetTable) check(t testing.TB, start Start) {
	t.Helper()
	table.checkAll(startProxy(t, start, table.Policy, networkproxy.ModeFull))
}

// shortPaths is the number of paths of which checkAll uses one for a target under
// -short.
const shortPaths = 4

// checkAll sends the targets via all paths and checks that they are refused. Under
// -short it sends each target via some of the paths, in turn.
func (table TargetTable) checkAll(r *testProxy) {
	r.t.Helper()
	for i, target := range table.Targets {
		target = ExpandTarget(target, r.Handle)
		if target == "" {
			continue
		}
		for j, p := range r.paths {
			if testing.Short() && (i+j)%shortPaths != 0 {
				continue
			}
			r.refuses(p, target, table.Reason)
		}
	}
}
