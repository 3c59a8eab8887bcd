// Package netlink encodes the netlink messages that configure a network namespace:
// addresses and routes (rtnetlink), nf_tables rules, and lists of unix sockets
// (sock_diag). It decodes the responses. It opens no sockets, so that it works on every
// system; see netlink(7) and rtnetlink(7) for the protocol.
package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Numbers are in the order of the machine, except those inside nf_tables attributes and
// of IP ports, which are in network order.
var (
	native  = binary.NativeEndian
	network = binary.BigEndian
)

// Families of netlink sockets (linux/netlink.h).
const (
	FamilyRoute     = 0
	FamilySockDiag  = 4
	FamilyNetfilter = 12
)

// Options of netlink sockets, at level SOL_NETLINK (linux/netlink.h).
const (
	SolNetlink   = 270
	OptionCapAck = 10 // acknowledgements do not repeat the request
	OptionExtAck = 11 // acknowledgements explain errors
)

// Types and flags of messages (linux/netlink.h).
const (
	typeError = 2
	typeDone  = 3

	flagRequest = 0x001
	flagMulti   = 0x002
	flagAck     = 0x004
	flagCreate  = 0x400
	flagExcl    = 0x200
	flagAppend  = 0x800
	flagDump    = 0x300

	flagCapped  = 0x100 // in an acknowledgement: the request is not repeated
	flagAckTLVs = 0x200 // in an acknowledgement: attributes explain the error
)

const headerLen = 16

// appendMessage appends a message with its header (struct nlmsghdr).
func appendMessage(b []byte, typ, flags uint16, seq uint32, body []byte) []byte {
	b = native.AppendUint32(b, uint32(headerLen+len(body)))
	b = native.AppendUint16(b, typ)
	b = native.AppendUint16(b, flags)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0) // port of the sender: the kernel fills it in
	return pad(append(b, body...))
}

// appendAttr appends an attribute (struct nlattr).
func appendAttr(b []byte, typ uint16, value []byte) []byte {
	b = native.AppendUint16(b, uint16(4+len(value)))
	b = native.AppendUint16(b, typ)
	return pad(append(b, value...))
}

const attrNested = 1 << 15

// appendNested appends an attribute that consists of attributes.
func appendNested(b []byte, typ uint16, inner []byte) []byte {
	return appendAttr(b, typ|attrNested, inner)
}

func appendString(b []byte, typ uint16, s string) []byte {
	return appendAttr(b, typ, append([]byte(s), 0))
}

func appendUint32Net(b []byte, typ uint16, v uint32) []byte {
	return appendAttr(b, typ, network.AppendUint32(nil, v))
}

// pad appends zeros up to a multiple of four.
func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// An Ack is the kernel's response to one request.
type Ack struct {
	Seq     uint32 // of the request
	Errno   int    // zero if the request succeeded
	Message string // the kernel's explanation, which is often empty
	Offset  int    // in the request, of the attribute that the error is about; zero if unknown
}

var errShort = errors.New("netlink: message is cut off")

// ParseAcks returns the acknowledgements in a datagram. It ignores other messages.
func ParseAcks(b []byte) ([]Ack, error) {
	var acks []Ack
	err := eachMessage(b, func(typ, flags uint16, seq uint32, body []byte) error {
		if typ != typeError {
			return nil
		}
		ack, err := parseAck(flags, seq, body)
		acks = append(acks, ack)
		return err
	})
	return acks, err
}

// parseAck parses struct nlmsgerr and the attributes that follow it.
func parseAck(flags uint16, seq uint32, body []byte) (Ack, error) {
	if len(body) < 4+headerLen {
		return Ack{}, errShort
	}
	ack := Ack{Seq: seq, Errno: -int(int32(native.Uint32(body)))}
	if flags&flagAckTLVs == 0 {
		return ack, nil
	}
	skip := 4 + headerLen
	if flags&flagCapped == 0 {
		// The request is repeated in full.
		request := int(native.Uint32(body[4:]))
		if request < headerLen || request > len(body)-4 {
			return ack, errShort
		}
		skip = min(4+(request+3)&^3, len(body))
	}
	const attrMessage, attrOffset = 1, 2
	err := eachAttr(body[skip:], func(typ uint16, value []byte) {
		switch {
		case typ == attrMessage:
			ack.Message = text(value)
		case typ == attrOffset && len(value) == 4:
			ack.Offset = int(native.Uint32(value))
		}
	})
	return ack, err
}

// eachMessage calls f for every message of a datagram.
func eachMessage(b []byte, f func(typ, flags uint16, seq uint32, body []byte) error) error {
	for len(b) > 0 {
		if len(b) < headerLen {
			return errShort
		}
		n := int(native.Uint32(b))
		if n < headerLen || n > len(b) {
			return fmt.Errorf("netlink: message of %d bytes in %d bytes", n, len(b))
		}
		err := f(native.Uint16(b[4:]), native.Uint16(b[6:]), native.Uint32(b[8:]), b[headerLen:n])
		if err != nil {
			return err
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// eachAttr calls f for every attribute.
func eachAttr(b []byte, f func(typ uint16, value []byte)) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return errShort
		}
		n := int(native.Uint16(b))
		if n < 4 || n > len(b) {
			return fmt.Errorf("netlink: attribute of %d bytes in %d bytes", n, len(b))
		}
		f(native.Uint16(b[2:])&^attrNested, b[4:n])
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// text returns a string up to its final zero.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
