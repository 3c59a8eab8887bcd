// Who owns a socket on this machine: a datagram says which port it comes from,
// and nothing about the process that sent it.

package socksproxy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// procNet is where Linux lists its sockets (proc_net(5)). Elsewhere there is
// no such directory, and owners are not compared.
const procNet = "/proc/net"

// senderCheck decides whether the socket that a datagram comes from belongs to
// the user who owns the TCP connection of an association. It is not safe for
// concurrent use.
type senderCheck struct {
	dir           string         // procNet
	client, proxy netip.AddrPort // the ends of the TCP connection
	relay         netip.AddrPort

	looked bool
	known  bool // the client is on this machine, and uid is its user
	uid    uint32

	refused map[netip.AddrPort]time.Time // senders of late, so that a flood of theirs costs little
}

// senderRefusalTTL is how long a sender is refused without looking again: its
// port may become the client's.
const senderRefusalTTL = time.Second

// allows reports whether the client may own the socket at from. It is true if
// owners cannot be compared: on other systems, and for clients that are on
// another machine or in another network namespace.
func (s *senderCheck) allows(from netip.AddrPort) bool {
	if !s.looked {
		s.looked = true
		s.lookUpClient()
	}
	if !s.known {
		return true
	}
	now := time.Now()
	if at, ok := s.refused[from]; ok && now.Sub(at) < senderRefusalTTL {
		return false
	}
	if s.hasSameUser(from) {
		return true
	}
	if len(s.refused) >= 64 || s.refused == nil {
		s.refused = make(map[netip.AddrPort]time.Time)
	}
	s.refused[from] = now
	return false
}

// lookUpClient finds the user of the client. The table of all sockets is read
// only if the kernel does not answer about a client that must be here.
func (s *senderCheck) lookUpClient() {
	if s.dir == procNet {
		if s.uid, s.known = tcpSocketUser(s.client, s.proxy); s.known || !s.client.Addr().IsLoopback() {
			return
		}
	}
	if owners := socketUsers(s.dir, "tcp", s.client, s.proxy); len(owners) == 1 {
		s.uid, s.known = owners[0], true
	}
}

// hasSameUser reports whether the socket at from belongs to the client's user.
func (s *senderCheck) hasSameUser(from netip.AddrPort) bool {
	if s.dir == procNet {
		if uid, ok := udpSocketUser(from, s.relay); ok {
			return uid == s.uid
		}
	}
	// A table that changes while it is read may miss a socket, so read again.
	for range 3 {
		if owners := socketUsers(s.dir, "udp", from, s.relay); len(owners) > 0 {
			// Several sockets can share an address: any of them may have sent it.
			return !slices.ContainsFunc(owners, func(uid uint32) bool { return uid != s.uid })
		}
	}
	return false
}

// socketUsers returns the user IDs of the sockets that can send from local to
// remote, as the tables of a protocol in dir list them.
func socketUsers(dir, protocol string, local, remote netip.AddrPort) []uint32 {
	var owners []uint32
	for _, table := range []string{protocol, protocol + "6"} {
		text, err := os.ReadFile(filepath.Join(dir, table))
		if err != nil {
			continue
		}
		port := fmt.Appendf(nil, ":%04X ", local.Port())
		for line := range bytes.Lines(text) {
			if !bytes.Contains(line, port) {
				continue // most of them: fields are found below only where needed
			}
			// sl local_address rem_address st queues tr:when retrnsmt uid timeout inode
			fields := strings.Fields(string(line))
			if len(fields) < 10 || fields[9] == "0" { // without an inode it is no process's any more
				continue
			}
			l, lok := parseSocketAddr(fields[1])
			r, rok := parseSocketAddr(fields[2])
			uid, err := strconv.ParseUint(fields[7], 10, 32)
			if lok && rok && err == nil && matches(l, local) && matches(r, remote) {
				owners = append(owners, uint32(uid))
			}
		}
	}
	return owners
}

// matches reports whether a socket with an address of its own, which may be
// left open, can have the address a.
func matches(own, a netip.AddrPort) bool {
	return (own.Port() == a.Port() || own.Port() == 0) &&
		(own.Addr().IsUnspecified() || own.Addr().Unmap() == a.Addr().Unmap().WithZone(""))
}

// parseSocketAddr parses an address as the kernel writes it: words of 32 bits
// in the machine's byte order, and a port, in hexadecimal digits.
func parseSocketAddr(text string) (netip.AddrPort, bool) {
	words, port, ok := strings.Cut(text, ":")
	if !ok || len(words) != 8 && len(words) != 32 {
		return netip.AddrPort{}, false
	}
	var b []byte
	for ; words != ""; words = words[8:] {
		word, err := strconv.ParseUint(words[:8], 16, 32)
		if err != nil {
			return netip.AddrPort{}, false
		}
		b = binary.NativeEndian.AppendUint32(b, uint32(word))
	}
	addr, _ := netip.AddrFromSlice(b)
	p, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(p)), err == nil
}
