// Package http1 serves and makes HTTP/1.1 requests on raw connections, one
// goroutine a connection: what a forwarding proxy needs of net/http's Server
// and Transport, at half of their cost and less, behind the same interfaces
// (http.Handler, http.ResponseWriter, http.RoundTripper).
//
// A request's head is read whole and held to the letter of RFC 9112 where two
// readers of one message could disagree: line ends, folding, white space, Host,
// Content-Length and Transfer-Encoding. What is plain is then parsed in place;
// the rest, all codings and every doubt are left to net/http
// ([http.ReadRequest], [http.ReadResponse]). Fuzz targets hold the two to the
// same result.
//
// One request of a connection is served in the memory of the one before, and
// so a handler must not hold on to its request, or its header or URL, when it
// has returned. Contexts are excepted: see requestContext.
//
// The package knows nothing of policy.
package http1
