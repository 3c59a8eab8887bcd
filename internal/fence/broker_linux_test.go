//go:build linux && (amd64 || arm64)

package fence

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A connect that waits for a file system in the room does not keep close from returning. It
// releases the sockets of the broker when it ends.
func TestBrokerCloseIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		diag, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		sockets := &unixSockets{inside: diag, outside: -1}
		b := &broker{listener: file, release: sockets.close, slots: make(chan struct{}, maxConnects)}
		lookup := make(chan struct{})
		b.tasks.Go(func() {
			<-lookup
			if sockets.inside != diag {
				t.Error("the sockets were closed while a connect used them")
			}
		})
		began := time.Now()
		b.close()
		if took := time.Since(began); took != closeTime {
			t.Errorf("close takes %v, want %v", took, closeTime)
		}
		close(lookup)
		synctest.Wait()
		if sockets.inside != -1 {
			t.Error("the sockets were not closed after the last connect")
		}
	})
}
