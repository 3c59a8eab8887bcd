// Package seccomp assembles filters of system calls, installs them in a thread, and
// reads the notifications of calls that a filter hands to a supervisor. See seccomp(2)
// and seccomp_unotify(2). Assembling works on every system.
package seccomp

import (
	"encoding/binary"
	"fmt"
)

// Instruction is one instruction of a filter program (struct sock_filter).
type Instruction struct {
	Code   uint16
	JT, JF uint8 // instructions to skip if a comparison holds, or does not
	K      uint32
}

// Codes of instructions (linux/bpf_common.h).
const (
	codeLoad         = 0x20 // load the word at offset K
	codeAnd          = 0x54
	codeEqual        = 0x15
	codeGreaterEqual = 0x35
	codeReturn       = 0x06
)

// Return values (linux/seccomp.h).
const (
	returnAllow  = 0x7fff0000
	returnNotify = 0x7fc00000
	returnErrno  = 0x00050000 // the error number is in the lower 16 bits
)

// Offsets in struct seccomp_data. Arguments are 64-bit words, of which a filter loads
// 32 bits: the lower half comes first on the systems of this package.
const (
	offsetCall = 0
	offsetArch = 4
	offsetArgs = 16
)

func offsetArg(i int) uint32 { return offsetArgs + 8*uint32(i) }

// Arch is an architecture with the numbers of its system calls.
type Arch struct {
	Name  string
	audit uint32 // AUDIT_ARCH_*
	calls map[string]uint32
	x32   bool // calls of another convention begin at x32Bit
}

const x32Bit = 0x40000000

// Architectures whose filters this package assembles.
var (
	AMD64 = Arch{Name: "amd64", audit: 0xc000003e, x32: true, calls: map[string]uint32{
		"ioctl": 16, "socket": 41, "connect": 42, "sendto": 44, "sendmsg": 46, "listen": 50, "socketpair": 53,
		"setsockopt": 54, "clone": 56, "request_key": 249, "unshare": 272, "sendmmsg": 307, "setns": 308,
		"clone3": 435, "pidfd_getfd": 438, "prlimit64": 302,
		"shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64, "semop": 65, "semctl": 66, "semtimedop": 220,
		"msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "mq_open": 240, "mq_timedsend": 242, "mq_timedreceive": 243, "mq_notify": 244,
		"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
	}}
	ARM64 = Arch{Name: "arm64", audit: 0xc00000b7, calls: map[string]uint32{
		"ioctl": 29, "socket": 198, "socketpair": 199, "listen": 201, "connect": 203, "sendto": 206, "setsockopt": 208,
		"sendmsg": 211, "request_key": 218, "clone": 220, "unshare": 97, "setns": 268, "sendmmsg": 269,
		"clone3": 435, "pidfd_getfd": 438, "prlimit64": 261,
		"shmget": 194, "shmat": 196, "shmctl": 195, "semget": 190, "semop": 193, "semctl": 191, "semtimedop": 192,
		"msgget": 186, "msgsnd": 189, "msgrcv": 188, "msgctl": 187, "mq_open": 180, "mq_timedsend": 182, "mq_timedreceive": 183, "mq_notify": 184,
		"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
	}}
)

// Rule says how a filter treats one system call. A filter allows the calls without a rule.
type Rule struct {
	Call string
	body func() []Instruction // ends with a return on every path
}

// Refuse makes a call fail with an error number.
func Refuse(call string, errno uint16) Rule {
	return Rule{call, func() []Instruction { return []Instruction{refuse(errno)} }}
}

// Notify hands a call to the supervisor.
func Notify(call string) Rule {
	return Rule{call, func() []Instruction { return []Instruction{{Code: codeReturn, K: returnNotify}} }}
}

// RefuseValues makes a call fail if the lower 32 bits of an argument have one of the values.
// It is meant for arguments that the kernel reads as 32-bit numbers.
func RefuseValues(call string, arg int, errno uint16, values ...uint32) Rule {
	return Rule{call, func() []Instruction {
		b := []Instruction{{Code: codeLoad, K: offsetArg(arg)}}
		for i, v := range values {
			b = append(b, Instruction{Code: codeEqual, JT: uint8(len(values) - i), K: v})
		}
		return append(b, allow(), refuse(errno))
	}}
}

// Action is what becomes of a call: Allowed, Refused or Notified.
type Action struct{ end Instruction }

