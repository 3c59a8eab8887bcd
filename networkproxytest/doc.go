// Package networkproxytest puts an embedding of networkproxy to the test: the
// bypass corpus, and a run over it through the listeners that a host has
// started, with the host's own settings.
//
//	func TestOurProxy(t *testing.T) {
//		networkproxytest.Run(t, func(t testing.TB, c networkproxy.Config) *networkproxy.Handle {
//			// What the program does, with the kit's configuration and names.
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
// Each promise is a sub-test of its name. The kit speaks in bytes of its own,
// not through a client library, which would not send most of what it sends:
// forwarding, CONNECT, SOCKS5 and its datagrams where the host left them on,
// and a session's own listeners and token.
//
// No network is needed, and no root. What must be refused is refused before
// anything is looked up or dialed, and what must arrive goes to listeners of
// the kit on 127.0.0.1. A proxy that breaks a promise may try to reach what
// the corpus names: names below .invalid (RFC 2606), and a few public
// addresses.
//
// What names resolve to is tested where the host takes part: it sets the kit's
// [Resolver] in Start.
//
// What the kit cannot see from outside is left to the library's own tests: a
// name that resolves to another address the second time, for one, and the Unix
// sockets that are allowed, which need macOS.
package networkproxytest
