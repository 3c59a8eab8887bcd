// Test of the program with its standard error on a full disk.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// fullDisk is a writer on a full disk.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestFullDisk checks that the program goes on serving when its log cannot be
// written.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	// The log with the addresses is lost, so ask the admin API for them.
	admin := filepath.Join(t.TempDir(), "a")
	path := configText(t, fmt.Sprintf("[network_proxy]\nenabled = true\nproxy_url = \"http://127.0.0.1:0\"\nadmin_url = %q\n", "unix://"+admin))
	ctx, cancel := context.WithCancel(t.Context())
	exited := make(chan int, 1)
	go func() {
		run := program{stdout: new(bytes.Buffer), stderr: fullDisk{}, hangup: make(chan os.Signal)}
		exited <- run.main(ctx, []string{"-config", path})
	}()
	addr := httpAddress(t, admin)
	for range 3 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(waitTimeout))
		fmt.Fprint(c, "GET http://refused.invalid/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		status := make([]byte, len("HTTP/1.1 403"))
		if _, err := c.Read(status); err != nil || string(status) != "HTTP/1.1 403" {
			t.Errorf("read %q, %v", status, err)
		}
		c.Close()
	}
	cancel()
	select {
	case status := <-exited:
		if status != 0 {
			t.Errorf("exit status %d", status)
		}
	case <-time.After(waitTimeout):
		t.Error("the program does not end")
	}
}

// httpAddress waits until the program serves, and returns the address of its HTTP
// proxy from the admin API on a unix socket.
func httpAddress(t *testing.T, socket string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	for deadline := time.Now().Add(waitTimeout); ; {
		resp, err := client.Get("http://localhost/config")
		if err == nil {
			defer resp.Body.Close()
			var config struct {
				HTTP string `json:"http_address"`
			}
			if err := json.NewDecoder(resp.Body).Decode(&config); err != nil || config.HTTP == "" {
				t.Fatalf("GET /config: %s, %v", resp.Status, err)
			}
			return config.HTTP
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(5 * time.Millisecond)
	}
}
