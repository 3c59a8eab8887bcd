// Package landlock keeps a thread, and the programs that it starts, from reaching unix sockets
// and processes that do not belong to them. See landlock(7).
package landlock
