// Package http1 serves and makes HTTP/1.1 requests on raw connections, one
// goroutine a connection: what a forwarding proxy needs of net/http's Server
// and Transport, at less than half of their cost, behind the same interfaces
// (http.Handler, http.ResponseWriter, http.RoundTripper).
//
// Messages are parsed by net/http ([http.ReadRequest], [http.ReadResponse]).
// Before that a request's head is read whole and held to the letter of RFC
// 9112 where two readers of one message could disagree: line ends, folding,
// white space, Host, Content-Length and Transfer-Encoding. See [checkHead].
//
// The package knows nothing of policy.
package http1
