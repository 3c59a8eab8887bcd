// The control messages that say how long the datagrams are that go, or have
// come, as one.

package udpbatch

import (
	"encoding/binary"
	"strconv"
	"syscall"
)

// Of udp(7); package syscall does not have them.
const (
	solUDP     = 17
	udpSegment = 103
	udpGRO     = 104
)

// A control message is struct cmsghdr, the length of all of it, a level and a
// type, and then its value. That of udpSegment has 2 bytes, that of udpGRO 4.
const (
	levelOffset = strconv.IntSize / 8
	valueOffset = levelOffset + 4 + 4
	controlSize = valueOffset + 8 // a value of 4 bytes, and what aligns the next one
)

// segmentMessage makes a control message that has what is sent cut into
// datagrams of a length that setSegment gives.
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

// joinedSize is the length of each of the datagrams but the last that came as
// one, by what came with them. It is 0 where one came alone.
func segmentSize(b []byte) int {
	if len(b) < valueOffset+4 ||
		binary.NativeEndian.Uint32(b[levelOffset:]) != solUDP || binary.NativeEndian.Uint32(b[levelOffset+4:]) != udpGRO {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(b[valueOffset:])))
}
