// Package gatetest makes gates for the tests of fronts: names lead where the test says,
// and no connection leaves the machine.
package gatetest

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/testnet"
	"example.com/networkproxy/internal/track"
)

// Lab is a gate with a policy, and a principal for which a front serves.
type Lab struct {
	Gate      *gate.Gate
	Principal *gate.Principal
	Resolver  testnet.Resolver
	Dialer    testnet.Dialer
	Base      policy.Policy // in force, until Install changes it

	cancel context.CancelFunc // of the principal
}

// New makes a lab. configure may change the configuration of the gate. The policy denies
// denied.test and allows the entries; change may change it.
func New(t testing.TB, configure func(*gate.Config), change func(*policy.Policy), allowed ...string) *Lab {
	t.Helper()
	l := new(Lab)
	config := gate.Config{
		Resolver: &l.Resolver, Connect: l.Dialer.Connect, ConnectUDP: l.Dialer.ConnectUDP,
		LookupTimeout: 10 * time.Second, DialTimeout: 10 * time.Second, HandshakeTimeout: 10 * time.Second, TunnelIdle: time.Minute,
		BlockedKept: 100, LogValueBytes: 300, LogLinesPerSecond: 500, Log: slog.New(slog.DiscardHandler),
	}
	configure(&config)
	l.Gate = gate.New(config)
	l.Base = policy.Policy{
		Generation: 1, Enabled: true, Mode: policy.ModeFull, CheckSNI: true, Self: &l.Gate.Self,
		Allow: RuleSets(t, "allowed_domains", allowed...), Deny: RuleSets(t, "denied_domains", "denied.test"),
	}
	change(&l.Base)
	l.Gate.Install(&l.Base)
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.Principal = gate.NewPrincipal(ctx, audit.NewAttribution("agent", "", nil))
	return l
}

// Serve listens at an address, and calls serve with a listener for at most limit
// connections. stop ends the listener, its connections and the gate, and waits for serve.
// Call it once.
func (l *Lab) Serve(t testing.TB, network, address string, limit int, serve func(*gate.Listener)) (addr net.Addr, stop func()) {
	t.Helper()
	inner, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	group := track.NewGroup(nil)
	group.SetLimit(limit)
	listener := &gate.Listener{Listener: &track.Listener{Inner: inner, Group: group, StartIdle: true}, Principal: l.Principal}
	var serving sync.WaitGroup
	serving.Go(func() { serve(listener) })
	return inner.Addr(), func() {
		l.cancel()
		listener.Close()
		group.CloseAll()
		serving.Wait()
		group.Wait(context.Background())
		l.Gate.Live.CloseAll()
		l.Gate.CloseLogs()
	}
}

// Install puts the policy in force with a change, and judges open requests again.
func (l *Lab) Install(change func(*policy.Policy)) {
	next := l.Base
	next.Generation = l.Gate.Policy().Generation + 1
	change(&next)
	l.Gate.Install(&next)
	l.Gate.Rejudge()
}

// RuleSets returns a list of patterns with the name of a key of the configuration.
func RuleSets(t testing.TB, name string, entries ...string) policy.RuleSets {
	t.Helper()
	var patterns []domain.Pattern
	for _, e := range entries {
		p, err := domain.Parse(e)
		if err != nil {
			t.Fatal(err)
		}
		patterns = append(patterns, p)
	}
	return policy.RuleSets{{
		List: name, Entries: entries, Position: func(int) policy.Position { return policy.Position{} }, Set: domain.Compile(patterns),
	}}
}
