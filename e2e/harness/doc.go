// Package harness has what the end-to-end suites share: namespaces to run in, commands
// with limits, the program as a process, and servers for git and WebSocket. Only their
// tests use it.
package harness
