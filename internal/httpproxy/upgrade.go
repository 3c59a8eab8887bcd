// Upgrade (RFC 9110 section 7.8), for example to WebSocket over plain HTTP. The
// request is sent on a connection of its own. If the origin server switches
// protocols, the two connections become a tunnel.
//
// A protocol is offered to the origin server only if it cannot carry further HTTP
// requests. After a switch to HTTP/2 ("h2c") or another version of HTTP, each
// request in the tunnel could name another authority, and none would be judged.
// After a switch to TLS, the proxy could not read the requests. Such offers are
// removed. A request without another offer is forwarded as an ordinary one. Clients
// expect that, because a server may always ignore Upgrade.

package httpproxy

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/mirror"
	"example.com/networkproxy/internal/policy"
)

// upgradeResponseTimeout bounds the wait for the response to an upgrade request.
const upgradeResponseTimeout = 60 * time.Second

// UpgradeProtocols returns the protocols in the Upgrade fields of a header, as one
// list. It returns "" if Connection does not name Upgrade.
func UpgradeProtocols(header http.Header) string {
	fields := header["Upgrade"]
	if len(fields) == 0 || !hasToken(header["Connection"], "upgrade") {
		return ""
	}
	return strings.Join(fields, ", ") // RFC 9110 section 5.3
}

// UpgradeOffer returns the protocols in a request's header that may be offered to
// an origin server, as one list. If it returns "", the request is an ordinary one.
func UpgradeOffer(header http.Header) string {
	all := UpgradeProtocols(header)
	if all == "" {
		return ""
	}
	var offer []string
	for protocol := range strings.SplitSeq(all, ",") {
		if protocol = textproto.TrimString(protocol); protocol != "" && !carriesRequests(protocol) {
			offer = append(offer, protocol)
		}
	}
	return strings.Join(offer, ", ")
}

// carriesRequests reports whether protocol is any version of HTTP, or of TLS,
// which can carry HTTP (RFC 2817).
func carriesRequests(protocol string) bool {
	name, _, _ := strings.Cut(protocol, "/")
	switch strings.ToLower(textproto.TrimString(name)) {
	case "http", "https", "h2c", "h2", "h3", "tls", "ssl":
		return true
	}
	return false
}

// upgrade sends an allowed upgrade request, and opens a tunnel if the origin server
// switches protocols.
func (h *Proxy) upgrade(w http.ResponseWriter, r *http.Request, req *gate.Request, v *gate.Ruling) {
	live := new(gate.LiveRequest)
	conn, err := h.dialUpgrade(r, req, v, live)
	if err != nil {
		h.fail(w, r, req, err)
		return
	}
	h.gate.Opened(req)
	out := new(http1.Request)
	var received int64
	switched := false
	defer func() {
		if !switched {
			live.End()
			conn.Close()
			h.gate.Ended(req, out.Sent(), received)
		}
	}()
	// If the client leaves, stop waiting for the origin server.
	stop := context.AfterFunc(r.Context(), func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	offer := UpgradeOffer(r.Header)
	if err := buildRequest(out, r, req, req.Target.String(), nil, nil); err != nil {
		h.fail(w, r, req, err)
		return
	}
	exchange := &clientStateOf(r).exchange
	out.Fields = changeFields(out.Fields, exchange)
	out.Fields = append(out.Fields, http1.Field{Name: "Connection", Value: "Upgrade"}, http1.Field{Name: "Upgrade", Value: offer})
	conn.SetDeadline(time.Now().Add(upgradeResponseTimeout))
	resp, buffered, err := h.upgrades.SendOn(conn, out)
	if err != nil {
		h.fail(w, r, req, live.Cause(err))
		return
	}
	conn.SetDeadline(time.Time{})
	maskFields(resp.Fields, exchange.Masks)
	if resp.Status != http.StatusSwitchingProtocols {
		h.gate.Allowed(req)
		h.respond(w, req, resp, exchange.Masks, &received)
		return
	}
	if got := switchedTo(resp.Fields); !offered(offer, got) {
		h.fail(w, r, req, errors.New("the origin server switched to a protocol that was not offered (RFC 9110 section 7.8)"))
		return
	}

	stop()
	client, err := takeOver(w, switchHeader(resp))
	if err != nil {
		h.gate.Failed(req, err)
		return
	}
	switched = true
	early, _ := buffered.Peek(buffered.Buffered()) // Peek cannot fail: these bytes are buffered
	state := clientStateOf(r)
	if state.opened != nil {
		state.opened.handedOver = true
	}
	h.tunnel(state, client, conn, req, live, bytes.Clone(early))
}

// dialUpgrade connects to the target of an upgrade request, with TLS for HTTPS. In an
// opened tunnel, it returns the connection of the tunnel if no request has used it yet.
func (h *Proxy) dialUpgrade(r *http.Request, req *gate.Request, v *gate.Ruling, live *gate.LiveRequest) (net.Conn, error) {
	o := clientStateOf(r).opened
	if req.Protocol != policy.ProtocolHTTPS && o == nil {
		return h.gate.Dial(r.Context(), req, v, live)
	}
	if err := h.gate.Begin(live, req, v); err != nil {
		return nil, err
	}
	attached := false
	defer func() {
		if !attached { // also after a panic of the dial
			live.End()
		}
	}()
	conn := o.takeOrigin()
	var err error
	switch {
	case conn != nil:
	case req.Protocol == policy.ProtocolHTTPS:
		conn, err = h.dialOrigin(r.Context(), req, v, []string{mirror.HTTP1})
	default:
		conn, err = h.gate.DialPooled(r.Context(), req, v, h.gate.Route(h.gate.Policy(), &req.Query))
	}
	if err == nil {
		if err = conn.Acquire(live, gate.UnderlyingConn(conn.Conn)); err != nil {
			conn.Close()
		}
	}
	if err != nil {
		return nil, live.Cause(err)
	}
	attached = true
	return conn, nil
}

// offered reports whether got is one of the protocols in the list offer.
func offered(offer, got string) bool {
	for protocol := range strings.SplitSeq(offer, ",") {
		if strings.EqualFold(textproto.TrimString(protocol), got) {
			return got != ""
		}
	}
	return false
}

// switchedTo returns the protocol that a 101 response switches to, or "" if its
// Connection does not name Upgrade.
func switchedTo(fields []http1.Field) string {
	if !hasToken(http1.Values(fields, "connection"), "upgrade") {
		return ""
	}
	return strings.Join(http1.Values(fields, "upgrade"), ", ") // RFC 9110 section 5.3
}

// switchHeader returns the header of a 101 response to send to the client.
func switchHeader(resp *http1.Response) []byte {
	protocol := switchedTo(resp.Fields)
	fields := appendResponseFields(nil, resp.Fields, connectionOptions(resp.Fields))
	fields = append(fields, http1.Field{Name: "Connection", Value: "Upgrade"}, http1.Field{Name: "Upgrade", Value: protocol})
	var b bytes.Buffer
	http1.WriteResponseHeader(&b, resp.Status, resp.Reason, fields) // a bytes.Buffer returns no errors
	return b.Bytes()
}
