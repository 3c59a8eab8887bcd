// Package networkproxytest tests a program that embeds networkproxy. [Run] starts
// the program's proxy, sends a corpus of bypass attempts to its listeners, and
// checks that the proxy keeps the promises of SECURITY.md. It is not a mock of the
// proxy. [Origin] starts a server that a test of the program reaches by a public
// name. Import the package only in tests.
//
//	func TestOurProxy(t *testing.T) {
//		networkproxytest.Run(t, func(t testing.TB, c networkproxy.Config) *networkproxy.Handle {
//			// Start the proxy like the program does, but with c and the kit's Resolver.
//			proxy, err := ourBuilder().Config(c).Resolver(networkproxytest.Resolver{}).Build()
//			if err != nil {
//				t.Fatal(err)
//			}
//			handle, err := proxy.Run(context.Background())
//			if err != nil {
//				t.Fatal(err)
//			}
//			return handle
//		})
//	}
//
// Each promise is one subtest. The kit writes the bytes of every protocol itself,
// because client libraries do not send most of these inputs. It tests forwarding,
// CONNECT, SOCKS5 and UDP if they are on, and the listeners and the token of a
// session.
//
// The kit needs no network and no root. The proxy must refuse bypass attempts
// before it looks up or dials anything, and allowed requests go to servers of the
// kit on 127.0.0.1. A proxy that breaks a promise may try to reach the targets of
// the corpus: names below .invalid (RFC 2606) and a few public addresses.
//
// The kit tests the addresses of names only if Start sets the kit's [Resolver].
//
// [Fence] checks the same targets for a command in a fence, and that nothing is
// reached around the proxy. It needs a machine that permits fences.
//
// The library's own tests cover promises that cannot be tested from outside, such
// as names whose address changes between lookups, and allowed Unix sockets, which
// need macOS.
package networkproxytest
