package netlink

import "net/netip"

// Loopback is the index of the loopback device in every network namespace.
const Loopback = 1

// Types of rtnetlink messages (linux/rtnetlink.h).
const (
	newLink  = 16
	newAddr  = 20
	newRoute = 24
)

const ackCreate = flagRequest | flagAck | flagCreate

// Address families (linux/socket.h).
const (
	afUnix  = 1
	afInet  = 2
	afInet6 = 10
)

func family(a netip.Addr) byte {
	if a.Is4() {
		return afInet
	}
	return afInet6
}

// AppendLinkUp appends a request to bring a device up.
func AppendLinkUp(b []byte, seq, device uint32) []byte {
	const up = 0x1 // IFF_UP
	// struct ifinfomsg: family, padding, type, index, flags, mask of changed flags
	body := []byte{0, 0, 0, 0}
	body = native.AppendUint32(body, device)
	body = native.AppendUint32(body, up)
	body = native.AppendUint32(body, up)
	return appendMessage(b, newLink, flagRequest|flagAck, seq, body)
}

// AppendAddress appends a request to add an address to a device. The address has the
// longest prefix. An IPv6 address is usable at once, without duplicate address detection.
func AppendAddress(b []byte, seq, device uint32, addr netip.Addr) []byte {
	const (
		noDAD       = 0x02 // IFA_F_NODAD
		attrAddr    = 1    // IFA_ADDRESS
		attrLocal   = 2    // IFA_LOCAL
		globalReach = 0    // RT_SCOPE_UNIVERSE
	)
	var flags byte
	if addr.Is6() {
		flags = noDAD
	}
	// struct ifaddrmsg
	body := []byte{family(addr), byte(addr.BitLen()), flags, globalReach}
	body = native.AppendUint32(body, device)
	body = appendAttr(body, attrLocal, addr.AsSlice())
	body = appendAttr(body, attrAddr, addr.AsSlice())
	return appendMessage(b, newAddr, ackCreate|flagExcl, seq, body)
}

// AppendLocalRoute appends a request for a route that makes every address of a family
// local. Connections to these addresses come from source.
func AppendLocalRoute(b []byte, seq, device uint32, source netip.Addr) []byte {
	const (
		tableLocal  = 255 // RT_TABLE_LOCAL
		protoStatic = 4   // RTPROT_STATIC
		scopeHost   = 254 // RT_SCOPE_HOST
		typeLocal   = 2   // RTN_LOCAL
		attrDevice  = 4   // RTA_OIF
		attrSource  = 7   // RTA_PREFSRC
	)
	// struct rtmsg: family, lengths of the prefixes, TOS, table, origin, scope, type, flags
	body := []byte{family(source), 0, 0, 0, tableLocal, protoStatic, scopeHost, typeLocal, 0, 0, 0, 0}
	body = appendAttr(body, attrDevice, native.AppendUint32(nil, device))
	body = appendAttr(body, attrSource, source.AsSlice())
	return appendMessage(b, newRoute, ackCreate|flagExcl, seq, body)
}
