module example.com/networkproxy

// The oldest release of Go that is still supported.
go 1.26.0

// Programs that import this module get at least these versions. Each is the
// lowest that passes the tests; .ci/run checks it, and tests the newest as well.
require (
	github.com/pelletier/go-toml/v2 v2.4.3 // v2.4.2 overflows the stack on deeply nested arrays, which ends the process
	github.com/things-go/go-socks5 v0.1.1
	golang.org/x/net v0.57.0 // v0.56.0 accepts xn--localhost- as another spelling of localhost (CVE-2026-39821)
	golang.org/x/sync v0.22.0 // required by x/text
)

require golang.org/x/text v0.40.0 // indirect; required by x/net
