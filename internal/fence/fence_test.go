package fence

import (
	"errors"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// Start refuses a wrong configuration before it does anything.
func TestConfig(t *testing.T) {
	t.Parallel()
	addr, listen := netip.MustParseAddr, func(a ...string) (list []netip.AddrPort) {
		for _, s := range a {
			list = append(list, netip.MustParseAddrPort(s))
		}
		return list
	}
	for _, test := range []struct {
		name   string
		config Config
		want   string
	}{
		{"IPv6 for IPv4", Config{Addr4: addr("fd00::1")}, "Addr4 is fd00::1"},
		{"IPv4 for IPv6", Config{Addr6: addr("192.0.2.1")}, "Addr6 is 192.0.2.1"},
		{"IPv4-mapped address", Config{Addr6: addr("::ffff:192.0.2.1")}, "Addr6 is ::ffff:192.0.2.1"},
		{"loopback address", Config{Addr4: addr("127.0.0.1")}, "Addr4 is 127.0.0.1"},
		{"address with a zone", Config{Addr6: addr("fe80::1%eth0")}, "Addr6 is fe80::1%eth0"},
		{"unspecified address", Config{Addr4: addr("0.0.0.0")}, "Addr4 is 0.0.0.0"},
		{"multicast address", Config{Addr4: addr("224.0.0.1")}, "Addr4 is 224.0.0.1"},
		{"listener on another address", Config{Listen: listen("192.0.2.1:80")}, "Listen has 192.0.2.1:80"},
		{"listener without a port", Config{Listen: listen("127.0.0.1:0")}, "Listen has 127.0.0.1:0"},
		{"listener on the DNS port", Config{Listen: listen("[::1]:53")}, "Listen has [::1]:53; the room uses port 53 itself"},
		{"listener on the capture port", Config{Listen: listen("[::1]:1")}, "Listen has [::1]:1; the room uses port 1 itself"},
		{"port zero", Config{Ports: []uint16{80, 0}}, "Ports has 0"},
		{"DNS port", Config{Ports: []uint16{53}}, "Ports has 53"},
		{"too many listeners", Config{Ports: make129()}, "Ports and Listen have 129 elements; there can be 128"},
		{"relative path", Config{UnixSockets: []string{"/a", "b"}}, `UnixSockets has "b"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("true")
			room, err := Start(cmd, test.config)
			if room != nil || err == nil || !strings.HasPrefix(err.Error(), "fence: "+test.want) {
				t.Errorf("Start returns %v, %v, want an error that begins with %q", room, err, test.want)
			}
			if cmd.Process != nil {
				t.Error("the command was started")
			}
		})
	}
}

func make129() []uint16 {
	ports := make([]uint16, 129)
	for i := range ports {
		ports[i] = uint16(1000 + i)
	}
	return ports
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := Config{}.withDefaults()
	if err != nil || c.Addr4.String() != "198.18.0.1" || c.Addr6.String() != "fd00:6e70::1" {
		t.Errorf("the default addresses are %v and %v, %v", c.Addr4, c.Addr6, err)
	}
	own := Config{Addr4: netip.MustParseAddr("10.1.2.3"), Addr6: netip.MustParseAddr("fd00::7")}
	if c, err = own.withDefaults(); err != nil || c.Addr4 != own.Addr4 || c.Addr6 != own.Addr6 {
		t.Errorf("the addresses of the configuration became %v and %v, %v", c.Addr4, c.Addr6, err)
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	all := Enforced{TCP: true, UDP: true, ICMP: true, IPv6: true, UnixPath: true, UnixAbstract: true, VSock: true, IOUring: true, Ptrace: true}
	if r := (Report{AllPorts: true, Enforced: all}); !r.Complete() {
		t.Error("a report with all enforced is not complete")
	}
	for name, change := range map[string]func(*Report){
		"ports": func(r *Report) { r.AllPorts = false }, "TCP": func(r *Report) { r.Enforced.TCP = false },
		"UDP": func(r *Report) { r.Enforced.UDP = false }, "ICMP": func(r *Report) { r.Enforced.ICMP = false },
		"IPv6": func(r *Report) { r.Enforced.IPv6 = false }, "unix": func(r *Report) { r.Enforced.UnixPath = false },
		"abstract": func(r *Report) { r.Enforced.UnixAbstract = false }, "vsock": func(r *Report) { r.Enforced.VSock = false },
		"io_uring": func(r *Report) { r.Enforced.IOUring = false }, "ptrace": func(r *Report) { r.Enforced.Ptrace = false },
	} {
		r := Report{AllPorts: true, Enforced: all}
		if change(&r); r.Complete() {
			t.Errorf("a report without %s is complete", name)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	err := error(&Error{Problem: Problem{Part: "nf_tables", Error: "no", Fix: "use another kernel"}, Err: cause})
	if want := "fence: nf_tables: no; use another kernel"; err.Error() != want || !errors.Is(err, cause) {
		t.Errorf("error is %q, want %q and its cause", err, want)
	}
	r := Report{Problems: []Problem{{Part: "seccomp notification", Error: "busy", Fix: "stop the other one"}}}
	err = Config{}.accept(r)
	if want := "fence: the room is not complete: seccomp notification: busy; stop the other one"; err == nil || err.Error() != want || !errors.Is(err, ErrIncomplete) {
		t.Errorf("error is %q, want %q", err, want)
	}
}

// On systems without rooms, nothing starts.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64") {
		return
	}
	cmd := exec.Command("true")
	_, err := Start(cmd, Config{})
	if want := (*Error)(nil); !errors.As(err, &want) || !errors.Is(err, errors.ErrUnsupported) || cmd.Process != nil {
		t.Errorf("Start returns %v, want an *Error that matches ErrUnsupported", err)
	}
	if runtime.GOOS == "darwin" {
		return // Probe tries a sandbox profile
	}
	if _, err := Probe(t.Context(), Config{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Probe returns %v", err)
	}
}

// The error names what can be had.
func TestUnsupportedTexts(t *testing.T) {
	t.Parallel()
	for goos, want := range map[string]string{
		"windows": "fence: system: not supported on Windows; use WSL2",
		"darwin":  "fence: system: macOS cannot capture connections; ask for a sealed fence: the proxy is then the only way out, and programs must use the environment",
		"freebsd": "fence: system: a fence needs Linux on amd64 or arm64: unsupported operation; run the command on Linux",
	} {
		if err := unsupported(goos); err.Error() != want || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: error is %q, want %q", goos, err, want)
		}
	}
}
