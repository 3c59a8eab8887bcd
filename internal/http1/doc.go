// Package http1 serves HTTP/1.1 requests and sends them to origins, on raw
// connections with one goroutine each. It does what a forwarding proxy needs of
// net/http's Server and Transport at about half the cost.
//
// A [Server] calls an http.Handler, whose http.ResponseWriter is also a
// [Relayer]. A [Transport] sends a [Request] and returns a [Response] with the
// header fields as they came, in their order and spelling.
//
// A head is read whole and must keep to RFC 9112 where two readers of a message
// could disagree: line ends, folding, white space, Host, Content-Length and
// Transfer-Encoding. Chunked content is decoded by net/http/httputil. Fuzz
// targets compare the parsers with net/http's.
//
// A connection serves one request after the other in the same memory. So a
// handler must not keep its request, its header or its URL after it has
// returned. It may keep the context.
//
// The package knows nothing of policy.
package http1
