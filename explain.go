// The answer to "why?": the checks that a request would meet, in order, from
// the function that enforces them.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/upstream"
)

// Explanation is the account of one decision.
type Explanation struct {
	Request  PolicyRequest `json:"request"`
	Allowed  bool          `json:"allowed"`
	Reason   Reason        `json:"reason,omitempty"`
	Source   Source        `json:"source,omitempty"`
	Rule     Rule          `json:"rule,omitzero"`      // the entry that decided, and where it stands
	Address  netip.Addr    `json:"address,omitzero"`   // the resolved address that decided
	Upstream string        `json:"upstream,omitempty"` // the proxy that it would leave through, which then looks the name up
	Decider  bool          `json:"decider"`            // nothing but the decider is left to ask; it was not
	Message  string        `json:"message"`
	Hint     string        `json:"hint,omitempty"`
	Checks   []Check       `json:"checks"` // in the order they were made; it ends with the one that refused

	// Generation is that of the policy that was applied.
	Generation uint64 `json:"generation"`
}

// Explain says what the policy in force would do with a request, and why. It
// contacts nobody: no name is looked up, and the decider is not asked.
// Protocol, Host, Port and Method are looked at; an empty protocol means
// "http", an empty method GET, or CONNECT where that is the protocol. A
// malformed host is explained like any other refusal; the error concerns the
// protocol and ctx.
func (h *Handle) Explain(ctx context.Context, req PolicyRequest) (Explanation, error) {
	return explainRequest(h.gate, ctx, req)
}

// ExplainURL is Explain for a target as people write it: an http:// or ws://
// URL is a forwarded request, an https:// or wss:// URL or a bare host:port a
// CONNECT, and socks5://host:port and udp://host:port are SOCKS. With
// resolve, a name that is allowed is looked up, and the checks of its
// addresses are explained as well; still nothing is connected to.
func (h *Handle) ExplainURL(ctx context.Context, url, method string, resolve bool) (Explanation, error) {
	return explainURL(h.gate, ctx, url, method, resolve)
}

// Explain is [Handle.Explain] for a proxy that has not been run. Its own
// listeners are taken to be where the configuration puts them.
func (p *NetworkProxy) Explain(ctx context.Context, req PolicyRequest) (Explanation, error) {
	return explainRequest(p.planned(), ctx, req)
}

// ExplainURL is [Handle.ExplainURL] for a proxy that has not been run.
func (p *NetworkProxy) ExplainURL(ctx context.Context, url, method string, resolve bool) (Explanation, error) {
	return explainURL(p.planned(), ctx, url, method, resolve)
}

// planned enforces what Run would.
func (p *NetworkProxy) planned() *gate.Gate {
	e := gate.New(p.settings.gateConfig(p.settings.log, hostcall.New(p.settings.hooks.callbackPatience)))
	for _, addr := range p.settings.plannedAddrs(p.first) {
		e.Self.Add(net.TCPAddrFromAddrPort(addr))
	}
	e.Install(p.first.compile(1, p.first.Config.Mode, runtimeRules{}, &e.Self))
	return e
}

// target is a request whose target may turn out to be malformed.
type target struct {
	policy.Query
	text  string // the target as it was given
	wrong error  // what is malformed about it
}

func explainRequest(e *gate.Gate, ctx context.Context, req PolicyRequest) (Explanation, error) {
	q := target{Query: policy.Query{Protocol: req.Protocol, Method: req.Method}, text: req.Host}
	switch req.Protocol {
	case "":
		q.Protocol = ProtocolHTTP
	case ProtocolHTTP, ProtocolHTTPSConnect, ProtocolSOCKS5TCP, ProtocolSOCKS5UDP:
	default:
		return Explanation{}, fmt.Errorf("unknown protocol %q: use %s, %s, %s or %s", req.Protocol,
			ProtocolHTTP, ProtocolHTTPSConnect, ProtocolSOCKS5TCP, ProtocolSOCKS5UDP)
	}
	q.Target.Host, q.wrong = hostname.Parse(req.Host)
	q.Target.Port = req.Port
	if q.wrong == nil && req.Port == 0 {
		q.wrong = errors.New("port 0 is no port: use 1 to 65535")
	}
	return explain(e, ctx, q, false)
}

func explainURL(e *gate.Gate, ctx context.Context, text, method string, resolve bool) (Explanation, error) {
	q, err := parseTarget(text)
	if err != nil {
		return Explanation{}, err
	}
	q.Method = method
	return explain(e, ctx, q, resolve)
}

