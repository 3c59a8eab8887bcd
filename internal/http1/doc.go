// Package http1 is the HTTP/1.1 layer of a forwarding proxy: a [Server] that
// reads requests from clients and a [Transport] that sends them to origin
// servers. Both work on raw connections, with one goroutine per connection, at
// about half the cost of net/http's Server and Transport.
//
// The package is not a proxy and enforces no policy. It does not listen,
// resolve names, dial or decide which requests may pass. The importing package,
// the proxy's HTTP front, does that in [Server].Handler and in the
// [RoundTripHooks] of each [Request]. The package is also not a general
// replacement for net/http: it has no TLS, HTTP/2, cookies, redirects or
// decoding of content codings such as gzip.
//
// A Server calls an http.Handler. The handler's http.ResponseWriter is also a
// [Responder], a [Relayer] and a [Detacher]. A Transport sends a Request and
// returns a [Response], which keeps the header fields in the order and
// spelling of the origin server.
//
// A request header is read completely before it is parsed. It must follow RFC
// 9112 strictly wherever two parsers could disagree: line ends, folding, white
// space, Host, Content-Length and Transfer-Encoding. Response headers are
// parsed as leniently as net/http does. Chunked bodies are decoded by
// net/http/httputil. Fuzz targets compare the parsers with net/http's.
//
// The requests of a connection use the same memory one after another. A
// handler must therefore not keep its request, header or URL after it returns.
// It may keep the context.
package http1
