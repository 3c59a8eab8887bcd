// What the tests, which stand outside the package as hosts do, may reach
// into.

package networkproxy

// SetConnect replaces the kernel's connect, so that public addresses can be
// stood in for by listeners on loopback.
func SetConnect(b *Builder, connect connectFunc) { b.settings.connect = connect }
