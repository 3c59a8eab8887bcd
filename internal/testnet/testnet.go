// Package testnet provides a network for tests: resolvers with scripted answers, small origin servers (some of them
// faulty), a dialer that redirects public addresses to loopback, and checks for leaked goroutines and descriptors. All
// traffic stays on loopback. Only tests import it.
package testnet
