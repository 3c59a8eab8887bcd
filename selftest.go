// The self-test: requests that must be refused, sent through the running
// listeners like anybody's.

package networkproxy

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
)

// SelfTestResult is one row of a self-test.
type SelfTestResult struct {
	Promise  string   `json:"promise"`        // what is put to the test
	Protocol Protocol `json:"protocol"`       // by which the request was sent
	Target   string   `json:"target"`         // host:port
	Want     Reason   `json:"want"`           // why it must be refused
	Got      string   `json:"got"`            // the reason that came back (of a CONNECT the kind, of SOCKS5 the reply), or what happened instead
	OK       bool     `json:"ok"`             // the promise holds, or the configuration waives it
	Note     string   `json:"note,omitempty"` // why the configuration waives it
}

// selfTestTimeout bounds one request of a self-test.
const selfTestTimeout = 5 * time.Second

// SelfTest sends requests through the proxy's own listeners and reports
// whether each was refused as promised: that what no list names is refused
// (default deny), that the denylist wins over the allowlist, that local and
// private networks are out of reach, and that the proxy's own listeners are.
// Nothing leaves the machine: the names are below .invalid (RFC 2606), and
// every request is expected to end at the proxy. A promise that the
// configuration waives (an entry allows 127.0.0.1, say) is noted as that.
//
// For the time of the test, rules for a random name below .invalid are added,
// and the requests appear in the record of refusals.
//
// The error is about the test itself; whether it passed is in the rows.
func (h *Handle) SelfTest(ctx context.Context) ([]SelfTestResult, error) {
	if err := h.alive(); err != nil {
		return nil, err
	}
	unlisted := "unlisted-" + strings.ToLower(rand.Text()) + ".selftest.invalid"
	denied := "denied-" + strings.ToLower(rand.Text()) + ".selftest.invalid"
	// Where managed limits forbid the allow, the deny alone is put to the
	// test: its reason tells it from the default.
	if err := h.AllowDomain(denied); err == nil || errors.As(err, new(*LimitError)) {
		defer h.RemoveDomain(denied)
	} else {
		return nil, err
	}
	if err := h.DenyDomain(denied); err != nil {
		return nil, err
	}

	type probe struct {
		promise, target string
		want            Reason
	}
	probes := []probe{
		{"what no list names is refused", unlisted + ":443", ReasonNotAllowed},
		{"the denylist wins", denied + ":443", ReasonDenied},
		{"the proxy is not a target", h.httpAddr, ReasonNotAllowedLocal},
	}
	if !filepath.IsAbs(h.adminAddr) { // a unix socket is no target of these protocols
		probes = append(probes, probe{"the admin API is not a target", h.adminAddr, ReasonNotAllowedLocal})
	}
	for _, target := range []string{
		"localhost:1", "127.0.0.1:1", "[::1]:1", "0.0.0.0:1", "[::ffff:127.0.0.1]:1",
		"10.0.0.1:1", "192.168.0.1:1", "[fd00::1]:1", "169.254.169.254:80",
	} {
		probes = append(probes, probe{"local networks are out of reach", target, ReasonNotAllowedLocal})
	}

	way := selfTestWay{http: h.httpAddr, socks: h.socksAddr}
	if h.settings.requireSession {
		// The shared listeners take nobody without one.
		s, err := h.OpenSession(ctx, SessionConfig{Attribution: Attribution{Command: "selftest"}})
		if err != nil {
			return nil, err
		}
		defer s.Close()
		way = selfTestWay{http: s.HTTPAddr(), socks: s.SOCKSAddr()}
	}
	protocols := []Protocol{ProtocolHTTP, ProtocolHTTPSConnect}
	if way.socks != "" {
		probes = append(probes, probe{"the SOCKS5 proxy is not a target", h.socksAddr, ReasonNotAllowedLocal})
		protocols = append(protocols, ProtocolSOCKS5TCP)
	}

	var results []SelfTestResult
	for _, p := range probes {
		for _, protocol := range protocols {
			r, err := h.probe(ctx, way, protocol, p.target, p.want)
			if err != nil {
				return results, err
			}
			r.Promise = p.promise
			results = append(results, r)
		}
	}
	return results, nil
}

