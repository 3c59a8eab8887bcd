// Package e2e is the end-to-end test suite. It runs the networkproxy program with
// real clients (curl, wget, git, Python, Node, Java, Go), real TLS servers (OpenSSL,
// nginx, GnuTLS) and real shells (bash, zsh, fish). It has tests only and no code that
// others can import.
//
// The suite needs Linux, root and those programs, and so has a build tag:
//
//	go test -tags=e2e ./e2e/...
//
// The test binary runs itself again in new network and mount namespaces. There, the
// loopback device has a few public addresses, names below .example resolve through
// the suite's own DNS server, and certificates come from a CA made for the run. The
// namespace has no other device, so that no traffic can leave the machine.
// The DNS server sees every query of the program.
//
// The namespace also has traps: listeners on loopback, private and link-local
// addresses that no connection through the proxy may reach. They prove that the
// program refused a target that was reachable.
package e2e