// Allowed lets a call run.
func Allowed() Action { return Action{allow()} }

// Refused makes a call fail with an error number.
func Refused(errno uint16) Action { return Action{refuse(errno)} }

// Notified hands a call to the supervisor.
func Notified() Action { return Action{Instruction{Code: codeReturn, K: returnNotify}} }

// Condition compares the lower 32 bits of an argument, of which only those in Mask count.
type Condition struct {
	Arg         int
	Mask, Value uint32
}

// Is is the condition that an argument has a value.
func Is(arg int, value uint32) Condition { return Condition{arg, 1<<32 - 1, value} }

// Case is an action for calls whose arguments meet all conditions.
type Case struct {
	When []Condition
	Then Action
}

// Cases takes the action of the first case that a call meets, or else otherwise. It is meant
// for arguments that the kernel reads as 32-bit numbers.
func Cases(call string, otherwise Action, cases ...Case) Rule {
	return Rule{call, func() []Instruction {
		var b []Instruction
		for _, c := range cases {
			const each = 3 // instructions of a condition
			for i, w := range c.When {
				b = append(b,
					Instruction{Code: codeLoad, K: offsetArg(w.Arg)},
					Instruction{Code: codeAnd, K: w.Mask},
					Instruction{Code: codeEqual, JF: uint8((len(c.When)-i-1)*each + 1), K: w.Value},
				)
			}
			b = append(b, c.Then.end)
		}
		return append(b, otherwise.end)
	}}
}

// Families lets a call (socket or socketpair) make sockets of these families only. It
// refuses other families with errno. It refuses datagram sockets of the family
// streamsOnly with errnoType, because such a socket can send to any address without connect;
// zero makes no difference.
func Families(call string, errno uint16, streamsOnly uint32, errnoType uint16, families ...uint32) Rule {
	const typeMask, typeDatagram, typeRaw = 0xf, 2, 3 // SOCK_DGRAM, SOCK_RAW
	return Rule{call, func() []Instruction {
		b := []Instruction{{Code: codeLoad, K: offsetArg(0)}}
		if streamsOnly != 0 {
			b = append(b,
				Instruction{Code: codeEqual, JF: 6, K: streamsOnly},
				Instruction{Code: codeLoad, K: offsetArg(1)},
				Instruction{Code: codeAnd, K: typeMask},
				Instruction{Code: codeEqual, JT: 1, K: typeDatagram},
				Instruction{Code: codeEqual, JF: 1, K: typeRaw}, // the kernel takes it for a datagram socket
				refuse(errnoType),
				allow(),
			)
		}
		for i, f := range families {
			b = append(b, Instruction{Code: codeEqual, JT: uint8(len(families) - i), K: f})
		}
		return append(b, refuse(errno), allow())
	}}
}

func allow() Instruction { return Instruction{Code: codeReturn, K: returnAllow} }

func refuse(errno uint16) Instruction {
	return Instruction{Code: codeReturn, K: returnErrno | uint32(errno)}
}

// Assemble returns the program of a filter. Calls of another architecture or convention,
// whose numbers have other meanings, fail with errnoForeign.
func Assemble(arch Arch, errnoForeign uint16, rules ...Rule) ([]Instruction, error) {
	p := []Instruction{
		{Code: codeLoad, K: offsetArch},
		{Code: codeEqual, JT: 1, K: arch.audit},
		refuse(errnoForeign),
		{Code: codeLoad, K: offsetCall},
	}
	if arch.x32 {
		p = append(p, Instruction{Code: codeGreaterEqual, JF: 1, K: x32Bit}, refuse(errnoForeign))
	}
	for _, r := range rules {
		number, known := arch.calls[r.Call]
		if !known {
			return nil, fmt.Errorf("seccomp: the number of %s on %s is not known", r.Call, arch.Name)
		}
		body := r.body()
		if len(body) > 255 {
			return nil, fmt.Errorf("seccomp: the rule for %s has %d instructions; a jump can skip 255", r.Call, len(body))
		}
		p = append(p, Instruction{Code: codeEqual, JF: uint8(len(body)), K: number})
		p = append(p, body...)
	}
	return append(p, allow()), nil
}

// Encode returns the program in the form that the kernel reads.
func Encode(program []Instruction) []byte {
	var b []byte
	for _, i := range program {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.JT, i.JF)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}
