//go:build linux && (amd64 || arm64)

package fence

// System calls with the same number on all architectures, and constants that package
// syscall lacks.
const (
	sysPidfdSendSignal = 424
	sysIOUringSetup    = 425
	sysPidfdOpen       = 434
	sysOpenat2         = 437
	sysCloseRange      = 436
	sysPidfdGetfd      = 438
	sysMountSetattr    = 442

	ipTransparent       = 19
	ipRecvOrigDstAddr   = 20
	ipv6RecvOrigDstAddr = 74
	ipv6Transparent     = 75

	soDomain = 39
)
