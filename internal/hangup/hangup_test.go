package hangup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// connect returns the two ends of a connection.
func connect(t *testing.T, network string) (ours, theirs net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		addr = filepath.Join(dir, "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if theirs, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// noSocket hides the socket of a connection.
type noSocket struct{ net.Conn }

// waitCase is an event on a connection while Wait is called on its other end.
type waitCase struct {
	network string
	sent    int    // bytes sent before the event
	event   string // "ends its stream", "closes", "resets" or "deadline"
	socket  bool   // Wait gets the socket, not only the reader
}

func TestWait(t *testing.T) {
	t.Parallel()
	sent := []int{0, 1, 4000, 100_000} // nothing, a byte, what fits the buffer, more
	for _, network := range []string{"tcp", "unix"} {
		for _, n := range sent {
			for _, event := range []string{"ends its stream", "closes", "resets", "deadline"} {
				testWait(t, waitCase{network, n, event, true})
				testWait(t, waitCase{network, n, event, false})
			}
		}
	}
}

func testWait(t *testing.T, c waitCase) {
	if c.event == "resets" && c.network == "unix" {
		return // the system sends no reset
	}
	if !c.socket && c.sent >= 4096 {
		return // Wait returns nil, because the buffer is full
	}
	t.Run(fmt.Sprintf("%s/%d bytes/%s/socket=%t", c.network, c.sent, c.event, c.socket), func(t *testing.T) {
		t.Parallel()
		ours, theirs := connect(t, c.network)
		io.WriteString(theirs, strings.Repeat("x", c.sent))
		conn := ours
		if !c.socket {
			conn = noSocket{ours}
		}
		br := bufio.NewReaderSize(ours, 4096)
		got := make(chan error, 1)
		go func() { got <- Wait(conn, br) }()
		switch c.event {
		case "ends its stream":
			theirs.(interface{ CloseWrite() error }).CloseWrite()
		case "closes":
			theirs.Close()
		case "resets":
			theirs.(*net.TCPConn).SetLinger(0)
			theirs.Close()
		case "deadline":
			ours.SetReadDeadline(time.Unix(1, 0))
		}
		err := <-got
		if c.event == "deadline" != errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
			t.Errorf("Wait returned %v", err)
		}
		if c.event == "ends its stream" && err != io.EOF || c.event == "resets" && err == io.EOF {
			t.Errorf("Wait returned %v", err)
		}
		ours.SetReadDeadline(time.Time{})
		if c.event == "ends its stream" || c.event == "deadline" {
			if Gone(ours) {
				t.Error("Gone returned true for a peer that still waits")
			}
			if got, err := br.Peek(min(c.sent, 4000)); len(got) != min(c.sent, 4000) {
				t.Errorf("Peek after Wait returned %d of %d bytes, %v", len(got), c.sent, err)
			}
		}
	})
}

// Gone is true after a write to a connection that the peer has closed, and false
// if the peer has only ended its stream.
func TestGone(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		for _, closes := range []bool{false, true} {
			ours, theirs := connect(t, network)
			io.WriteString(theirs, "unread")
			if closes {
				theirs.Close()
			} else {
				theirs.(interface{ CloseWrite() error }).CloseWrite()
			}
			Wait(ours, bufio.NewReader(ours))
			_, err := io.WriteString(ours, "H")
			if !closes {
				if Gone(ours) || err != nil {
					t.Errorf("%s: Gone returned true for a peer that still waits, or the write failed: %v", network, err)
				}
				continue
			}
			for deadline := time.Now().Add(20 * time.Second); !Gone(ours) && err == nil; {
				if time.Now().After(deadline) {
					t.Fatalf("%s: Gone stays false after the peer has closed", network)
				}
			}
		}
	}
}
