// Package httpproxy is the HTTP front of the proxy. It reads requests from
// clients, asks internal/gate about each, and forwards it, opens a tunnel for
// it, or responds with a refusal that says why.
//
// Requests in absolute-form are forwarded (RFC 9112 section 3.2.2). CONNECT
// (RFC 9110 section 9.3.6) and Upgrade (section 7.8) become tunnels. The
// package has the rules of an intermediary: which header and trailer fields
// are passed on, Max-Forwards, and the connections that are kept for further
// requests. It also has the x-unix-socket header and the responses of the proxy
// itself.
//
// The package decides nothing and dials nothing. internal/gate does both, keeps
// the record of refusals, and cuts requests that a new policy refuses.
// internal/http1 parses and writes HTTP. The root package configures the front
// and gives it listeners.
//
// A [Proxy] is safe for concurrent use. It serves each client connection in one
// goroutine, and the requests of a connection one after another. Everything in
// a clientState therefore belongs to that goroutine, except its LiveRequest,
// which the gate may cut at any time. A tunnel runs in the goroutine of its
// connection after the handler has returned. The package starts no long-lived
// goroutines.
package httpproxy
