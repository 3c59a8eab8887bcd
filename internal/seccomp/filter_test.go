package seccomp

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// run interprets a program for one call, as the kernel does.
func run(t *testing.T, program []Instruction, arch, call uint32, args ...uint64) uint32 {
	t.Helper()
	load := func(offset uint32) uint32 {
		switch {
		case offset == offsetCall:
			return call
		case offset == offsetArch:
			return arch
		case offset >= offsetArgs && offset < offsetArgs+6*8 && offset%4 == 0:
			var arg uint64
			if i := int(offset-offsetArgs) / 8; i < len(args) {
				arg = args[i]
			}
			return uint32(arg >> (offset % 8 * 8))
		}
		t.Fatalf("load at offset %d, which a filter must not read", offset)
		return 0
	}
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		i := program[pc]
		jump := func(holds bool) {
			if holds {
				pc += int(i.JT)
			} else {
				pc += int(i.JF)
			}
		}
		switch i.Code {
		case codeLoad:
			a = load(i.K)
		case codeAnd:
			a &= i.K
		case codeEqual:
			jump(a == i.K)
		case codeGreaterEqual:
			jump(a >= i.K)
		case codeReturn:
			return i.K
		default:
			t.Fatalf("instruction %d has the code %#x, which Assemble does not use", pc, i.Code)
		}
	}
	t.Fatal("the program ended without a return")
	return 0
}

const (
	errnoForeign = 38
	errnoFamily  = 97
	errnoType    = 13
)

var testRules = []Rule{
	Families("socket", errnoFamily, 1, errnoType, 1, 2, 10, 16),
	Families("socketpair", errnoFamily, 0, 0, 1),
	Refuse("io_uring_setup", errnoForeign),
	RefuseValues("ioctl", 1, 1, 0x5412, 0x541c),
	Notify("connect"),
	Cases("setsockopt", Allowed(),
		Case{[]Condition{Is(1, 0), Is(2, 35)}, Refused(errnoType)},
		Case{[]Condition{Is(1, 41), {Arg: 2, Mask: 0xf0, Value: 0x20}}, Notified()},
	),
	Cases("listen", Refused(errnoType), Case{[]Condition{Is(1, 7)}, Allowed()}),
}

