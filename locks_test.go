// Test of all operations that take locks, at the same time.

package networkproxy_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// TestLocksInEveryOrder runs the operations that take locks from many goroutines:
// requests and tunnels with grants, revocations, reloads, modes, run-time rules,
// and sessions that open and close. Each goroutine has a fixed number of
// operations, so the test ends unless there is a deadlock.
func TestLocksInEveryOrder(t *testing.T) {
	t.Parallel()
	s := newLockStress(t)
	var ended sync.WaitGroup
	for _, each := range []struct {
		goroutines, times int
		do                func(*rand.Rand)
	}{
		{4, 200, s.dial},
		{2, 60, s.tunnel},
		{2, 60, s.request},
		{2, 400, s.revoke},
		{1, 60, s.reload},
		{1, 60, s.mode},
		{2, 60, s.rules},
		{2, 100, s.session},
		{1, 100, s.closeGroups},
		{1, 100, s.look},
	} {
		for i := range each.goroutines {
			random := rand.New(rand.NewPCG(uint64(i), uint64(each.times)))
			ended.Go(func() {
				for range scaled(each.times) {
					each.do(random)
				}
			})
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended.Wait()
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	waitReturned(t, done, "one of them")
}

type lockStress struct {
	*lab
	transport http.RoundTripper
	dialer    func(context.Context, string, string) (net.Conn, error)
}

func newLockStress(t *testing.T) *lockStress {
	config := allow("listed.example")
	config.Enabled = true
	s := new(lockStress)
	s.lab = startSource(t, newSource(config).builder, func(b *networkproxy.Builder) {
		b.OnBlocked(func(networkproxy.BlockedRequest) { s.Grants() }).
			PolicyDecider(func(_ context.Context, r request) (decision, error) {
				if strings.HasSuffix(r.Host, idleHosts) {
					return networkproxy.Allow().ForSession(), nil
				}
				switch rand.IntN(8) {
				case 0:
					return networkproxy.Allow().Times(3), nil
				case 1:
					return networkproxy.Allow().For(time.Millisecond).AnyPort(), nil
				case 2:
					return networkproxy.Allow().ForSession().Subdomains(), nil
				case 3:
					return networkproxy.Allow().ForGroup(), nil
				case 4:
					return networkproxy.Deny("").ForGroup().For(time.Millisecond), nil
				}
				return networkproxy.Allow(), nil
			})
	})
	echo := testnet.Echo(t).Addr()
	for i := range grantedHosts {
		s.origin(granted(i), 80, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
		s.mapHost(granted(i), 7, echo)
	}
	a := networkproxy.Attribution{Command: "host"}
	s.transport, s.dialer = s.Transport(a), s.DialContext(a)
	// Unused grants. The more there are, the longer a lock is held to iterate over
	// them.
	for i := range 1000 {
		s.dialer(t.Context(), "tcp", fmt.Sprintf("i%d%s:7", i, idleHosts))
	}
	return s
}

const (
	grantedHosts = 4
	idleHosts    = ".idle.example"
)

// granted returns a host on no list.
func granted(i int) string { return fmt.Sprintf("h%d.granted.example", i) }

// dial opens a connection with Handle.DialContext.
func (s *lockStress) dial(r *rand.Rand) {
	if c, err := s.dialer(context.Background(), "tcp", granted(r.IntN(grantedHosts))+":7"); err == nil {
		c.Close()
	}
}

func (s *lockStress) tunnel(r *rand.Rand) {
	s.exchange(s.HTTPAddr(), fmt.Sprintf("CONNECT %s:7 HTTP/1.1\r\nHost: x\r\n\r\n", granted(r.IntN(grantedHosts))))
}

func (s *lockStress) request(r *rand.Rand) {
	host := granted(r.IntN(grantedHosts))
	if r.IntN(2) == 0 {
		s.exchange(s.HTTPAddr(), fmt.Sprintf("GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", host))
		return
	}
	req, _ := http.NewRequest("GET", "http://"+host+"/", nil)
	if a, err := s.transport.RoundTrip(req); err == nil {
		io.Copy(io.Discard, a.Body)
		a.Body.Close()
	}
}

// exchange sends one request and reads the beginning of the response.
func (s *lockStress) exchange(addr, request string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer c.Close()
	io.WriteString(c, request)
	c.Read(make([]byte, 100))
}

func (s *lockStress) revoke(*rand.Rand) {
	for _, g := range s.Grants() {
		if !strings.HasSuffix(g.Host, idleHosts) {
			s.Revoke(g.ID)
		}
	}
}

func (s *lockStress) reload(*rand.Rand) { s.Reload(context.Background()) }

func (s *lockStress) mode(r *rand.Rand) {
	s.SetMode([]networkproxy.Mode{networkproxy.ModeLimited, networkproxy.ModeFull, networkproxy.ModeFull}[r.IntN(3)])
}

func (s *lockStress) rules(r *rand.Rand) {
	host := granted(r.IntN(grantedHosts))
	[]func(string) error{s.AllowDomain, s.DenyDomain}[r.IntN(2)](host)
	s.RemoveDomain(host)
}

// session opens a session, makes requests in it, and closes it before they end.
// Few sessions have their own listeners, because no port is used twice.
func (s *lockStress) session(r *rand.Rand) {
	session, err := s.OpenSession(context.Background(), networkproxy.SessionConfig{
		SharedPort: r.IntN(20) > 0,
		Group:      []string{"", "a", "b", fmt.Sprint(r.IntN(100))}[r.IntN(4)],
	})
	if err != nil {
		s.t.Errorf("OpenSession: %v", err)
		return
	}
	g := session.Group()
	if err := session.Allow(granted(0)); err != nil && !(g != "" && err.Error() == "the group of the session is closed") {
		s.t.Errorf("Allow: %v", err)
	}
	if g != "" {
		if err := s.AllowGroup(g, granted(1)); err != nil {
			s.t.Errorf("AllowGroup: %v", err)
		}
	}
	proxy, err := url.Parse(session.ProxyURL())
	if err != nil {
		s.t.Error(err)
		return
	}
	tr := &http.Transport{Proxy: http.ProxyURL(proxy)}
	defer tr.CloseIdleConnections()
	var requests sync.WaitGroup
	for i := range 3 {
		requests.Go(func() {
			req, _ := http.NewRequest("GET", "http://"+granted(i)+"/", nil)
			if a, err := tr.RoundTrip(req); err == nil {
				a.Body.Close()
			}
			session.Blocked()
		})
	}
	s.revoke(r)
	session.Close()
	requests.Wait()
}

func (s *lockStress) closeGroups(r *rand.Rand) {
	s.CloseGroup([]string{"a", "b"}[r.IntN(2)])
}

// look calls the methods that only read.
func (s *lockStress) look(*rand.Rand) {
	s.Blocked()
	s.Config()
	s.Warnings()
	s.Explain(context.Background(), networkproxy.PolicyRequest{Host: granted(0), Port: 80})
	s.LiveTargets()
}
