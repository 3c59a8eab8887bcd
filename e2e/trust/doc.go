// Package trust has end-to-end tests of internal/trust and internal/ca: real clients verify certificates with the files and the
// variables of a session. It has tests only. It needs the clients, but no root, and connects to loopback only:
//
//	go test -tags=e2e ./e2e/trust
package trust
