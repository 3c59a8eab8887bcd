// Package rules has end-to-end tests of internal/httprule: nginx reads the paths that rules allow, and git and Git LFS send the
// requests that only read. It has tests only. It needs these programs, but no root, and connects to loopback only:
//
//	go test -tags=e2e ./e2e/rules
package rules
