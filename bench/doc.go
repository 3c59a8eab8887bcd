// Bench measures what a proxy costs: networkproxy, and any other proxy beside
// it, under the same work, in the same minutes, on the same machine.
//
//	go run ./bench                          # networkproxy, built from this checkout
//	go run ./bench -peer squid -svg out.svg # and squid, if it is installed
//
// Every figure is one process's own: for each kind of work in each round every
// proxy is started anew, with an origin of its own; one at a time has work to do,
// in short laps by turns, and its CPU time, memory and descriptors are read from
// /proc. The client and the origin are this program; they talk to the proxy over
// loopback, and to nothing else.
//
// Absolute figures change with the machine and with what else runs on it, so
// the proxies take turns within each round, and what is reported is the median
// of the rounds' ratios to a base: a minimal proxy made of net/http's Server
// and a well-tuned Transport (go-socks5's own relay for datagrams), which this
// program runs as a process of its own, like any other. A relay that knows no
// HTTP and copies bytes shows what the machine would allow.
//
// It needs Linux. Started as root it runs the proxies as an ordinary user,
// because limits on pipes, which relays depend on, do not bind root.
package main
