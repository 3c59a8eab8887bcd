// Package audit keeps the account of requests: the counters behind the metrics,
// the bounded record of refusals, the report of a session, the stream of events,
// the limit on log lines, and the targets of requests that pass while the proxy observes.
//
// It decides nothing and writes no log line about a request: internal/gate
// calls it with the outcome of each. It knows a requester as an [Owner] only.
// The root package turns its values into the public API, and adminhttp into
// the text of metrics.
//
// All types are safe for concurrent use unless their comment says otherwise.
// Counters take no lock and do not allocate; the others take a lock for the
// length of the call.
package audit
