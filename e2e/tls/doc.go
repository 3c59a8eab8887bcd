// Package tls is the end-to-end test suite of TLS inspection. It runs the networkproxy
// program with real clients and with origin servers that log every request. It has tests
// only.
//
// The suite needs Linux and root, and so has a build tag. It runs in a network namespace
// whose loopback device has the public addresses of the origin servers. Host names end in
// .test. Most tests use host names of their own, so that the log of the origin servers
// shows which requests a test has caused.
package tls
