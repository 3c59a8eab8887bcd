package seccomp

const sysSeccomp = 277
