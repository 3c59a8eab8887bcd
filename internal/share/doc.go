// Package share divides a bounded number of places among users, so that no
// user can keep the others out. A user is whoever the places are counted for:
// in this proxy a session, or all clients without one.
//
// Two kinds of places need two rules:
//
//   - A place that can be taken back (a remembered refusal, an idle
//     connection) is taken from the user that has the most, and there the one
//     that was unused for longest. A user alone may have all places. [List]
//     keeps such places.
//   - A place that cannot be taken back (a question that a person is reading,
//     a log line that is written) is refused early to a user that has many:
//     one may have at most three times as many as are free. So a user alone
//     gets three quarters of the places, n greedy users get an equal part each
//     and leave one place in 3n+1 free, and a user that has none gets one as
//     long as any is free. [Allows] is the rule, and [Counter] counts by it.
//
// The package knows nothing of connections, requests or policy. Its types hold
// no lock: their owners do.
package share
