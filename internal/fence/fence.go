// Package fence starts a command in a room: namespaces of its own, in which every
// connection and every DNS query arrives at sockets that the host holds. The room has
// no other way out. The command needs no proxy settings and no privileges.
//
//	room, err := fence.Start(cmd, fence.Config{})
//	if err != nil {
//		return err // the command did not run
//	}
//	go serveDNS(room.DNS)
//	for _, ln := range room.TCP {
//		go serveTCP(ln) // room.Target(conn) is the address that the command asked for
//	}
//	err = cmd.Wait()
//	room.Close()
//
// # The room
//
// The room is made of new user, network, mount and IPC namespaces. Its only network
// device is the loopback device. A route makes every IPv4 and IPv6 address local, and
// nf_tables leads TCP connections to one listener, whatever their address and port. The
// loopback addresses inside are the room's own, so that servers in the room work.
//
// DNS queries to port 53 of any address arrive at [Room.DNS] and [Room.DNSStreams], so that
// /etc/resolv.conf needs no change. Other datagrams arrive at [Room.UDP], or are refused
// with "port unreachable".
//
// # Other ways out
//
//   - Unix sockets: the command reaches sockets that were made in its room, and those of
//     Config.UnixSockets. See [Report.UnixSockets] for the means.
//   - Descriptors: the command gets its standard streams and cmd.ExtraFiles, and nothing else.
//     A standard stream that is a socket is replaced by a pipe.
//   - System calls: a seccomp filter refuses io_uring, calls of another architecture, and sockets
//     of families other than unix, inet, inet6 and netlink.
//   - Privileges: the command has no_new_privs, and no capability outside its namespaces.
//
// # Without namespaces
//
// Where the system forbids user namespaces, as the default profile of Docker does, Start uses the
// mechanism [Notification]. The command then stays in the namespaces of the host. The host makes
// the IP sockets of the command, and connects them to its own. Such a room differs as follows:
//
//   - It carries TCP and DNS queries. All other datagrams are refused (EINVAL, EPIPE or EDESTADDRREQ).
//   - DNS queries need a UDP socket that the program connects, as glibc and Go do, or TCP. A resolver
//     that sends them from an unconnected socket (musl), or checks the socket or the sender (c-ares),
//     fails.
//   - The command cannot run servers: bind(2) of TCP sockets and listen(2) are refused. Of unix
//     sockets, it can connect only to those of Config.UnixSockets. It cannot use System V IPC or
//     POSIX message queues.
//   - connect(2) replaces the socket behind the descriptor. Socket options and registrations with
//     epoll(7) that the program made before are lost.
//   - A process that the host must not trace has no network. Such processes have made themselves
//     unreadable, or were orphaned where kernel.yama.ptrace_scope is 1.
//   - It needs Linux 6.12 with Landlock. There must be no other supervisor of the host's system
//     calls. For the superuser, the kernel settings in /proc/sys and /sys must be read-only, as
//     they are in containers.
//
// A room does not restrict files. A command can write a file that another program
// later executes outside the room.
//
// # Systems
//
// Rooms need Linux on amd64 or arm64. On macOS, a command can be started with a sandbox
// profile instead (Config.Profile): it reaches the proxies of Config.Proxies, and nothing
// is captured. Elsewhere, and on macOS without Config.Profile, Start and Probe return an error
// that matches [errors.ErrUnsupported].
package fence

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Config describes a room. The zero value is a room that captures TCP and DNS.
type Config struct {
	// UDP hands datagrams to Room.UDP, which the mechanism Notification cannot. Without it,
	// datagrams to other ports than 53 are refused with ICMP "port unreachable".
	UDP bool

	// Listen are addresses inside the room at which the host accepts connections, in
	// addition to captured ones: the proxies that the environment of the command names,
	// and services of the host. They must be loopback addresses with a port. The listeners
	// are Room.Listeners, in the same order.
	Listen []netip.AddrPort

	// Ports are the TCP ports that the room captures where the kernel has no nf_tables.
	// Connections to other ports are then refused by the kernel, without the host's
	// knowledge. With nf_tables, all ports are captured, and Ports is not used. Empty:
	// Start fails without nf_tables.
	Ports []uint16

	// Addr4 and Addr6 are the room's own addresses, which its connections come from. They
	// must not be addresses of servers. The zero values are 198.18.0.1 and fd00:6e70::1.
	Addr4, Addr6 netip.Addr

	// UnixSockets are absolute paths of sockets outside the room to which the command may
	// connect. A path is resolved at the start, because the command may be able to put another
	// socket there. A path that has no file then is ignored.
	UnixSockets []string

	// Profile permits a sandbox profile in place of a room on macOS, where rooms do not exist. The
	// Room then has no sockets, and Accept is not called. Other systems ignore Profile.
	Profile bool

	// Proxies are the addresses of proxies on this machine to which a command with a sandbox
	// profile may connect. Clients in a room reach them only if Listen has them, too.
	Proxies []netip.AddrPort

	// NoNested forbids namespaces inside the room. Browsers then have no sandbox of their own.
	NoNested bool

	// Accept decides whether the room is good enough. Start calls it when the room is ready
	// and the command has not run its first instruction. An error kills the command, and
	// Start returns it. Nil accepts every room that is complete (Report.Complete).
	Accept func(Report) error

	// SocketRefused is called with the path of a unix socket to which the command was not
	// allowed to connect. Several goroutines may call it at once, and it must not block. It may
	// be nil. Only rooms whose Report.UnixSockets is UnixBroker call it.
	SocketRefused func(path string)
}

