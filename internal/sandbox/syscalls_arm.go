package sandbox

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_ARM

// archRules: 32-bit ARM has the older call and one with 64-bit sizes or times; Go's
// runtime tries the newer first and falls back (runtime/sys_linux_arm.s).
func archRules() []rule {
	return []rule{
		{"mmap2", unix.SYS_MMAP2, "the runtime and the cache take memory", []check{notExecutable, anonymous}},
		{"fcntl64", unix.SYS_FCNTL64, "package net prepares descriptors", []check{descriptorFlags}},
		{"fcntl", unix.SYS_FCNTL, "the runtime's own, of the first three descriptors", []check{descriptorFlags}},
		{"fstat64", unix.SYS_FSTAT64, "the size of a file about to be read", nil},
		{"fstatat64", unix.SYS_FSTATAT64, "whether a configured path is a file, a directory or a link", nil},
		{"futex_time64", unix.SYS_FUTEX_TIME64, "futex on kernels from 5.1", nil},
		{"clock_gettime64", unix.SYS_CLOCK_GETTIME64, "clock_gettime on kernels from 5.1", nil},
		{"recvmmsg_time64", unix.SYS_RECVMMSG_TIME64, "recvmmsg on kernels from 5.1", nil},
	}
}
