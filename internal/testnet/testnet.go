// Package testnet is the network that tests run on: resolvers that answer by script, small origins, faults, and a check
// that nothing is left behind. Everything stays on loopback. Only tests import it.
package testnet
