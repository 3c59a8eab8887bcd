// Room on the stack for handlers.

package track

// handlerStack is how many bytes of stack a handler is given from the start.
// With what is there anyway it makes the runtime choose 16 KiB, which is what
// parsing a request, judging it and connecting to its target take.
const handlerStack = 8 << 10

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
