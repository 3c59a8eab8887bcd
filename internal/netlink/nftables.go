package netlink

import "net/netip"

// Types of nf_tables messages (linux/netfilter/nfnetlink.h, nf_tables.h).
const (
	batchBegin = 0x10
	batchEnd   = 0x11

	subsystem = 10 << 8   // NFNL_SUBSYS_NFTABLES
	newTable  = subsystem // | 0
	newChain  = subsystem | 3
	newRule   = subsystem | 6
)

// protoInet is the family of tables for IPv4 and IPv6 together (NFPROTO_INET).
const protoInet = 1

// Ruleset is a transaction that adds a table with chains and rules to nf_tables. The
// kernel applies all of it or nothing. Add the chain before its rules.
type Ruleset struct {
	table string
	seq   uint32 // of the last message
	out   []byte
}

// NewRuleset returns a transaction that adds a table for IPv4 and IPv6. Its messages are
// numbered from seq.
func NewRuleset(seq uint32, table string) *Ruleset {
	r := &Ruleset{table: table, seq: seq - 1}
	r.message(batchBegin, 0, subsystem>>8, nil)
	r.message(newTable, flagCreate|flagAck, 0, appendString(nil, 1, table))
	return r
}

// message appends a message with struct nfgenmsg: family, version, resource.
func (r *Ruleset) message(typ, flags uint16, resource uint16, attrs []byte) {
	var protocol byte
	if typ&subsystem != 0 {
		protocol = protoInet
	}
	r.seq++
	body := network.AppendUint16([]byte{protocol, 0}, resource)
	r.out = appendMessage(r.out, typ, flagRequest|flags, r.seq, append(body, attrs...))
}

// Hook is a place on the path of a packet (linux/netfilter.h).
type Hook uint32

// Prerouting is the place where packets come in, before the kernel routes them.
const Prerouting Hook = 0

// Chain adds a chain of type filter at a hook, which drops packets that no rule accepts.
func (r *Ruleset) Chain(name string, hook Hook, priority int32) {
	const (
		attrTable, attrName, attrHook, attrPolicy, attrType = 1, 3, 4, 5, 7
		attrHookNum, attrHookPriority                       = 1, 2
	)
	at := appendUint32Net(nil, attrHookNum, uint32(hook))
	at = appendUint32Net(at, attrHookPriority, uint32(priority))
	a := appendString(nil, attrTable, r.table)
	a = appendString(a, attrName, name)
	a = appendNested(a, attrHook, at)
	a = appendUint32Net(a, attrPolicy, verdictDrop)
	a = appendString(a, attrType, "filter")
	r.message(newChain, flagCreate|flagAck, 0, a)
}

// Rule adds a rule to the end of a chain.
func (r *Ruleset) Rule(chain string, expressions ...Expression) {
	const attrTable, attrChain, attrExpressions = 1, 2, 4
	var list []byte
	for _, e := range expressions {
		list = append(list, e...)
	}
	a := appendString(nil, attrTable, r.table)
	a = appendString(a, attrChain, chain)
	a = appendNested(a, attrExpressions, list)
	r.message(newRule, flagCreate|flagAppend|flagAck, 0, a)
}

// Bytes ends the transaction and returns it as one datagram.
func (r *Ruleset) Bytes() []byte {
	r.message(batchEnd, 0, subsystem>>8, nil)
	return r.out
}

// Acks returns the number of acknowledgements that the kernel sends if the transaction
// succeeds.
func (r *Ruleset) Acks() int {
	n := 0
	eachMessage(r.out, func(_, flags uint16, _ uint32, _ []byte) error {
		if flags&flagAck != 0 {
			n++
		}
		return nil
	})
	return n
}

// Expression is a part of a rule: a condition or an action. Expressions run in their order
// until a condition does not hold.
type Expression []byte

// Registers: a condition loads a value into one and compares it; an action reads another.
const (
	registerVerdict   = 0
	registerCondition = 1
	registerAction    = 2
)

const (
	verdictDrop   = 0
	verdictAccept = 1
)

