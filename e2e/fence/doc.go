// Package fence is the end-to-end test suite of internal/fence. It starts commands in rooms
// and lets them try to get out. It has tests only.
//
// The suite needs Linux and root, and so has a build tag. It runs all tests twice, as root and as
// an ordinary user, in a network namespace whose only way out ends at a catcher, which sees
// every packet that leaves a room.
package fence
