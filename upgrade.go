// Upgrade (RFC 9110 section 7.8), which is how WebSocket begins over plain
// HTTP: the request goes out on a connection of its own, and when the origin
// agrees to switch, both ends become a tunnel.

package networkproxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"time"

	"example.com/networkproxy/internal/http1"
)

// upgradeAnswerTimeout bounds the origin's answer to an upgrade request.
const upgradeAnswerTimeout = 60 * time.Second

// upgradeType is the protocol that a header asks to switch to; empty when it
// does not.
func upgradeType(header http.Header) string {
	if !namesToken(header["Connection"], "upgrade") {
		return ""
	}
	return header.Get("Upgrade")
}

// upgrade carries an allowed request that asks to switch protocols.
func (h *httpProxy) upgrade(w http.ResponseWriter, r *http.Request, req *request, v *Verdict) {
	conn, live, err := h.dial(r.Context(), req, v)
	if err != nil {
		h.fail(w, r, req, err)
		return
	}
	switched := false
	defer func() {
		if !switched {
			live.close()
		}
	}()
	// The client leaving ends the wait for the origin.
	leave := context.AfterFunc(r.Context(), func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer leave()

	limit := &io.LimitedReader{R: conn, N: int64(h.limits.AnswerHeaderBytes)}
	back := bufio.NewReader(limit)
	offer := upgradeType(r.Header)
	answer, err := h.requestUpgrade(conn, back, outgoing(r.Context(), r, req, req.target.String()), offer)
	if err != nil {
		h.fail(w, r, req, live.because(err))
		return
	}
	defer answer.Body.Close()
	limit.N = math.MaxInt64 // it was for the header
	conn.SetDeadline(time.Time{})
	if answer.StatusCode != http.StatusSwitchingProtocols {
		if err := checkAnswer(answer); err != nil {
			h.fail(w, r, req, err)
			return
		}
		h.count.allow(req.protocol)
		h.forward.answer(w, http.NewResponseController(w), answer)
		return
	}
	if got := upgradeType(answer.Header); !offered(offer, got) {
		h.fail(w, r, req, errors.New("the origin switched to a protocol that the client had not offered (RFC 9110 section 7.8)"))
		return
	}

	leave()
	client, err := takeOver(w, r)
	if err != nil {
		h.failure(req, err)
		return
	}
	if err := writeSwitch(client.conn, answer); err != nil {
		h.failure(req, err)
		return
	}
	switched = true
	early, _ := back.Peek(back.Buffered()) // what is buffered can be peeked at
	h.tunnel(exchangeOf(r), client, live, req, bytes.Clone(early))
}

// requestUpgrade sends the request and reads the origin's final answer.
func (h *httpProxy) requestUpgrade(conn net.Conn, back *bufio.Reader, out *http.Request, offer string) (*http.Response, error) {
	out.Header.Set("Connection", "Upgrade")
	out.Header.Set("Upgrade", offer)
	conn.SetDeadline(time.Now().Add(upgradeAnswerTimeout))
	if err := out.Write(conn); err != nil {
		return nil, err
	}
	for {
		answer, err := http.ReadResponse(back, out)
		if err != nil {
			return nil, http1.Unquoted(err)
		}
		if answer.StatusCode >= 200 || answer.StatusCode == http.StatusSwitchingProtocols {
			return answer, nil
		}
		// Interim answers to an upgrade say nothing a client waits for.
	}
}

// offered reports whether the protocol switched to is one of those asked for.
func offered(want, got string) bool {
	for protocol := range strings.SplitSeq(want, ",") {
		if strings.EqualFold(strings.TrimSpace(protocol), got) {
			return got != ""
		}
	}
	return false
}

// writeSwitch passes the origin's 101 on.
func writeSwitch(client net.Conn, answer *http.Response) error {
	protocol := upgradeType(answer.Header)
	removeHopByHop(answer.Header)
	answer.Header.Del(errorHeader)
	answer.Header.Set("Connection", "Upgrade")
	answer.Header.Set("Upgrade", protocol)
	b := bufio.NewWriter(client)
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	if err := answer.Header.Write(b); err != nil {
		return err
	}
	b.WriteString("\r\n")
	return b.Flush()
}
