//go:build e2e && linux

package harness

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Frame opcodes, RFC 6455 section 5.2.
const (
	OpText  = 0x1
	OpClose = 0x8
)

// maxFrame is the largest frame that the origin accepts.
const maxFrame = 1 << 20

// AcceptKey returns the Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2).
func AcceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// WebSocketKey is the key of the requests that UpgradeRequest returns.
const WebSocketKey = "dGhlIHNhbXBsZSBub25jZQ=="

// UpgradeRequest returns a request that upgrades a connection to WebSocket.
func UpgradeRequest(target, host string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + WebSocketKey + "\r\n\r\n"
}

// CheckWebSocket checks that resp has accepted UpgradeRequest, and that messages come
// back. r reads from conn after the response.
func CheckWebSocket(t *testing.T, resp *http.Response, conn io.Writer, r *bufio.Reader) {
	t.Helper()
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != AcceptKey(WebSocketKey) {
		t.Fatalf("status %d, header %v; want 101 and the accept key", resp.StatusCode, resp.Header)
	}
	for _, size := range []int{0, 5, 126, 70000} {
		message := strings.Repeat("x", size)
		if _, err := conn.Write(Frame(OpText, []byte(message), []byte{1, 2, 3, 4})); err != nil {
			t.Fatal(err)
		}
		opcode, payload, err := ReadFrame(r)
		if err != nil || opcode != OpText || string(payload) != message {
			t.Fatalf("echo of %d bytes: opcode %d, %d bytes, %v", size, opcode, len(payload), err)
		}
	}
}

// ServeWebSocket sends back every frame, including the closing one. The response that
// switches protocols also has the fields that w.Header has.
func ServeWebSocket(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "this path requires WebSocket", http.StatusUpgradeRequired)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	var more strings.Builder
	w.Header().Write(&more)
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
		AcceptKey(r.Header.Get("Sec-WebSocket-Key")), &more)
	for {
		opcode, payload, err := ReadFrame(rw.Reader)
		if err != nil {
			return
		}
		if _, err := conn.Write(Frame(opcode, payload, nil)); err != nil || opcode == OpClose {
			return
		}
	}
}

// ReadFrame reads one unfragmented frame and unmasks it.
func ReadFrame(r *bufio.Reader) (opcode byte, payload []byte, err error) {
	var header [2]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	size := uint64(header[1] & 0x7f)
	if extended := map[uint64]int{126: 2, 127: 8}[size]; extended != 0 {
		var wide [8]byte
		if _, err := io.ReadFull(r, wide[8-extended:]); err != nil {
			return 0, nil, err
		}
		size = binary.BigEndian.Uint64(wide[:])
	}
	if size > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes exceeds %d", size, maxFrame)
	}
	var mask [4]byte
	if header[1]&0x80 != 0 {
		if _, err := io.ReadFull(r, mask[:]); err != nil {
			return 0, nil, err
		}
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(r, payload)
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return header[0] & 0xf, payload, err
}

// Frame returns one final frame. It is masked if mask is not nil, as clients must do.
func Frame(opcode byte, payload, mask []byte) []byte {
	var maskBit byte
	if mask != nil {
		maskBit = 0x80
	}
	out := []byte{0x80 | opcode}
	switch n := len(payload); {
	case n < 126:
		out = append(out, maskBit|byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, maskBit|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, maskBit|127), uint64(n))
	}
	out = append(out, mask...)
	for i, b := range payload {
		if mask != nil {
			b ^= mask[i%4]
		}
		out = append(out, b)
	}
	return out
}
