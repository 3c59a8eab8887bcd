#include "textflag.h"

// Offsets in struct step.
#define step_call     0(R19)
#define step_arg0     8(R19)
#define step_arg1     16(R19)
#define step_arg2     24(R19)
#define step_arg3     32(R19)
#define step_arg4     40(R19)
#define step_arg5     48(R19)
#define step_from     56(R19)
#define step_result   64(R19)
#define step_optional 72(R19)
#define step_size     80

#define SYS_clone      220
#define SYS_exit_group 94

// func clone(flags, stack uintptr, first *step) uintptr
TEXT ·clone(SB), NOSPLIT, $0-32
	MOVD flags+0(FP), R0
	MOVD stack+8(FP), R1
	MOVD first+16(FP), R19 // a call keeps all registers but R0
	MOVD ZR, R2
	MOVD ZR, R3
	MOVD ZR, R4
	MOVD $SYS_clone, R8
	SVC
	CBZ  R0, run
	MOVD R0, ret+24(FP)
	RET

	// The new process. It must not use the stack.
run:
	MOVD step_call, R8
	MOVD step_arg0, R0
	MOVD step_arg1, R1
	MOVD step_arg2, R2
	MOVD step_arg3, R3
	MOVD step_arg4, R4
	MOVD step_arg5, R5
	MOVD step_from, R9
	CBZ  R9, call
	MOVD (R9), R0
call:
	SVC
	MOVD R0, step_result
	CMN  $4095, R0
	BCC  next // no error
	MOVD step_optional, R9
	CBZ  R9, failed
next:
	ADD  $step_size, R19
	B    run
failed:
	MOVD $1, R0
	MOVD $SYS_exit_group, R8
	SVC
	B    failed
