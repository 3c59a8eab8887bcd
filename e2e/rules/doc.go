// Package rules has end-to-end tests of internal/httprule. They check that nginx reads a path as the rules do, and that the rules
// recognise the requests with which git and Git LFS fetch and push. It has tests only. It needs these programs, but no root. It
// connects to loopback only:
//
//	go test -tags=e2e ./e2e/rules
package rules
