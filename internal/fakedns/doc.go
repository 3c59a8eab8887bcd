// Package fakedns answers the lookups of a command that has no network. Each name
// gets an address of its own that is used nowhere else, so that the address of a
// connection identifies the name. No query leaves the machine.
//
// It decides nothing: [Responder.Judge] says which names get an address. [Names] and
// [Responder] are safe for concurrent use; a Names has one lock.
package fakedns