// expression encodes an element of a list of expressions: a name with its attributes.
func expression(name string, attrs []byte) Expression {
	const attrElement, attrName, attrData = 1, 1, 2
	e := appendString(nil, attrName, name)
	return appendNested(nil, attrElement, appendNested(e, attrData, attrs))
}

// value encodes struct nft_data with plain bytes.
func value(typ uint16, b []byte) []byte {
	const attrValue = 1
	return appendNested(nil, typ, appendAttr(nil, attrValue, b))
}

func meta(key uint32) Expression {
	const attrRegister, attrKey = 1, 2
	a := appendUint32Net(nil, attrRegister, registerCondition)
	return expression("meta", appendUint32Net(a, attrKey, key))
}

func payload(base, offset, length uint32) Expression {
	const attrRegister, attrBase, attrOffset, attrLength = 1, 2, 3, 4
	a := appendUint32Net(nil, attrRegister, registerCondition)
	a = appendUint32Net(a, attrBase, base)
	a = appendUint32Net(a, attrOffset, offset)
	return expression("payload", appendUint32Net(a, attrLength, length))
}

func equals(b []byte) Expression {
	const attrRegister, attrOperator, attrData, operatorEqual = 1, 2, 3, 0
	a := appendUint32Net(nil, attrRegister, registerCondition)
	a = appendUint32Net(a, attrOperator, operatorEqual)
	return expression("cmp", append(a, value(attrData, b)...))
}

func join(parts ...Expression) Expression {
	var e Expression
	for _, p := range parts {
		e = append(e, p...)
	}
	return e
}

// Bases of offsets in a packet.
const (
	baseNetwork   = 1
	baseTransport = 2
)

// Protocol is the number of a protocol above IP.
type Protocol byte

const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// IsProtocol holds for packets of a protocol.
func IsProtocol(p Protocol) Expression {
	const keyL4Proto = 16
	return join(meta(keyL4Proto), equals([]byte{byte(p)}))
}

// ToPort holds for packets to a port. Use it after IsProtocol.
func ToPort(port uint16) Expression {
	return join(payload(baseTransport, 2, 2), equals(network.AppendUint16(nil, port)))
}

// ToPrefix holds for packets to an address of a prefix, whose length must be a multiple of 8.
func ToPrefix(p netip.Prefix) Expression {
	const keyFamily = 15
	offset := uint32(16) // of the destination in the header of IPv4
	if p.Addr().Is6() {
		offset = 24
	}
	n := uint32(p.Bits() / 8)
	return join(meta(keyFamily), equals([]byte{family(p.Addr())}), payload(baseNetwork, offset, n), equals(p.Addr().AsSlice()[:n]))
}

// Accept lets the packet pass. The other rules of the chain do not run.
func Accept() Expression {
	const attrRegister, attrData, attrVerdict, attrCode = 1, 2, 2, 1
	verdict := appendNested(nil, attrVerdict, appendUint32Net(nil, attrCode, verdictAccept))
	a := appendUint32Net(nil, attrRegister, registerVerdict)
	return expression("immediate", appendNested(a, attrData, verdict))
}

// TProxy hands the packet to the socket that is bound to port and transparent, or to the
// socket of the connection that the packet belongs to. The packet keeps its addresses.
func TProxy(port uint16) Expression {
	const attrRegister, attrData, attrFamily, attrPort, anyFamily = 1, 2, 1, 3, 0
	load := appendUint32Net(nil, attrRegister, registerAction)
	load = append(load, value(attrData, network.AppendUint16(nil, port))...)
	a := appendUint32Net(nil, attrFamily, anyFamily)
	a = appendUint32Net(a, attrPort, registerAction)
	return join(expression("immediate", load), expression("tproxy", a))
}

// Reject responds to the packet with ICMP or ICMPv6 "port unreachable".
func Reject() Expression {
	const attrType, attrCode, typeICMPX, portUnreachable = 1, 2, 2, 1
	a := appendUint32Net(nil, attrType, typeICMPX)
	return expression("reject", appendAttr(a, attrCode, []byte{portUnreachable}))
}
