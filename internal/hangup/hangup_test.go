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

// pair is two ends of one connection.
func pair(t *testing.T, network string) (ours, theirs net.Conn) {
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

// hidden is a connection whose socket cannot be asked.
type hidden struct{ net.Conn }

func TestWait(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		for name, sent := range map[string]int{"nothing sent": 0, "a byte": 1, "as much as fits the buffer": 4000, "more": 100_000} {
			for _, way := range []string{"ends its stream", "closes", "resets", "deadline"} {
				for _, asked := range []bool{true, false} {
					if !asked && sent >= 4096 || way == "resets" && network == "unix" {
						continue // it cannot be told, or is no reset
					}
					t.Run(strings.Join([]string{network, name, way}, "/"), func(t *testing.T) {
						t.Parallel()
						ours, theirs := pair(t, network)
						io.WriteString(theirs, strings.Repeat("x", sent))
						conn := ours
						if !asked {
							conn = hidden{ours}
						}
						br := bufio.NewReaderSize(ours, 4096)
						got := make(chan error, 1)
						go func() { got <- Wait(conn, br) }()
						switch way {
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
						if way == "deadline" != errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
							t.Errorf("%v", err)
						}
						if way == "ends its stream" && err != io.EOF || way == "resets" && err == io.EOF {
							t.Errorf("%v", err)
						}
						ours.SetReadDeadline(time.Time{})
						if way == "ends its stream" || way == "deadline" {
							if Gone(ours) {
								t.Error("gone, while its other end waits")
							}
							if got, err := br.Peek(min(sent, 4000)); len(got) != min(sent, 4000) {
								t.Errorf("%d of %d bytes can be read, %v", len(got), sent, err)
							}
						}
					})
				}
			}
		}
	}
}

// What is written to a connection that its other end has closed shows that it
// is gone; a half-closed one stays.
func TestGone(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		for _, closes := range []bool{false, true} {
			ours, theirs := pair(t, network)
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
					t.Errorf("%s: gone, while its other end waits: %v", network, err)
				}
				continue
			}
			for deadline := time.Now().Add(20 * time.Second); !Gone(ours) && err == nil; {
				if time.Now().After(deadline) {
					t.Fatalf("%s: not gone", network)
				}
			}
		}
	}
}
