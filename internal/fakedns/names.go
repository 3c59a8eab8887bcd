// Names and their addresses.

package fakedns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"sync"

	"example.com/networkproxy/internal/hostname"
)

// DefaultPrefix is the range of the IPv4 addresses: that of benchmarks of devices
// (RFC 2544 section 12.1), which no network uses otherwise.
var DefaultPrefix = netip.MustParsePrefix("198.18.0.0/15")

// prefix6 is the range of the IPv6 addresses: a unique local prefix (RFC 4193). The
// last 32 bits are the number of the name.
var prefix6 = netip.MustParsePrefix("fd00:6e70::/96")

// firstNumber is the number of the first name. Number 0 is the address of the network
// and number 1 that of the command's own interface.
const firstNumber = 2

// ErrFull is the error when all addresses are in use.
var ErrFull = errors.New("all addresses of the fence are in use: too many different names were looked up")

// ErrUnknownAddr is the error for an address of the range that belongs to no name.
var ErrUnknownAddr = errors.New("the address was not given by a lookup in this fence")

// Names gives each name an address, and finds the name of an address. The name of an
// address never changes, because programs keep addresses for longer than the TTL of
// the answer. The same name usually gets the same address in every Names.
type Names struct {
	prefix netip.Prefix
	size   uint32 // numbers: those below size - 1, because the last address is for broadcasts

	mu       sync.Mutex
	byName   map[string]uint32
	byNumber map[uint32]hostname.Host
}

// NewNames returns an empty Names with IPv4 addresses of prefix. The zero prefix means
// DefaultPrefix.
func NewNames(prefix netip.Prefix) (*Names, error) {
	if !prefix.IsValid() {
		prefix = DefaultPrefix
	}
	if !prefix.Addr().Is4() || prefix.Bits() > 24 || prefix.Bits() < 8 {
		return nil, fmt.Errorf("the pool %s must be an IPv4 prefix of /8 to /24", prefix)
	}
	return &Names{
		prefix: prefix.Masked(), size: 1 << (32 - prefix.Bits()),
		byName: make(map[string]uint32), byNumber: make(map[uint32]hostname.Host),
	}, nil
}

// Addrs returns the addresses of a name. The error is ErrFull if it has none yet and
// all are in use.
func (n *Names) Addrs(name hostname.Host) (v4, v6 netip.Addr, err error) {
	number, err := n.number(name)
	if err != nil {
		return netip.Addr{}, netip.Addr{}, err
	}
	a4, a6 := n.prefix.Addr().As4(), prefix6.Addr().As16()
	binary.BigEndian.PutUint32(a4[:], binary.BigEndian.Uint32(a4[:])+number)
	copy(a6[12:], a4[:])
	return netip.AddrFrom4(a4), netip.AddrFrom16(a6), nil
}

// number returns the number of a name, and gives it one if it has none.
func (n *Names) number(name hostname.Host) (uint32, error) {
	text := name.Name()
	n.mu.Lock()
	defer n.mu.Unlock()
	if number, ok := n.byName[text]; ok {
		return number, nil
	}
	usable := n.size - 1 - firstNumber
	if uint32(len(n.byName)) >= usable {
		return 0, ErrFull
	}
	h := fnv.New32a()
	h.Write([]byte(text))
	for i := h.Sum32() % usable; ; i = (i + 1) % usable {
		if _, used := n.byNumber[firstNumber+i]; !used {
			number := firstNumber + i
			n.byName[text], n.byNumber[number] = number, name
			return number, nil
		}
	}
}

// Host returns the host of an address: the name that the address was given to, or the
// address itself if it is not of the pool. The error is ErrUnknownAddr for an address
// of the pool without a name.
func (n *Names) Host(a netip.Addr) (hostname.Host, error) {
	a = a.Unmap()
	v4 := a
	if a.Is6() && prefix6.Contains(a.WithZone("")) {
		b := a.As16()
		v4 = netip.AddrFrom4([4]byte(b[12:]))
	}
	if !n.prefix.Contains(v4) {
		if v4 != a {
			return hostname.Host{}, ErrUnknownAddr
		}
		return hostname.FromAddr(a), nil
	}
	base, b := n.prefix.Addr().As4(), v4.As4()
	number := binary.BigEndian.Uint32(b[:]) - binary.BigEndian.Uint32(base[:])
	n.mu.Lock()
	defer n.mu.Unlock()
	name, ok := n.byNumber[number]
	if !ok {
		return hostname.Host{}, ErrUnknownAddr
	}
	return name, nil
}

// Len returns the number of names.
func (n *Names) Len() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.byName)
}
