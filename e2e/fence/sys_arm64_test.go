//go:build e2e && linux

package fence

const (
	sysRequestKey     = 218
	sysProcessVMReadv = 270
	sysSendmmsg       = 269
	sysSetns          = 268
	sysRecvmmsg       = 243
	sysMQTimedSend    = 182
	sysSemget         = 190
	sysSemctl         = 191
	sysPrlimit64      = 261
	sysSeccomp        = 277
)
