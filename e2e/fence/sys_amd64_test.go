//go:build e2e && linux

package fence

const (
	sysRequestKey     = 249
	sysProcessVMReadv = 310
	sysSendmmsg       = 307
	sysSetns          = 308
	sysRecvmmsg       = 299
	sysMQTimedSend    = 242
	sysSemget         = 64
	sysSemctl         = 66
	sysPrlimit64      = 302
	sysSeccomp        = 317
)
