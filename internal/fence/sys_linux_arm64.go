package fence

const (
	sysSetns          = 268
	sysProcessVMReadv = 270
	sysRecvmmsg       = 243
)
