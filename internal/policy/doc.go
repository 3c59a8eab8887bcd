// Package policy decides whether a request may pass. It holds the compiled
// configuration, the one decision function, the vocabulary of its verdicts, and
// the texts that explain them.
//
// It looks up no name, asks no decider, opens no connection and keeps no
// records. internal/gate does these with the verdicts of this package. Its only
// I/O is local: [SelfListeners] reads the addresses of this machine, and
// [SelfListeners] and [Socket] look up files.
//
// A [Policy] is immutable and safe for concurrent use. The same holds for all
// types here unless their comment says otherwise.
package policy
