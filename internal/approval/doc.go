// Package approval asks the decider about requests that only it can allow, and
// remembers its answers: a [Grant] for an allow that covers later requests, and a
// denial for a short time or as long as the decider says. What is remembered belongs
// to a session or to a group of sessions.
//
// It applies no policy: internal/gate asks only about allowlist misses, and judges
// a request again after an allow. It closes no connection: the gate cuts the
// requests of a revoked grant. It knows requesters only as an [audit.Owner].
//
// [Asker] and [Grants] are safe for concurrent use, and each has one lock. An
// Asker holds its lock while it takes that of its Grants, never the reverse. No
// lock is held during a call of the decider. Requests that the lists decide
// never reach this package.
package approval
