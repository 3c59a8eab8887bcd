// Explanations: the checks that a request would meet, in order, made by the
// functions that enforce them.

package networkproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/httprule"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/upstream"
)

// Explanation is the decision that the proxy would make about a request, with the
// reason and the checks that lead to it.
type Explanation struct {
	Request PolicyRequest `json:"request"`
	Allowed bool          `json:"allowed"`
	Reason  Reason        `json:"reason,omitempty"` // of the refusal
	Source  Source        `json:"source,omitempty"` // the part of the policy that decided
	Rule    Rule          `json:"rule,omitzero"`    // the entry that decided, with its position
	Address netip.Addr    `json:"address,omitzero"` // the resolved address that decided

	// Upstream is the upstream proxy that an allowed request would go through.
	// That proxy resolves the name. Empty means that the request would go
	// directly.
	Upstream string `json:"upstream,omitempty"`

	// Decider means that the decision is up to the decider, which Explain does
	// not ask. Allowed is false then.
	Decider bool `json:"decider"`

	Message string `json:"message"`        // the outcome in a sentence
	Hint    string `json:"hint,omitempty"` // what the user could change

	// Checks are the checks in the order in which they were made. After
	// a refusal, the last check is the one that refused.
	Checks []Check `json:"checks"`

	Generation uint64 `json:"generation"` // of the policy that was applied
}

// Explain returns the decision that the policy in force would make about a request,
// with its reason. It sends nothing: it does not resolve names and does not ask the
// decider.
//
// Only Protocol, Host, Port and Method of req matter. An empty protocol means
// [ProtocolHTTP]. An empty method means GET, or CONNECT with
// [ProtocolHTTPSConnect]. A malformed host is a refusal that is explained like
// any other. The error is that of an unknown protocol, or of ctx.
func (h *Handle) Explain(ctx context.Context, req PolicyRequest) (Explanation, error) {
	return explainRequest(ctx, h.gate, new(gate.Principal), req)
}

// ExplainURL is Explain for a target that a person typed. An http:// or ws:// URL
// is a forwarded request. An https:// or wss:// URL or a host:port is a CONNECT
// request; if TLS inspection would open the tunnel of a URL, the request inside it
// is explained as well. socks5://host:port and udp://host:port are SOCKS5 requests.
//
// If resolve is true and the name is allowed, ExplainURL resolves it and explains
// the checks of its addresses as well. It connects to none of them.
func (h *Handle) ExplainURL(ctx context.Context, url, method string, resolve bool) (Explanation, error) {
	return explainURL(ctx, h.gate, new(gate.Principal), url, method, resolve)
}

// Explain is [Handle.Explain] for a request of this session. It applies the
// session's own patterns, mode and decider as well.
func (s *Session) Explain(ctx context.Context, req PolicyRequest) (Explanation, error) {
	return explainRequest(ctx, s.handle.gate, s.principal, req)
}

// ExplainURL is [Handle.ExplainURL] for a request of this session.
func (s *Session) ExplainURL(ctx context.Context, url, method string, resolve bool) (Explanation, error) {
	return explainURL(ctx, s.handle.gate, s.principal, url, method, resolve)
}

// target is a query whose target may be malformed.
type target struct {
	policy.Query
	text string // the target as it was given
	err  error  // why the target is malformed; nil if it is not

	// Of an https:// or wss:// URL:
	inside        string // the request-target inside TLS, in origin-form
	insideUpgrade bool   // the request inside TLS asks to switch protocols
}

func explainRequest(ctx context.Context, g *gate.Gate, from *gate.Principal, req PolicyRequest) (Explanation, error) {
	t := target{Query: policy.Query{Protocol: req.Protocol, Method: req.Method}, text: req.Host}
	switch req.Protocol {
	case "":
		t.Protocol = ProtocolHTTP
	case ProtocolHTTPS:
		t.HTTP = &httprule.Request{Target: cmp.Or(req.Path, "/"), Header: http.Header{}}
	case ProtocolHTTP, ProtocolHTTPSConnect, ProtocolSOCKS5TCP, ProtocolSOCKS5UDP, ProtocolCapturedTCP, ProtocolCapturedUDP:
	default:
		return Explanation{}, fmt.Errorf("unknown protocol %q: use %s, %s, %s, %s, %s, %s or %s", req.Protocol,
			ProtocolHTTP, ProtocolHTTPSConnect, ProtocolHTTPS, ProtocolSOCKS5TCP, ProtocolSOCKS5UDP, ProtocolCapturedTCP, ProtocolCapturedUDP)
	}
	t.CanOpen = t.Protocol.IsTunnel() && t.Method == ""
	t.Target.Host, t.err = hostname.Parse(req.Host)
	t.Target.Port = req.Port
	if t.err == nil && req.Port == 0 {
		t.err = errors.New("port 0 is not valid: use 1 to 65535")
	}
	return explain(ctx, g, from, t, false)
}

func explainURL(ctx context.Context, g *gate.Gate, from *gate.Principal, text, method string, resolve bool) (Explanation, error) {
	t, err := parseTarget(text)
	if err != nil {
		return Explanation{}, err
	}
	t.Method = method
	return explain(ctx, g, from, t, resolve)
}