// selfTestWay is where the requests of a self-test go in.
type selfTestWay struct{ http, socks string }

// probe sends one request that is expected to be refused. Where the policy
// would not refuse it, it is not sent: it might reach something.
func (h *Handle) probe(ctx context.Context, way selfTestWay, protocol Protocol, target string, want Reason) (SelfTestResult, error) {
	r := SelfTestResult{Protocol: protocol, Target: target, Want: want}
	t, err := hostname.ParseTarget(target)
	if err != nil {
		r.Got, r.OK, r.Note = "not sent", true, "this listener is not on the network"
		return r, nil
	}
	x, err := h.Explain(ctx, PolicyRequest{Protocol: protocol, Host: t.Host.String(), Port: t.Port})
	switch {
	case err != nil:
		return r, err
	case x.Decider:
		r.Got, r.OK, r.Note = "not sent", true, "allowlist misses are put to the decider"
		return r, nil
	case x.Allowed && x.Source == SourceObserver:
		r.Got, r.OK, r.Note = "not sent", true, "the proxy is observing: allowlist misses pass"
		return r, nil
	case x.Allowed:
		r.Got, r.OK, r.Note = "not sent", waivable(want), "the configuration allows it: "+waiver(x)
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, selfTestTimeout)
	defer cancel()
	expected := string(want)
	switch protocol {
	case ProtocolHTTPSConnect:
		refusal := policy.Verdict{Reason: want}
		expected = refusal.ErrorToken()
	case ProtocolSOCKS5TCP:
		expected = fmt.Sprintf("reply %d", socksNotAllowed)
	}
	if protocol == ProtocolSOCKS5TCP {
		r.Got, err = askSOCKS(ctx, way.socks, t)
	} else {
		r.Got, err = askHTTP(ctx, way.http, protocol, target)
	}
	if err != nil {
		r.Got = err.Error()
	}
	r.OK = r.Got == expected
	return r, nil
}

// waivable reports whether a configuration may lift a promise at all: no
// allow lifts a deny.
func waivable(want Reason) bool { return want != ReasonDenied }

// waiver names what lifts a promise.
func waiver(x Explanation) string {
	if x.Rule.Pattern == "" {
		return "no list did"
	}
	return fmt.Sprintf("%s in %s (%s)", x.Rule.Pattern, x.Rule.List, x.Rule.Position)
}

// askHTTP makes one request of a proxy over its listener and returns how it
// was refused: the reason, or the kind, which is all that CONNECT carries.
func askHTTP(ctx context.Context, proxy string, protocol Protocol, target string) (string, error) {
	conn, err := dialListener(ctx, proxy)
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
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden {
		return "", fmt.Errorf("answered %s", answer.Status)
	}
	if protocol == ProtocolHTTPSConnect {
		return answer.Header.Get(errorHeader), nil
	}
	var body refusalBody
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
		return "", fmt.Errorf("refused with an unreadable body: %w", err)
	}
	return string(body.Reason), nil
}

// askSOCKS is askHTTP for a SOCKS5 proxy, which has a number to say.
func askSOCKS(ctx context.Context, proxy string, t hostname.Target) (string, error) {
	conn, err := dialListener(ctx, proxy)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	request := []byte{5, 1, 0, 5, 1, 0} // no authentication; CONNECT
	switch a := t.Host.Addr(); {
	case a.Is4():
		request = append(append(request, 1), a.AsSlice()...)
	case a.Is6():
		request = append(append(request, 4), a.AsSlice()...)
	default:
		request = append(append(request, 3, byte(len(t.Host.Name()))), t.Host.Name()...)
	}
	if _, err := conn.Write(binary.BigEndian.AppendUint16(request, t.Port)); err != nil {
		return "", err
	}
	answer := make([]byte, 4) // the method, and the reply's beginning
	if _, err := io.ReadFull(conn, answer); err != nil {
		return "", err
	}
	if answer[0] != 5 || answer[1] != 0 || answer[2] != 5 {
		return "", fmt.Errorf("answered % x", answer)
	}
	return fmt.Sprintf("reply %d", answer[3]), nil
}

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
