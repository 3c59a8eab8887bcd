// Package policy decides whether a request may pass. It holds the compiled
// configuration, the one decision function, the vocabulary of its verdicts, and
// the words that explain them.
//
// It does no input or output, except for the questions about this machine's
// own addresses and files in [SelfListeners] and [Socket]. It looks no name up,
// asks no decider, connects to nothing, and keeps no account: internal/gate
// does these with the verdicts of this package.
//
// A [Policy] is immutable and safe for concurrent use. The same holds for all
// types here unless their comment says otherwise.
package policy