func TestFilter(t *testing.T) {
	t.Parallel()
	refused := func(errno uint32) uint32 { return returnErrno | errno }
	const (
		stream, datagram, raw, seqpacket = 1, 2, 3, 5
		flags                            = 0x80800 // SOCK_CLOEXEC|SOCK_NONBLOCK
		high                             = 1 << 32 // bits that the kernel ignores
	)
	for _, test := range []struct {
		name string
		call string
		args []uint64
		want uint32
	}{
		{"call without a rule", "io_uring_enter", nil, returnAllow},
		{"refused call", "io_uring_setup", nil, refused(errnoForeign)},
		{"call for the supervisor", "connect", []uint64{3, 0x7fff, 16}, returnNotify},
		{"unix stream", "socket", []uint64{1, stream}, returnAllow},
		{"unix stream with flags", "socket", []uint64{1, stream | flags}, returnAllow},
		{"unix seqpacket", "socket", []uint64{1, seqpacket}, returnAllow},
		{"unix datagram", "socket", []uint64{1, datagram}, refused(errnoType)},
		{"unix datagram with flags", "socket", []uint64{1, datagram | flags}, refused(errnoType)},
		{"unix raw, which is a datagram", "socket", []uint64{1, raw}, refused(errnoType)},
		{"unix datagram with high bits in the family", "socket", []uint64{high | 1, datagram}, refused(errnoType)},
		{"unix datagram with high bits in the type", "socket", []uint64{1, high | datagram}, refused(errnoType)},
		{"inet datagram", "socket", []uint64{2, datagram}, returnAllow},
		{"inet6 raw", "socket", []uint64{10, raw}, returnAllow},
		{"netlink", "socket", []uint64{16, raw}, returnAllow},
		{"no family", "socket", []uint64{0, stream}, refused(errnoFamily)},
		{"packet", "socket", []uint64{17, raw}, refused(errnoFamily)},
		{"vsock", "socket", []uint64{40, stream}, refused(errnoFamily)},
		{"vsock with high bits", "socket", []uint64{high | 40, stream}, refused(errnoFamily)},
		{"pair of unix datagrams, where they are allowed", "socketpair", []uint64{1, datagram}, returnAllow},
		{"pair of inet sockets", "socketpair", []uint64{2, stream}, refused(errnoFamily)},
		{"refused ioctl", "ioctl", []uint64{0, 0x5412}, refused(1)},
		{"refused ioctl with high bits", "ioctl", []uint64{0, high | 0x541c}, refused(1)},
		{"another ioctl", "ioctl", []uint64{0, 0x5413}, returnAllow},
		{"first case", "setsockopt", []uint64{3, 0, 35}, refused(errnoType)},
		{"first case with high bits", "setsockopt", []uint64{3, high, high | 35}, refused(errnoType)},
		{"first condition of the first case", "setsockopt", []uint64{3, 0, 36}, returnAllow},
		{"second condition of the first case", "setsockopt", []uint64{3, 1, 35}, returnAllow},
		{"second case", "setsockopt", []uint64{3, 41, 0x125}, returnNotify},
		{"second case with other bits", "setsockopt", []uint64{3, 41, 0x135}, returnAllow},
		{"mixed conditions", "setsockopt", []uint64{3, 0, 0x25}, returnAllow},
		{"allowed case", "listen", []uint64{3, 7}, returnAllow},
		{"no case", "listen", []uint64{3, 8}, refused(errnoType)},
		{"the number of a refused ioctl as another argument", "ioctl", []uint64{0x5412, 1, 0x5412}, returnAllow},
	} {
		for _, arch := range []Arch{AMD64, ARM64} {
			t.Run(arch.Name+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				p, err := Assemble(arch, errnoForeign, testRules...)
				if err != nil {
					t.Fatal(err)
				}
				number := arch.calls[test.call]
				if got := run(t, p, arch.audit, number, test.args...); got != test.want {
					t.Errorf("returns %#x, want %#x", got, test.want)
				}
				if got := run(t, p, 0x40000003 /* i386 */, number, test.args...); got != refused(errnoForeign) {
					t.Errorf("as a call of another architecture: returns %#x, want ENOSYS", got)
				}
				if got := run(t, p, arch.audit, number|x32Bit, test.args...); arch.x32 && got != refused(errnoForeign) {
					t.Errorf("as a call of x32: returns %#x, want ENOSYS", got)
				}
			})
		}
	}
}

// Every call has its rule, and the numbers are those of the tables of the kernel.
func TestFilterBytes(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"amd64": `
			20000000 04000000   15000100 3e0000c0   06000000 26000500
			20000000 00000000   35000001 00000040   06000000 26000500
			15000001 a9010000   06000000 26000500
			15000001 2a000000   06000000 0000c07f
			06000000 0000ff7f`,
		"arm64": `
			20000000 04000000   15000100 b70000c0   06000000 26000500
			20000000 00000000
			15000001 a9010000   06000000 26000500
			15000001 cb000000   06000000 0000c07f
			06000000 0000ff7f`,
	}
	for _, arch := range []Arch{AMD64, ARM64} {
		p, err := Assemble(arch, errnoForeign, Refuse("io_uring_setup", errnoForeign), Notify("connect"))
		if err != nil {
			t.Fatal(err)
		}
		got := hex.EncodeToString(Encode(p))
		if want := strings.Join(strings.Fields(want[arch.Name]), ""); got != want {
			t.Errorf("%s: program is\n%s, want\n%s", arch.Name, got, want)
		}
	}
}

func TestAssembleUnknownCall(t *testing.T) {
	t.Parallel()
	_, err := Assemble(AMD64, errnoForeign, Refuse("no_such_call", 1))
	if want := "seccomp: the number of no_such_call on amd64 is not known"; fmt.Sprint(err) != want {
		t.Errorf("Assemble returns %v, want %s", err, want)
	}
}
