// Bench measures the speed and the cost of proxies. It compares networkproxy with
// other proxies under the same load on the same machine. It is a program, not a
// suite of Go benchmarks; those are in the packages.
//
//	go run ./bench                          # networkproxy, built from this checkout
//	go run ./bench -peer squid -svg out.svg # also squid, if it is installed
//	go run ./bench -fence                   # fences
//	go run ./bench -inspection              # TLS inspection
//
// Each figure belongs to one process. For each workload in each round, bench starts
// every proxy with an origin server of its own. The proxies work one at a time in
// short interleaved slices. Bench reads the CPU time, memory and descriptors of the
// proxy's process from /proc. Bench itself is the client and the origin server.
// All traffic is on loopback.
//
// Absolute figures depend on the machine and its other load. Bench therefore reports
// ratios to a base, as the median over the rounds. The base is a minimal proxy made
// of net/http's Server and a well-tuned Transport, and go-socks5's relay for
// datagrams. It runs as a process like the other proxies. A relay that copies bytes
// without reading HTTP shows the limit of the machine.
//
// With -fence, bench measures fences instead: captured connections against CONNECT in
// the same fence, and the time that a fence adds to the start of a command. The user of
// the proxies must be able to have a fence; bench fails with the reason otherwise.
//
// With -inspection, bench measures TLS inspection: requests in opened tunnels against
// plain requests and against a minimal proxy made of goproxy, which is in a module of
// its own in the directory goproxy; requests of commands with a credential against
// those of commands without; and hosts that are not opened against a proxy without
// inspection.
//
// Bench needs Linux. Started as root, it runs the proxies as an ordinary user,
// because root is exempt from the limits on pipes, which affect relays.
package main
