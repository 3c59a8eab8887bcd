// Counting busy connections.

package http1

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestBusyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		think := make(chan struct{})
		s := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/think":
				<-think
			case "/tunnel":
				c, _, err := w.(Detacher).Detach(nil)
				if err != nil {
					t.Error(err)
				}
				c.Close()
			}
		})}
		dial := func() (net.Conn, *bufio.Reader) {
			client, server := net.Pipe()
			go s.ServeConn(t.Context(), server)
			return client, bufio.NewReader(client)
		}
		send := func(c net.Conn, path string) {
			io.WriteString(c, "GET http://x"+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		get := func(c net.Conn, br *bufio.Reader) {
			t.Helper()
			send(c, "/")
			if _, err := http.ReadResponse(br, nil); err != nil {
				t.Fatal(err)
			}
		}
		busy := func(want int32, when string) {
			t.Helper()
			synctest.Wait()
			if got := s.fairness.busy.Load(); got != want {
				t.Errorf("%s: %d connections are busy, want %d", when, got, want)
			}
		}
		const moment = 3 * watchDelay

		a, fromA := dial()
		busy(0, "before a request")
		get(a, fromA)
		busy(1, "behind a request")
		b, fromB := dial()
		for range 5 {
			get(a, fromA)
			get(b, fromB)
			time.Sleep(watchDelay / 2)
		}
		busy(2, "with requests on both")
		time.Sleep(moment)
		busy(0, "a moment later")

		get(a, fromA)
		get(b, fromB)
		send(a, "/think")
		time.Sleep(moment)
		busy(0, "with a request that takes its time")
		close(think)
		http.ReadResponse(fromA, nil)
		get(a, fromA)
		get(b, fromB)
		busy(2, "after it")
		a.Close()
		busy(1, "after one was closed")
		send(b, "/tunnel")
		busy(1, "after the other became a tunnel")
		time.Sleep(moment)
		busy(0, "a moment after that")
		time.Sleep(time.Minute)
		busy(0, "for ever")
	})
}
