package policy

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestSelfListenersPorts(t *testing.T) {
	t.Parallel()
	l := listening("127.0.0.1:3128", "[::1]:3129")
	l.Add(udpAddr("127.0.0.1:5300"))
	tests := []struct {
		name     string
		protocol Protocol
		target   string
		want     bool
	}{
		{"TCP port", ProtocolHTTP, "127.0.0.1:3128", true},
		{"TCP port by SOCKS5", ProtocolSOCKS5TCP, "127.0.0.1:3128", true},
		{"TCP port over UDP", ProtocolSOCKS5UDP, "127.0.0.1:3128", true},
		{"UDP port over UDP", ProtocolSOCKS5UDP, "127.0.0.1:5300", true},
		{"UDP port over TCP", ProtocolSOCKS5TCP, "127.0.0.1:5300", false},
		{"another loopback address", ProtocolHTTP, "127.9.9.9:3128", true},
		{"IPv6 for an IPv4 listener", ProtocolHTTP, "[::1]:3128", true},
		{"unspecified", ProtocolHTTP, "0.0.0.0:3129", true},
		{"loopback, embedded by NAT64", ProtocolHTTP, "[64:ff9b::7f00:1]:3128", true},
		{"localhost", ProtocolHTTP, "localhost:3128", true},
		{"name below localhost", ProtocolHTTP, "a.localhost:3128", true},
		{"other port", ProtocolHTTP, "127.0.0.1:3127", false},
		{"other name", ProtocolHTTP, "a.example:3128", false},
		{"other machine", ProtocolHTTP, "192.0.2.1:3128", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			to := target(t, test.target)
			if got := l.contains(to, test.protocol); got != test.want {
				t.Errorf("%s by %s: got %t, want %t", to, test.protocol, got, test.want)
			}
			if a := to.Host.Addr(); a.IsValid() && l.ContainsAddr(a, to.Port, test.protocol) != test.want {
				t.Errorf("ContainsAddr of %s by %s: got %t, want %t", to, test.protocol, !test.want, test.want)
			}
		})
	}
	if (*SelfListeners)(nil).contains(target(t, "127.0.0.1:3128"), ProtocolHTTP) {
		t.Error("a nil set contains a target")
	}
}

// Addresses of network interfaces are this machine.
func TestSelfListenersInterfaces(t *testing.T) {
	t.Parallel()
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	l := listening("0.0.0.0:3128")
	for _, a := range list {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		if !l.ContainsAddr(prefix.Addr(), 3128, ProtocolHTTP) {
			t.Errorf("%s: got false, want true", prefix.Addr())
		}
	}
}

func TestSelfListenersSharedPort(t *testing.T) {
	t.Parallel()
	l := listening("127.0.0.1:3128", "127.0.0.2:3128")
	to := target(t, "127.0.0.1:3128")
	for _, step := range []struct {
		name, remove string
		want         bool
	}{
		{"with two listeners", "", true},
		{"after one was removed", "127.0.0.1:3128", true},
		{"after both were removed", "127.0.0.2:3128", false},
	} {
		if step.remove != "" {
			l.Remove(tcpAddr(step.remove))
		}
		if got := l.contains(to, ProtocolHTTP); got != step.want {
			t.Errorf("%s: got %t, want %t", step.name, got, step.want)
		}
	}
}

func TestSelfListenersBehindProxy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, target string
		viaProxy     func(*Query) bool
		want         bool
	}{
		{"name on a port of the proxy", "a.example:3128", func(*Query) bool { return true }, true},
		{"name on another port", "a.example:80", func(*Query) bool { return true }, false},
		{"address", "192.0.2.1:3128", func(*Query) bool { return true }, false},
		{"direct connection", "a.example:3128", func(*Query) bool { return false }, false},
		{"no upstream proxies", "a.example:3128", nil, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := listening("127.0.0.1:3128")
			l.ViaProxy = test.viaProxy
			if got := l.mayContainBehindProxy(get(t, test.target)); got != test.want {
				t.Errorf("%s: got %t, want %t", test.target, got, test.want)
			}
		})
	}
}

// A socket of the proxy is recognized under every name.
func TestSelfListenersSocket(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	path := filepath.Join(dir, "admin")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	link, second := filepath.Join(dir, "link"), filepath.Join(dir, "second")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, second); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var l SelfListeners
	l.Add(listener.Addr())
	l.Add(listener.Addr())
	tests := []struct {
		name, path string
		want       bool
	}{
		{"its path", path, true},
		{"a symbolic link", link, true},
		{"a hard link", second, true},
		{"another file", other, false},
		{"no file", filepath.Join(dir, "none"), false},
	}
	for _, test := range tests {
		if got := l.containsSocket(ResolveSocket(test.path)); got != test.want {
			t.Errorf("%s: got %t, want %t", test.name, got, test.want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if !l.containsSocket(ResolveSocket(path)) {
		t.Error("its path, after the file was removed: got false, want true")
	}
	l.Remove(listener.Addr())
	if !l.containsSocket(ResolveSocket(path)) {
		t.Error("after one of two listeners was removed: got false, want true")
	}
	l.Remove(listener.Addr())
	if l.containsSocket(ResolveSocket(path)) {
		t.Error("after both listeners were removed: got true, want false")
	}
}
