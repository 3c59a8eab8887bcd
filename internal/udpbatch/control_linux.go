// Control messages with the length of the datagrams that are sent or received
// as one message.

package udpbatch

import (
	"encoding/binary"
	"strconv"
	"syscall"
)

// From udp(7); missing in package syscall.
const (
	solUDP     = 17
	udpSegment = 103
	udpGRO     = 104
)

// A control message is struct cmsghdr (total length, level and type), followed
// by the value: 2 bytes for udpSegment, 4 bytes for udpGRO.
const (
	levelOffset = strconv.IntSize / 8
	valueOffset = levelOffset + 4 + 4
	controlSize = valueOffset + 8 // a value of 4 bytes, and the alignment of the next message
)

// segmentMessage returns a control message that makes the kernel split the sent
// bytes into datagrams. setSegment sets their length.
func segmentMessage() []byte {
	b := make([]byte, syscall.CmsgSpace(2))
	if strconv.IntSize == 64 {
		binary.NativeEndian.PutUint64(b, valueOffset+2)
	} else {
		binary.NativeEndian.PutUint32(b, valueOffset+2)
	}
	binary.NativeEndian.PutUint32(b[levelOffset:], solUDP)
	binary.NativeEndian.PutUint32(b[levelOffset+4:], udpSegment)
	return b
}

func setSegment(b []byte, length int) { binary.NativeEndian.PutUint16(b[valueOffset:], uint16(length)) }

// segmentSize returns the length of each datagram but the last in a received
// message, given its control message. It is 0 if the message is a single
// datagram.
func segmentSize(b []byte) int {
	if len(b) < valueOffset+4 ||
		binary.NativeEndian.Uint32(b[levelOffset:]) != solUDP || binary.NativeEndian.Uint32(b[levelOffset+4:]) != udpGRO {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(b[valueOffset:])))
}
