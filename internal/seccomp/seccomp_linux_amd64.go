package seccomp

const sysSeccomp = 317
