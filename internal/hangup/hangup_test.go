package hangup

import (
	"bufio"
	"errors"
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

func TestWait(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		for name, sent := range map[string]int{"nothing sent": 0, "a byte": 1, "as much as fits the buffer": 4000, "more": 100_000} {
			for _, event := range []string{"ends its stream", "closes", "resets", "deadline"} {
				for _, socket := range []bool{true, false} {
					if !socket && sent >= 4096 || event == "resets" && network == "unix" {
						continue // Wait returns nil, or the system sends no reset
					}
					t.Run(strings.Join([]string{network, name, event}, "/"), func(t *testing.T) {
						t.Parallel()
						ours, theirs := connect(t, network)
						io.WriteString(theirs, strings.Repeat("x", sent))
						conn := ours
						if !socket {
							conn = noSocket{ours}
						}
						br := bufio.NewReaderSize(ours, 4096)
						got := make(chan error, 1)
						go func() { got <- Wait(conn, br) }()
						switch event {
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
						if event == "deadline" != errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
							t.Errorf("Wait returned %v", err)
						}
						if event == "ends its stream" && err != io.EOF || event == "resets" && err == io.EOF {
							t.Errorf("Wait returned %v", err)
						}
						ours.SetReadDeadline(time.Time{})
						if event == "ends its stream" || event == "deadline" {
							if Gone(ours) {
								t.Error("Gone returned true for a peer that still waits")
							}
							if got, err := br.Peek(min(sent, 4000)); len(got) != min(sent, 4000) {
								t.Errorf("Peek after Wait returned %d of %d bytes, %v", len(got), sent, err)
							}
						}
					})
				}
			}
		}
	}
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
