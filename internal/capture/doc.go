// Package capture is the front of captured connections, lookups and datagrams: those
// of commands in a fence, which have no other network and do not know of the proxy.
//
// A connection is captured on its way to an address. The address identifies the name
// that the command looked up, because package fakedns answers every lookup in the
// fence. The request is then judged like that of a SOCKS client. Plain HTTP goes to
// the HTTP front, so that each request is judged and the origin server is asked only
// for the host of the connection. The bytes of other connections are relayed.
//
// The package opens no namespace and no captured socket; package fence does. It needs
// Linux, because it looks at the first bytes of a connection without consuming them.
//
// [Front] is safe for concurrent use. Its Serve methods block until their socket is
// closed; the caller owns the goroutines. It has no lock.
package capture