// parseTarget reads a target by the very parsers that the listeners use.
func parseTarget(text string) (target, error) {
	q := target{text: text, Query: policy.Query{Protocol: ProtocolHTTPSConnect}}
	scheme, rest, isURL := strings.Cut(text, "://")
	if !isURL {
		q.Target, q.wrong = hostname.ParseTarget(text)
		return q, nil
	}
	switch strings.ToLower(scheme) {
	case "http", "ws":
		q.Protocol, q.Upgrade = ProtocolHTTP, strings.EqualFold(scheme, "ws")
		var u *url.URL
		if u, q.wrong = url.ParseRequestURI("http://" + rest); q.wrong == nil {
			q.Target, q.wrong = httpproxy.URLTarget(u, "http://"+rest)
		}
	case "https", "wss":
		q.Target, q.wrong = hostname.ParseTargetDefault(httpproxy.URLAuthority(rest), 443)
	case "socks5", "socks5h":
		q.Protocol = ProtocolSOCKS5TCP
		q.Target, q.wrong = hostname.ParseTarget(httpproxy.URLAuthority(rest))
	case "udp":
		q.Protocol = ProtocolSOCKS5UDP
		q.Target, q.wrong = hostname.ParseTarget(httpproxy.URLAuthority(rest))
	default:
		return q, fmt.Errorf("the scheme %.20q is not carried: use http://, https://, socks5:// or udp://", scheme)
	}
	return q, nil
}

// explain takes a question through the checks and keeps the account.
func explain(e *gate.Gate, ctx context.Context, q target, resolve bool) (Explanation, error) {
	if err := ctx.Err(); err != nil {
		return Explanation{}, err
	}
	if q.Method == "" {
		q.Method = map[Protocol]string{ProtocolHTTP: http.MethodGet, ProtocolHTTPSConnect: http.MethodConnect}[q.Protocol]
	}
	p := e.Policy()
	if q.wrong != nil {
		return Explanation{
			Request:    PolicyRequest{Protocol: q.Protocol, Host: q.text, Method: q.Method},
			Reason:     ReasonInvalidTarget,
			Message:    "networkproxy cannot carry this request: " + q.wrong.Error(),
			Checks:     []Check{{Name: policy.CheckTarget.String()}},
			Generation: p.Generation,
		}, nil
	}

	req := &gate.Request{Query: q.Query, Principal: &gate.Principal{}}
	tr := policy.Trace{{Check: policy.CheckTarget, Passed: true}}
	v, miss := p.Judge(&req.Query, e.StandingApproval(), &tr)
	decider := false
	if miss && e.Asker.Decider != nil {
		if refusal, ok := p.JudgeMode(&req.Query, nil); ok {
			decider = true
		} else {
			v = refusal
			tr.Add(policy.Step{Check: policy.CheckMode})
		}
	}
	var via *upstream.Proxy
	if v.Allowed {
		via = e.Route(p, &req.Query).Proxy
	}
	if v.Allowed && resolve {
		v = explainAddrs(e, ctx, p, req, v, via, &tr)
	}
	x := Explanation{
		Request:    publicRequest(req.Asked()),
		Allowed:    v.Allowed,
		Reason:     v.Reason,
		Source:     v.Source,
		Rule:       publicRule(v.Rule()),
		Address:    v.Address,
		Decider:    decider,
		Checks:     publicChecks(tr),
		Generation: v.Generation,
	}
	if via != nil {
		x.Upstream = via.String()
	}
	switch {
	case v.Allowed && via != nil:
		x.Message = fmt.Sprintf("networkproxy would let %s pass, through %s.", req.Target, via)
	case v.Allowed:
		x.Message = fmt.Sprintf("networkproxy would let %s pass.", req.Target)
	case decider:
		x.Message = fmt.Sprintf("networkproxy would put %s to the application's decider: no list names it.", req.Target)
	case v.Check == policy.CheckResolve:
		x.Message = fmt.Sprintf("networkproxy would let %s pass, but the name has no addresses.", req.Target)
	default:
		x.Message, x.Hint = v.Explain(&req.Query)
	}
	return x, nil
}

// explainAddrs looks an allowed name up and judges its addresses, as far as
// that is not left to a proxy.
func explainAddrs(e *gate.Gate, ctx context.Context, p *policy.Policy, req *gate.Request, v policy.Verdict, via *upstream.Proxy, tr *policy.Trace) policy.Verdict {
	addrs := gate.FixedAddrs(req.Target.Host)
	if addrs == nil && via != nil {
		return v
	}
	if addrs == nil {
		var err error
		if addrs, err = e.Dialer.Resolve(ctx, req.Target.Host.Name()); err != nil {
			tr.Add(policy.Step{Check: policy.CheckResolve})
			return policy.Verdict{Reason: policy.ReasonDNSFailure, Generation: v.Generation, Check: policy.CheckResolve}
		}
	}
	tr.Pass(policy.CheckResolve)
	return p.JudgeAddrs(&req.Query, v, addrs, tr)
}
