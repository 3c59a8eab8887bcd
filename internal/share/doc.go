// Package share divides a bounded number of places among users, so that no user
// can keep the others out. A user is the owner for whom places are counted: in
// this proxy a session, or all clients without one.
//
// The package only counts. It knows no connections, requests or policy, and it
// never blocks or waits. Its types are not safe for concurrent use: their
// owners' locks guard them. [Allows] is a pure function.
//
// There are two rules, for two kinds of places:
//
//   - A place that can be taken back (a remembered refusal, an idle connection)
//     is taken from the user with the most places. Of these, it is the place
//     unused for longest. A single user may have all places. [List] keeps such places.
//   - A place that cannot be taken back (a question that a person is reading, a
//     log line already written) is refused early to a user that has many: it
//     may have at most three times as many places as are free. So a single user
//     gets three quarters of the places. n greedy users get equal parts and
//     leave one place in 3n+1 free. A user without places gets one as long as
//     any is free. [Allows] is this rule, and [Counter] counts by it.
package share
