package netlink

// UnixSocket is a unix socket that is bound to a file.
type UnixSocket struct {
	Path  string // as it was given to bind(2); may be relative
	Inode uint32 // of the file: the lower 32 bits
	Dev   uint32 // of its file system, in the kernel's encoding: major<<20 | minor
}

const sockDiagByFamily = 20

// AppendUnixDump appends a request for all unix sockets of the network namespace that the
// netlink socket belongs to (FamilySockDiag).
func AppendUnixDump(b []byte, seq uint32) []byte {
	const showName, showFile = 0x1, 0x2
	// struct unix_diag_req: family, protocol, padding, states, inode, show, cookie
	body := []byte{afUnix, 0, 0, 0}
	body = native.AppendUint32(body, 1<<32-1)
	body = native.AppendUint32(body, 0)
	body = native.AppendUint32(body, showName|showFile)
	body = native.AppendUint64(body, 1<<64-1)
	return appendMessage(b, sockDiagByFamily, flagRequest|flagDump, seq, body)
}

// ParseUnixDump returns the sockets of one datagram of a dump that are bound to a file, and
// whether the dump is complete.
func ParseUnixDump(b []byte) (sockets []UnixSocket, done bool, errno int, err error) {
	err = eachMessage(b, func(typ, flags uint16, seq uint32, body []byte) error {
		switch typ {
		case typeDone:
			done = true
			if len(body) >= 4 {
				errno = -int(int32(native.Uint32(body)))
			}
		case typeError:
			ack, err := parseAck(flags, seq, body)
			done, errno = true, ack.Errno
			return err
		case sockDiagByFamily:
			s, bound, err := parseUnixSocket(body)
			if bound {
				sockets = append(sockets, s)
			}
			return err
		}
		return nil
	})
	return sockets, done, errno, err
}

// parseUnixSocket parses struct unix_diag_msg and its attributes.
func parseUnixSocket(body []byte) (s UnixSocket, bound bool, err error) {
	const length, attrName, attrFile = 16, 0, 1
	if len(body) < length {
		return s, false, errShort
	}
	err = eachAttr(body[length:], func(typ uint16, value []byte) {
		switch {
		case typ == attrName:
			s.Path = text(value)
		case typ == attrFile && len(value) == 8: // struct unix_diag_vfs
			s.Inode, s.Dev, bound = native.Uint32(value), native.Uint32(value[4:]), true
		}
	})
	return s, bound, err
}
