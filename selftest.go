// The self-test: requests that must be refused, sent through the listeners of
// the running proxy as clients send them.

package networkproxy

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/things-go/go-socks5/statute"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/policy"
)

// SelfTestResult is the result of one request of a self-test.
type SelfTestResult struct {
	Promise  string   `json:"promise"`  // the promise that the request tests
	Protocol Protocol `json:"protocol"` // of the request
	Target   string   `json:"target"`   // host:port
	Want     Reason   `json:"want"`     // the expected reason of the refusal

	// Got is the reason in the response to a plain HTTP request, the
	// X-Proxy-Error field in the response to CONNECT, or the reply code of
	// SOCKS5. Without a refusal it says what happened instead.
	Got string `json:"got"`

	OK   bool   `json:"ok"`             // the promise holds, or the configuration waives it
	Note string `json:"note,omitempty"` // the reason why the request was not sent
}

// selfTestTimeout bounds each request of a self-test.
const selfTestTimeout = 5 * time.Second

// SelfTest sends requests through the proxy's own listeners and reports
// whether each was refused as promised: hosts that no list names (default
// deny), hosts on the denylist that the allowlist names as well, local and
// private networks, and the proxy's own listeners.
//
// Nothing leaves the machine: the names are below .invalid (RFC 2606), and
// a request that the policy would allow is not sent. If the configuration
// waives a promise, by an entry that allows 127.0.0.1 for example, the result
// is OK and its Note says so.
//
// During the test, run-time rules for a random name below .invalid are in
// force. The requests appear in the record of refusals.
//
// The error means that the test could not run. A broken promise is a result,
// not an error.
func (h *Handle) SelfTest(ctx context.Context) ([]SelfTestResult, error) {
	if err := h.alive(); err != nil {
		return nil, err
	}
	unlisted := "unlisted-" + strings.ToLower(rand.Text()) + ".selftest.invalid"
	denied := "denied-" + strings.ToLower(rand.Text()) + ".selftest.invalid"
	// If the managed limits forbid the allow rule, the test does without it:
	// the reason of the refusal still distinguishes a deny from the default.
	if err := h.AllowDomain(denied); err == nil || errors.As(err, new(*LimitError)) {
		defer h.RemoveDomain(denied)
	} else {
		return nil, err
	}
	if err := h.DenyDomain(denied); err != nil {
		return nil, err
	}

	addrs := selfTestAddrs{http: h.HTTPAddr(), socks: h.SOCKSAddr()}
	if h.settings.requireSession { // the shared listeners refuse clients without a session
		s, err := h.OpenSession(ctx, SessionConfig{Attribution: Attribution{Command: "selftest"}})
		if err != nil {
			return nil, err
		}
		defer s.Close()
		addrs = selfTestAddrs{http: s.HTTPAddr(), socks: s.SOCKSAddr()}
	}
	protocols := []Protocol{ProtocolHTTP, ProtocolHTTPSConnect}
	if addrs.socks != "" {
		protocols = append(protocols, ProtocolSOCKS5TCP)
	}
	var results []SelfTestResult
	for _, p := range h.promises(unlisted, denied) {
		for _, protocol := range protocols {
			p.Protocol = protocol
			if err := h.probe(ctx, addrs, &p); err != nil {
				return results, err
			}
			results = append(results, p)
		}
	}
	return results, nil
}

// promises returns the promises to test, as results with only Promise, Target and
// Want.
func (h *Handle) promises(unlisted, denied string) []SelfTestResult {
	var promises []SelfTestResult
	add := func(promise, target string, want Reason) {
		promises = append(promises, SelfTestResult{Promise: promise, Target: target, Want: want})
	}
	add("what no list names is refused", unlisted+":443", ReasonNotAllowed)
	add("the denylist wins", denied+":443", ReasonDenied)
	add("the proxy is not a target", h.HTTPAddr(), ReasonNotAllowedLocal)
	if a := h.AdminAddr(); a != "" && !filepath.IsAbs(a) { // these protocols cannot name a unix socket
		add("the admin API is not a target", h.AdminAddr(), ReasonNotAllowedLocal)
	}
	for _, target := range []string{
		"localhost:1", "127.0.0.1:1", "[::1]:1", "0.0.0.0:1", "[::ffff:127.0.0.1]:1",
		"10.0.0.1:1", "192.168.0.1:1", "[fd00::1]:1", "169.254.169.254:80",
	} {
		add("local networks are out of reach", target, ReasonNotAllowedLocal)
	}
	if h.SOCKSAddr() != "" {
		add("the SOCKS5 proxy is not a target", h.SOCKSAddr(), ReasonNotAllowedLocal)
	}
	return promises
}

// selfTestAddrs are the addresses that a self-test sends its requests to.
type selfTestAddrs struct{ http, socks string }

