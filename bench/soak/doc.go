// Package soak is a long-running test for leaks. It runs a proxy in this process and
// sends thousands of requests a second of all kinds over loopback, including faulty
// ones. It samples memory, goroutines and descriptors, and fails if one of them
// grows. It measures no speed.
//
//	go test -tags=soak -timeout=0 -v -run=TestSoak ./bench/soak -for=10m
package soak
