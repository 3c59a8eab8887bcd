package main

import (
	"syscall"
	"testing"
)

// TestClosedSocket checks that a closed socket has no events, even if a new process has a
// copy of its descriptor.
func TestClosedSocket(t *testing.T) {
	t.Parallel()
	poll, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer poll.close()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(pair[1])
	copied, err := syscall.Dup(pair[0])
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(copied)
	if err := poll.add(pair[0], 1); err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.Write(pair[1], []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} {
		if events, err := poll.wait(0); err != nil || len(events) != want {
			t.Errorf("got %d events, %v; want %d", len(events), err, want)
		}
		if want == 1 {
			poll.closeSocket(pair[0])
		}
	}
}
