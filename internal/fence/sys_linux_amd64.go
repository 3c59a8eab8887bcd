package fence

const (
	sysSetns          = 308
	sysProcessVMReadv = 310
	sysRecvmmsg       = 299
)
