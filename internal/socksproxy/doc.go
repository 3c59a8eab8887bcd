// Package socksproxy is the SOCKS5 front of the proxy: SOCKS version 5 (RFC
// 1928) with the commands CONNECT and UDP ASSOCIATE, without authentication or
// with a user name and a password (RFC 1929), which carry a session's token.
//
// The package go-socks5 reads the handshake and writes the replies. This
// package does the rest: it sets deadlines, finds the principal of a client,
// relays, and records the outcome. internal/gate decides about each request
// and dials. internal/socksudp parses and writes the header of a datagram.
//
// It does not serve BIND, fragmented datagrams, GSSAPI or SOCKS4, and it looks
// up no name itself.
//
// An association is one UDP ASSOCIATE request. It relays between one client
// and any number of targets. A flow is the traffic between that client and one
// target. Each flow is judged like a request.
package socksproxy