// parseTarget parses a target as ExplainURL documents it, with the parsers that
// the listeners use.
func parseTarget(text string) (target, error) {
	t := target{text: text, Query: policy.Query{Protocol: ProtocolHTTPSConnect}}
	scheme, rest, isURL := strings.Cut(text, "://")
	if !isURL {
		t.Target, t.err = hostname.ParseTarget(text)
		return t, nil
	}
	switch strings.ToLower(scheme) {
	case "http", "ws":
		t.Protocol, t.Upgrade = ProtocolHTTP, strings.EqualFold(scheme, "ws")
		var u *url.URL
		if u, t.err = url.ParseRequestURI("http://" + rest); t.err == nil {
			t.Target, t.err = httpproxy.URLTarget(u, "http://"+rest)
			t.HTTP = &httprule.Request{Target: originForm(rest), Header: http.Header{}}
		}
	case "https", "wss":
		t.Target, t.err = hostname.ParseTargetDefault(httpproxy.URLAuthority(rest), 443)
		t.CanOpen, t.inside, t.insideUpgrade = true, originForm(rest), strings.EqualFold(scheme, "wss")
	case "socks5", "socks5h":
		t.Protocol = ProtocolSOCKS5TCP
		t.Target, t.err = hostname.ParseTarget(httpproxy.URLAuthority(rest))
	case "udp":
		t.Protocol = ProtocolSOCKS5UDP
		t.Target, t.err = hostname.ParseTarget(httpproxy.URLAuthority(rest))
	default:
		return t, fmt.Errorf("unsupported scheme %.20q: use http://, https://, socks5:// or udp://", scheme)
	}
	return t, nil
}

// originForm returns the path and query of a URL, given the part after "//".
func originForm(rest string) string {
	path, _, _ := strings.Cut(rest[len(httpproxy.URLAuthority(rest)):], "#")
	if !strings.HasPrefix(path, "/") {
		return "/" + path
	}
	return path
}

// explain makes the checks for a request of from and returns them with their
// outcome.
func explain(ctx context.Context, g *gate.Gate, from *gate.Principal, t target, resolve bool) (Explanation, error) {
	if err := ctx.Err(); err != nil {
		return Explanation{}, err
	}
	insideMethod := cmp.Or(t.Method, http.MethodGet)
	if t.Method == "" {
		t.Method = map[Protocol]string{ProtocolHTTP: http.MethodGet, ProtocolHTTPS: http.MethodGet, ProtocolHTTPSConnect: http.MethodConnect}[t.Protocol]
	}
	if t.HTTP != nil {
		t.HTTP.Method = t.Method
	}
	p := g.Policy()
	if t.err != nil {
		return Explanation{
			Request:    PolicyRequest{Protocol: t.Protocol, Host: t.text, Method: t.Method},
			Reason:     ReasonInvalidTarget,
			Message:    httpproxy.MalformedMessage(t.err),
			Checks:     []Check{{Name: policy.CheckTarget.String()}},
			Generation: p.Generation,
		}, nil
	}

	req := &gate.Request{Query: t.Query, Principal: from}
	req.Overlay = from.Overlay.Load()
	tr := policy.Trace{{Check: policy.CheckTarget, Passed: true}}
	v, miss := p.Judge(&req.Query, g.StandingApproval(), &tr)
	decider := false
	if miss && g.DeciderOf(req.Principal) != nil {
		var refusal policy.Verdict
		if refusal, decider = p.JudgeUse(&req.Query, nil); !decider {
			v = refusal
			tr.Add(policy.Step{Check: refusal.Check})
		}
	}
	if v.Allowed && v.Open && t.inside != "" {
		req.Protocol, req.Method, req.Upgrade, req.CanOpen = ProtocolHTTPS, insideMethod, t.insideUpgrade, false
		req.HTTP = &httprule.Request{Method: insideMethod, Target: t.inside, Header: http.Header{}}
		inner, ok := p.JudgeInnerMethod(insideMethod)
		if ok {
			inner, ok = p.JudgeUse(&req.Query, &tr)
		} else {
			tr.Add(policy.Step{Check: inner.Check})
		}
		if !ok {
			v = inner
		}
	}
	var via *upstream.Proxy
	if v.Allowed {
		via = g.Route(p, &req.Query).Proxy
	}
	if v.Allowed && resolve {
		v = explainAddrs(ctx, g, p, req, v, via, &tr)
	}
	x := Explanation{
		Request:    publicRequest(req.ApprovalRequest()),
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
		x.Message = fmt.Sprintf("networkproxy would ask the application's decider about %s, because no list names it.", req.Target)
	case v.Check == policy.CheckResolve:
		x.Message = fmt.Sprintf("networkproxy would let %s pass, but the name has no addresses.", req.Target)
	default:
		x.Message, x.Hint = v.Explain(&req.Query)
	}
	return x, nil
}

// explainAddrs resolves an allowed name and returns the verdict on its
// addresses. It returns v if the upstream proxy would resolve the name.
func explainAddrs(ctx context.Context, g *gate.Gate, p *policy.Policy, req *gate.Request, v policy.Verdict, via *upstream.Proxy, tr *policy.Trace) policy.Verdict {
	addrs := gate.FixedAddrs(req.Target.Host)
	if addrs == nil && via != nil {
		return v
	}
	if addrs == nil {
		var err error
		if addrs, err = g.Dialer.Resolve(ctx, req.Target.Host.Name()); err != nil {
			tr.Add(policy.Step{Check: policy.CheckResolve})
			return policy.Verdict{Reason: policy.ReasonDNSFailure, Generation: v.Generation, Check: policy.CheckResolve}
		}
	}
	tr.Pass(policy.CheckResolve)
	return p.JudgeAddrs(&req.Query, v, addrs, tr)
}
