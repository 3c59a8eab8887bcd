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

// procNet is the directory in which Linux lists its sockets (proc_net(5)).
// Other systems have no such directory, and users are not compared there.
const procNet = "/proc/net"

// senderCheck checks that the socket that sent a datagram belongs to the user
// of the client's TCP connection. A datagram has a source address, but nothing that
// identifies the process that sent it. Not safe for concurrent use.
type senderCheck struct {
	dir           string         // procNet
	client, proxy netip.AddrPort // the addresses of the TCP connection
	relay         netip.AddrPort

	lookedUp bool
	known    bool // the client is on this machine, and uid is its user
	uid      uint32

	refused map[netip.AddrPort]time.Time // recently refused senders, so that a flood from them costs little
}

// senderRefusalTTL is how long a sender is refused without another lookup. It is
// short, because the client may open a socket on the same port later.
const senderRefusalTTL = time.Second

// allows reports whether the socket at from may belong to the client's user. It
// returns true if the users cannot be compared: on systems other than Linux, and
// for clients on another machine or in another network namespace.
func (s *senderCheck) allows(from netip.AddrPort) bool {
	if !s.lookedUp {
		s.lookedUp = true
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

// lookUpClient finds the user of the client. It reads the table of all sockets
// only if the kernel does not know a client that must be on this machine.
func (s *senderCheck) lookUpClient() {
	if s.dir == procNet {
		if s.uid, s.known = tcpSocketUser(s.client, s.proxy); s.known || !s.client.Addr().IsLoopback() {
			return
		}
	}
	if users := socketUsers(s.dir, "tcp", s.client, s.proxy); len(users) == 1 {
		s.uid, s.known = users[0], true
	}
}

// hasSameUser reports whether the socket at from belongs to the client's user.
func (s *senderCheck) hasSameUser(from netip.AddrPort) bool {
	if s.dir == procNet {
		if uid, ok := udpSocketUser(from, s.relay); ok {
			return uid == s.uid
		}
	}
	// A read of the table may miss a socket if others change meanwhile, so try
	// more than once.
	for range 3 {
		if users := socketUsers(s.dir, "udp", from, s.relay); len(users) > 0 {
			// Several sockets can share an address. Any of them may be the sender.
			return !slices.ContainsFunc(users, func(uid uint32) bool { return uid != s.uid })
		}
	}
	return false
}

// socketUsers returns the user IDs of the sockets that can send from local to
// remote. It reads the tables of a protocol in dir.
func socketUsers(dir, protocol string, local, remote netip.AddrPort) []uint32 {
	var users []uint32
	for _, table := range []string{protocol, protocol + "6"} {
		text, err := os.ReadFile(filepath.Join(dir, table))
		if err != nil {
			continue
		}
		port := fmt.Appendf(nil, ":%04X ", local.Port())
		for line := range bytes.Lines(text) {
			if !bytes.Contains(line, port) {
				continue // most lines end here, so splitting them into fields would be wasted
			}
			// sl local_address rem_address st queues tr:when retrnsmt uid timeout inode
			fields := strings.Fields(string(line))
			if len(fields) < 10 || fields[9] == "0" { // a socket without an inode belongs to no process any more
				continue
			}
			l, lok := parseSocketAddr(fields[1])
			r, rok := parseSocketAddr(fields[2])
			uid, err := strconv.ParseUint(fields[7], 10, 32)
			if lok && rok && err == nil && matches(l, local) && matches(r, remote) {
				users = append(users, uint32(uid))
			}
		}
	}
	return users
}

// matches reports whether a matches an address listed in a table. An unspecified
// address in the table matches every address, and port 0 every port.
func matches(listed, a netip.AddrPort) bool {
	return (listed.Port() == a.Port() || listed.Port() == 0) &&
		(listed.Addr().IsUnspecified() || listed.Addr().Unmap() == a.Addr().Unmap().WithZone(""))
}

// parseSocketAddr parses an address in the form of the kernel's tables:
// hexadecimal words of 32 bits in the machine's byte order, and a hexadecimal
// port.
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
