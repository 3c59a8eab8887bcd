// Room on the stack for handlers.

package track

// handlerStack is how many bytes of stack a handler is given from the start.
// With what is there anyway it makes the runtime choose 8 KiB, in which parsing a
// request, judging it and connecting to its target have room: 6.2 KiB of the 7.1
// that the runtime lets a stack of 8 have are in use when the system connects.
// A tunnel goes on with that stack.
const handlerStack = 4 << 10

// growStack grows the goroutine's stack by handlerStack while there is next to
// nothing on it. A stack that overflows under a handler is copied frame by
// frame, twice until it is large enough, and that was an eighth of the work of
// setting up a tunnel. i, which is to be 0, keeps the room from being optimised
// away.
//
//go:noinline
func growStack(i int) byte {
	var room [handlerStack]byte
	return room[i]
}
