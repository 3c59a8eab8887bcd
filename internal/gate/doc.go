// Package gate takes a request from the decision to the end of its connection. It
// decides, resolves names, dials, relays, cuts, and keeps the account of requests.
//
// A front parses a protocol and calls [Gate.Decide], then [Gate.Refused] or
// [Gate.Dial], then [Gate.Relay] or its own forwarding, and [LiveRequest.End]. The
// fronts are internal/httpproxy, internal/socksproxy and internal/capture, and the
// root package for the host's own requests. The gate parses no client protocol and
// writes no response. The rules are in internal/policy, the decider's answers in
// internal/approval, and the counters and records in internal/audit.
//
// A [Gate] is safe for concurrent use. The policy is an atomic pointer, so that a
// decision by the lists takes no lock and does not allocate. A [LiveRequest]
// belongs to the goroutine that decides about the request; policy changes and
// revoked grants reach it from other goroutines under its mutex. The set
// [LiveRequests] and a LiveRequest are never locked at the same time.
package gate
