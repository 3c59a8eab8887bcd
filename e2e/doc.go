// Package e2e holds the end-to-end suite: the networkproxy program, carrying
// the traffic of the clients that people really use (curl, wget, git, Python,
// Go), between origins that the suite starts itself, among them the TLS servers
// that people really run (OpenSSL, nginx, GnuTLS).
//
// The suite is behind a build tag, because it needs Linux, root and those
// clients:
//
//	go test -tags=e2e ./e2e/...
//
// It runs itself again inside a network namespace and a mount namespace of its
// own. There, and only there, the loopback device carries a few addresses that
// look public, names under .example resolve through the suite's own DNS
// server, and certificates come from a CA made for the run. The namespace has
// no other device, so nothing the suite sends can leave the machine, and the
// DNS server sees every query that the program makes.
//
// Besides origins, the namespace holds traps: listeners on loopback, private
// and link-local addresses, where nobody may ever arrive through the proxy. A
// refusal that the suite sees is therefore the program's doing and not a
// target that was unreachable anyway.
package e2e
