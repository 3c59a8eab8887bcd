#include "textflag.h"

// Offsets in struct step.
#define step_call     0(R12)
#define step_arg0     8(R12)
#define step_arg1     16(R12)
#define step_arg2     24(R12)
#define step_arg3     32(R12)
#define step_arg4     40(R12)
#define step_arg5     48(R12)
#define step_from     56(R12)
#define step_result   64(R12)
#define step_optional 72(R12)
#define step_size     80

#define SYS_clone      56
#define SYS_exit_group 231

// func clone(flags, stack uintptr, first *step) uintptr
TEXT ·clone(SB), NOSPLIT, $0-32
	MOVQ flags+0(FP), DI
	MOVQ stack+8(FP), SI
	MOVQ first+16(FP), R12 // a call keeps all registers but AX, CX and R11
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	MOVL $SYS_clone, AX
	SYSCALL
	TESTQ AX, AX
	JEQ  run
	MOVQ AX, ret+24(FP)
	RET

	// The new process. It must not use the stack.
run:
	MOVQ step_call, AX
	MOVQ step_arg0, DI
	MOVQ step_arg1, SI
	MOVQ step_arg2, DX
	MOVQ step_arg3, R10
	MOVQ step_arg4, R8
	MOVQ step_arg5, R9
	MOVQ step_from, BX
	TESTQ BX, BX
	JEQ  call
	MOVQ (BX), DI
call:
	SYSCALL
	MOVQ AX, step_result
	CMPQ AX, $-4096
	JLS  next // no error
	CMPQ step_optional, $0
	JEQ  failed
next:
	ADDQ $step_size, R12
	JMP  run
failed:
	MOVL $1, DI
	MOVL $SYS_exit_group, AX
	SYSCALL
	JMP  failed