// Default addresses of a room: 198.18.0.0/15 is for tests of devices (RFC 2544), and
// fd00::/8 is for private networks (RFC 4193).
var (
	defaultAddr4 = netip.AddrFrom4([4]byte{198, 18, 0, 1})
	defaultAddr6 = netip.AddrFrom16([16]byte{0: 0xfd, 2: 0x6e, 3: 0x70, 15: 1})
)

// UnixMeans says how a room keeps a command from unix sockets of the machine.
type UnixMeans string

const (
	// UnixLandlock: the kernel allows sockets that were made in the room (Landlock ABI 9).
	UnixLandlock UnixMeans = "landlock"
	// UnixBroker: the host makes the connections of the room, and refuses those to sockets
	// that were not made in it (seccomp notification). With the mechanism Notification, it
	// refuses those as well.
	UnixBroker UnixMeans = "broker"
	// UnixHidden: the sockets that existed at the start are hidden. Sockets that
	// appear later can be reached. A room with this is not complete.
	UnixHidden UnixMeans = "hidden"
	// UnixOpen: nothing keeps the command from unix sockets.
	UnixOpen UnixMeans = "open"
)

// Mechanism is the way in which a room captures connections.
type Mechanism string

const (
	// Namespaces: the room has a network of its own, which leads to the host.
	Namespaces Mechanism = "namespaces"
	// Notification: the command has the network namespace of the host. The kernel hands the
	// calls that make or connect sockets to the host (seccomp notification), and refuses others
	// that lead out (seccomp, Landlock). Such a room carries TCP and DNS queries. The command
	// cannot run servers.
	Notification Mechanism = "notification"
)

// Report says what a room enforces.
type Report struct {
	Mechanism   Mechanism `json:"mechanism"`
	AllPorts    bool      `json:"all_ports"`    // every TCP port is captured, instead of Config.Ports
	IPv6        bool      `json:"ipv6"`         // the room has IPv6; without it, IPv6 connections fail inside
	UDP         bool      `json:"udp"`          // datagrams reach Room.UDP
	UnixSockets UnixMeans `json:"unix_sockets"` // how unix sockets of the machine are closed
	Hidden      int       `json:"hidden"`       // unix sockets that are hidden (UnixHidden)
	Profile     bool      `json:"profile"`      // a sandbox profile holds the command, and nothing is captured
	Root        bool      `json:"root"`         // the command runs as the superuser of the machine
	Enforced    Enforced  `json:"enforced"`
	Problems    []Problem `json:"problems"` // the parts that are missing
}

// Enforced lists the ways out that a room closes.
type Enforced struct {
	TCP          bool `json:"tcp"`
	UDP          bool `json:"udp"`
	ICMP         bool `json:"icmp"`
	IPv6         bool `json:"ipv6"`
	UnixPath     bool `json:"unix_path"`     // unix sockets with a path
	UnixAbstract bool `json:"unix_abstract"` // and without one
	VSock        bool `json:"vsock"`         // sockets between a virtual machine and its host
	IOUring      bool `json:"io_uring"`      // system calls that no filter sees
	Ptrace       bool `json:"ptrace"`        // memory and descriptors of other processes
	Signals      bool `json:"signals"`       // signals to other processes; needs Landlock ABI 6
}

// Complete reports whether the room has no known way out and captures every TCP port.
// Signals do not count as a way out, because they carry no data.
func (r Report) Complete() bool {
	e := r.Enforced
	return r.AllPorts && e.TCP && e.UDP && e.ICMP && e.IPv6 && e.UnixPath && e.UnixAbstract && e.VSock && e.IOUring && e.Ptrace
}

// Sealed reports whether the room has no known way out. A sealed room may capture only some
// TCP ports; connections to the others fail. A sandbox profile counts as sealed, and Problems
// lists its limits.
func (r Report) Sealed() bool {
	r.AllPorts = true
	return r.Profile || r.Complete()
}

// Problem describes a part of a room that the system does not support or permit.
type Problem struct {
	Part  string `json:"part"`  // such as "user namespace", "nf_tables"
	Error string `json:"error"` // the error of the system
	Fix   string `json:"fix"`   // what to do
}

// Error is returned by Start if the room could not be made. The command did not run.
type Error struct {
	Problem Problem
	Err     error // the cause; may be nil
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "fence: %s: %s", e.Problem.Part, e.Problem.Error)
	if e.Problem.Fix != "" {
		b.WriteString("; " + e.Problem.Fix)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// ErrIncomplete is matched by the error of Start for a room that is not complete, if
// Config.Accept is nil.
var ErrIncomplete = errors.New("fence: the room is not complete")
