// Upgrade (RFC 9110 section 7.8), which is how WebSocket begins over plain
// HTTP: the request goes out on a connection of its own, and when the origin
// agrees to switch, both ends become a tunnel.
//
// Only protocols that the client cannot use to make further HTTP requests are
// offered to the origin. After a switch to HTTP/2 ("h2c") or to another version of
// HTTP, every request in the tunnel could name another authority, and none would be
// judged; after a switch to TLS, none would be seen. Such offers are removed, and a
// request that has no other offer goes on as an ordinary one: a server may always
// ignore Upgrade, so clients are ready for that.

package httpproxy

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
)

// upgradeResponseTimeout bounds the origin's answer to an upgrade request.
const upgradeResponseTimeout = 60 * time.Second

// UpgradeType returns the protocols that a header asks to switch to, or has
// switched to, as one list. It is empty when Connection does not name Upgrade.
func UpgradeType(header http.Header) string {
	fields := header["Upgrade"]
	if len(fields) == 0 || !hasToken(header["Connection"], "upgrade") {
		return ""
	}
	return strings.Join(fields, ", ") // RFC 9110 section 5.3
}

// UpgradeOffer returns the protocols of a request's header that may be offered to
// an origin. If it is empty, the request is an ordinary one.
func UpgradeOffer(header http.Header) string {
	all := UpgradeType(header)
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

// carriesRequests reports whether a protocol is HTTP, or TLS with HTTP in it
// (RFC 2817), of any version.
func carriesRequests(protocol string) bool {
	name, _, _ := strings.Cut(protocol, "/")
	switch strings.ToLower(textproto.TrimString(name)) {
	case "http", "https", "h2c", "h2", "h3", "tls", "ssl":
		return true
	}
	return false
}

// upgrade carries an allowed request that asks to switch protocols.
func (h *Proxy) upgrade(w http.ResponseWriter, r *http.Request, req *gate.Request, v *gate.Ruling) {
	live := new(gate.LiveRequest)
	conn, err := h.gate.Dial(r.Context(), req, v, live)
	if err != nil {
		h.fail(w, r, req, err)
		return
	}
	switched := false
	defer func() {
		if !switched {
			live.End()
			conn.Close()
		}
	}()
	// The client leaving ends the wait for the origin.
	leave := context.AfterFunc(r.Context(), func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer leave()

	offer := UpgradeOffer(r.Header)
	out := new(http1.Request)
	if err := buildRequest(out, r, req, req.Target.String(), nil, nil); err != nil {
		h.fail(w, r, req, err)
		return
	}
	out.Fields = append(out.Fields, http1.Field{Name: "Connection", Value: "Upgrade"}, http1.Field{Name: "Upgrade", Value: offer})
	conn.SetDeadline(time.Now().Add(upgradeResponseTimeout))
	resp, buffered, err := h.upgrades.SendOn(conn, out)
	if err != nil {
		h.fail(w, r, req, live.Cause(err))
		return
	}
	conn.SetDeadline(time.Time{})
	if resp.Status != http.StatusSwitchingProtocols {
		h.gate.Count.Allow(req.Protocol)
		h.respond(w, http.NewResponseController(w), resp)
		return
	}
	if got := switchedTo(resp.Fields); !offered(offer, got) {
		h.fail(w, r, req, errors.New("the origin switched to a protocol that the client had not offered (RFC 9110 section 7.8)"))
		return
	}

	leave()
	client, err := takeOver(w, switchHeader(resp))
	if err != nil {
		h.gate.Failed(req, err)
		return
	}
	switched = true
	early, _ := buffered.Peek(buffered.Buffered()) // what is buffered can be peeked at
	h.tunnel(clientStateOf(r).entry, client, conn, req, live, bytes.Clone(early))
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

// switchedTo returns the protocol that a response of 101 switches to. It is
// empty when Connection does not name Upgrade.
func switchedTo(fields []http1.Field) string {
	if !hasToken(http1.Values(fields, "connection"), "upgrade") {
		return ""
	}
	return strings.Join(http1.Values(fields, "upgrade"), ", ") // RFC 9110 section 5.3
}

// switchHeader returns the origin's 101 as it is passed on.
func switchHeader(resp *http1.Response) []byte {
	protocol := switchedTo(resp.Fields)
	fields := appendResponseFields(nil, resp.Fields, connectionOptions(resp.Fields))
	fields = append(fields, http1.Field{Name: "Connection", Value: "Upgrade"}, http1.Field{Name: "Upgrade", Value: protocol})
	var b bytes.Buffer
	http1.WriteResponseHeader(&b, resp.Status, resp.Reason, fields) // a buffer does not fail
	return b.Bytes()
}