// probe sends the request of r and fills in its result. A request that the
// policy would allow is not sent, because it might reach its target.
func (h *Handle) probe(ctx context.Context, addrs selfTestAddrs, r *SelfTestResult) error {
	t, err := hostname.ParseTarget(r.Target)
	if err != nil {
		r.Got, r.OK, r.Note = "not sent", true, "this listener is not on the network"
		return nil
	}
	x, err := h.Explain(ctx, PolicyRequest{Protocol: r.Protocol, Host: t.Host.String(), Port: t.Port})
	switch {
	case err != nil:
		return err
	case x.Decider:
		r.Got, r.OK, r.Note = "not sent", true, "the decider is asked about hosts that no list names"
		return nil
	case x.Allowed && x.Source == SourceObserver:
		r.Got, r.OK, r.Note = "not sent", true, "the proxy is observing: hosts that no list names pass"
		return nil
	case x.Allowed:
		r.Got, r.OK, r.Note = "not sent", waivable(r.Want), "the configuration allows it: "+waiver(x)
		return nil
	}

	ctx, cancel := context.WithTimeout(ctx, selfTestTimeout)
	defer cancel()
	var want string
	switch r.Protocol {
	case ProtocolHTTPSConnect:
		want = (&policy.Verdict{Reason: r.Want}).ErrorToken()
		r.Got, err = askHTTP(ctx, addrs.http, r.Protocol, r.Target)
	case ProtocolSOCKS5TCP:
		want = replyText(statute.RepRuleFailure)
		r.Got, err = askSOCKS(ctx, addrs.socks, t)
	default:
		want = string(r.Want)
		r.Got, err = askHTTP(ctx, addrs.http, r.Protocol, r.Target)
	}
	if err != nil {
		r.Got = err.Error()
	}
	r.OK = r.Got == want
	return nil
}

// waivable reports whether a configuration may waive a promise. The denylist
// has no exceptions.
func waivable(want Reason) bool { return want != ReasonDenied }

// waiver names the entry that waives a promise.
func waiver(x Explanation) string {
	if x.Rule.Pattern == "" {
		return "no list names it"
	}
	return fmt.Sprintf("%s in %s (%s)", x.Rule.Pattern, x.Rule.List, x.Rule.Position)
}

// askHTTP sends a request to the HTTP proxy at addr. It returns the reason of
// the refusal, or for CONNECT, which has no JSON in its response, the
// X-Proxy-Error field.
func askHTTP(ctx context.Context, addr string, protocol Protocol, target string) (string, error) {
	conn, err := dialListener(ctx, addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	line := "GET http://" + target + "/"
	if protocol == ProtocolHTTPSConnect {
		line = "CONNECT " + target
	}
	if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\n\r\n", line, target); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		return "", fmt.Errorf("status %s", resp.Status)
	}
	if protocol == ProtocolHTTPSConnect {
		return resp.Header.Get(httpproxy.ErrorHeader), nil
	}
	var body struct{ Reason Reason }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return "", fmt.Errorf("refused with a body that is not JSON: %w", err)
	}
	return string(body.Reason), nil
}

// askSOCKS sends a CONNECT request to the SOCKS5 proxy at addr and returns the
// reply code as text.
func askSOCKS(ctx context.Context, addr string, t hostname.Target) (string, error) {
	conn, err := dialListener(ctx, addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	methods := statute.NewMethodRequest(statute.VersionSocks5, []byte{statute.MethodNoAuth})
	if _, err := conn.Write(methods.Bytes()); err != nil {
		return "", err
	}
	method, err := statute.ParseMethodReply(conn)
	if err != nil {
		return "", err
	}
	if method.Method != statute.MethodNoAuth {
		return "", fmt.Errorf("authentication method %d", method.Method)
	}
	request := statute.Request{Version: statute.VersionSocks5, Command: statute.CommandConnect, DstAddr: addrSpec(t)}
	if _, err := conn.Write(request.Bytes()); err != nil {
		return "", err
	}
	reply, err := statute.ParseReply(conn)
	if err != nil {
		return "", err
	}
	return replyText(reply.Response), nil
}

// addrSpec returns t as SOCKS5 encodes it.
func addrSpec(t hostname.Target) statute.AddrSpec {
	spec := statute.AddrSpec{FQDN: t.Host.Name(), AddrType: statute.ATYPDomain, Port: int(t.Port)}
	if ip := t.Host.Addr(); ip.IsValid() {
		spec.IP, spec.AddrType = ip.AsSlice(), statute.ATYPIPv6
		if ip.Is4() {
			spec.AddrType = statute.ATYPIPv4
		}
	}
	return spec
}

func replyText(code byte) string { return fmt.Sprintf("reply %d", code) }

// dialListener connects to a listener of the proxy, with the deadline of ctx.
func dialListener(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	return conn, nil
}
