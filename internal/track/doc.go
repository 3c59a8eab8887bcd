// Package track accepts connections and keeps account of the live ones.
//
// A [Group] holds what is open on behalf of one owner: the whole proxy, or one
// session below it. A [Listener] accepts into a Group, survives a shortage of
// descriptors, and where the Group is at its limit makes room by closing the
// connection that was idle for longest, or refuses the new one. An owner shuts down
// in this order:
//
//	ln.Close()           // nothing new
//	err := g.Wait(ctx)   // let what is open finish
//	g.CloseAll()         // cut the rest, refuse what still comes
//	g.Wait(context.Background()) // every handler has returned
//
// The package knows nothing of HTTP, SOCKS or policy.
package track
