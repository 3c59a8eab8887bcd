//go:build e2e && linux

// This file tests WebSocket (RFC 6455) with an echo server, by Upgrade and through
// CONNECT.

package e2e

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
	opText  = 0x1
	opClose = 0x8
)

// maxFrame is the largest frame that the origin accepts.
const maxFrame = 1 << 20

// acceptKey returns the Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// serveWebSocket sends back every frame, including the closing one.
func serveWebSocket(w http.ResponseWriter, r *http.Request) {
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
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		acceptKey(r.Header.Get("Sec-WebSocket-Key")))
	for {
		opcode, payload, err := readFrame(rw.Reader)
		if err != nil {
			return
		}
		if _, err := conn.Write(frame(opcode, payload, nil)); err != nil || opcode == opClose {
			return
		}
	}
}

// readFrame reads one unfragmented frame and unmasks it.
func readFrame(r *bufio.Reader) (opcode byte, payload []byte, err error) {
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

// frame returns one final frame. It is masked if mask is not nil, as clients must do.
func frame(opcode byte, payload, mask []byte) []byte {
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

// upgradeRequest returns a WebSocket request in absolute-form. Browsers no longer send
// it, but plain HTTP clients may.
func upgradeRequest(host, key string) string {
	return "GET http://" + host + "/websocket HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n\r\n"
}

func TestWebSocketByUpgrade(t *testing.T) {
	t.Parallel()
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	for _, mode := range []string{"full", "limited"} {
		p := start(t, config{Mode: mode, Allowed: []string{"allowed.example"}})
		t.Run(mode+" refused", func(t *testing.T) {
			t.Parallel()
			resp := rawRoundTrip(t, p, upgradeRequest("other.example", key))
			if resp.StatusCode != http.StatusForbidden {
				t.Errorf("status %d, want 403", resp.StatusCode)
			}
		})
		t.Run(mode+" allowed", func(t *testing.T) {
			t.Parallel()
			conn := p.connect(t)
			if _, err := io.WriteString(conn, upgradeRequest("allowed.example", key)); err != nil {
				t.Fatal(err)
			}
			reader := bufio.NewReader(conn)
			resp, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			if mode == "limited" {
				if resp.StatusCode != http.StatusForbidden || resp.Header.Get("X-Proxy-Error") != "blocked-by-method-policy" {
					t.Errorf("status %d, x-proxy-error %q; want 403, blocked-by-method-policy", resp.StatusCode, resp.Header.Get("X-Proxy-Error"))
				}
				return
			}
			if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != acceptKey(key) {
				t.Fatalf("status %d, header %v; want 101 and the accept key", resp.StatusCode, resp.Header)
			}
			for _, size := range []int{0, 5, 126, 70000} {
				message := strings.Repeat("x", size)
				if _, err := conn.Write(frame(opText, []byte(message), []byte{1, 2, 3, 4})); err != nil {
					t.Fatal(err)
				}
				opcode, payload, err := readFrame(reader)
				if err != nil || opcode != opText || string(payload) != message {
					t.Fatalf("echo of %d bytes: opcode %d, %d bytes, %v", size, opcode, len(payload), err)
				}
			}
		})
	}
}

func TestWebSocketThroughConnect(t *testing.T) {
	t.Parallel()
	p := start(t, config{Allowed: []string{"allowed.example"}})
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme+" allowed", func(t *testing.T) {
			t.Parallel()
			cmd := p.command(t.Context(), python, "testdata/websocket.py", p.proxy, scheme+"://allowed.example/websocket")
			messages := "one\ntwo\n" + strings.Repeat("three ", 20000) + "\n"
			cmd.Stdin = strings.NewReader(messages)
			if got := runCommand(t, cmd).mustSucceed(t).stdout; got != messages {
				t.Errorf("the echo has %d bytes, want %d", len(got), len(messages))
			}
		})
		t.Run(scheme+" refused", func(t *testing.T) {
			t.Parallel()
			cmd := p.command(t.Context(), python, "testdata/websocket.py", p.proxy, scheme+"://other.example/websocket")
			res := runCommand(t, cmd)
			if res.exit == 0 || !strings.Contains(res.stderr, "403") {
				t.Errorf("exit %d, want a failure that says 403: %s", res.exit, res.stderr)
			}
		})
	}
}

// TestCurlOffersHTTP2 checks that curl's offer of h2c (RFC 7540 section 3.2) gets an
// ordinary response, also in the limited mode, and that the origin does not receive it.
func TestCurlOffersHTTP2(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"full", "limited"} {
		p := start(t, config{Allowed: []string{"allowed.example"}, Mode: mode})
		got := p.run(t, "curl", "-sS", "--fail", "--http2", "http://allowed.example/headers").mustSucceed(t).stdout
		if strings.Contains(got, "Upgrade") || strings.Contains(got, "Http2-Settings") {
			t.Errorf("%s: the origin received the offer: %s", mode, got)
		}
	}
}
