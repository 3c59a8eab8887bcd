// The program with its standard error on a full disk.

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// fullDisk is where nothing can be written.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestFullDisk: the program serves on when its log cannot be written.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String() // the log, which tells the address elsewhere, is lost
	free.Close()
	path := configText(t, fmt.Sprintf("[network_proxy]\nenabled = true\nproxy_url = \"http://%s\"\nadmin_url = \"http://127.0.0.1:0\"\n", addr))
	ctx, cancel := context.WithCancel(t.Context())
	exited := make(chan int, 1)
	go func() {
		run := program{stdout: new(bytes.Buffer), stderr: fullDisk{}, hangup: make(chan os.Signal)}
		exited <- run.main(ctx, []string{"-config", path})
	}()
	for deadline := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(5 * time.Millisecond)
	}
	for range 3 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(c, "GET http://refused.invalid/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		status := make([]byte, len("HTTP/1.1 403"))
		if _, err := c.Read(status); err != nil || string(status) != "HTTP/1.1 403" {
			t.Errorf("%q, %v", status, err)
		}
		c.Close()
	}
	cancel()
	select {
	case status := <-exited:
		if status != 0 {
			t.Errorf("exit status %d", status)
		}
	case <-time.After(patience):
		t.Error("it does not end")
	}
}
