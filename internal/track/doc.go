// Package track accepts connections, counts the open ones and closes them at
// shutdown.
//
// A [Group] is the set of open connections of one owner: the whole proxy, or
// one session below it. A [Listener] accepts into a Group. It waits out a
// shortage of file descriptors. If the Group is at its limit, the Listener
// closes the connection that has been idle longest, or refuses the new one.
//
// The package is not a server: it parses nothing, and knows no HTTP, SOCKS or
// policy. It never wraps a connection, so that splice keeps working.
//
// All types are safe for concurrent use. Every connection has one goroutine;
// [Group.Wait] waits until all of them have returned. An owner shuts down in
// this order:
//
//	ln.Close()                   // accept no new connections
//	err := g.Wait(ctx)           // let open connections finish
//	g.CloseAll()                 // close the rest, refuse later ones
//	g.Wait(context.Background()) // every handler has returned
package track
