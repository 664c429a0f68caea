package sandbox

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

func archRules() []rule {
	return []rule{
		{"mmap", unix.SYS_MMAP, "the runtime and the cache take memory", []check{notExecutable, anonymous}},
		{"fcntl", unix.SYS_FCNTL, "package net prepares descriptors", []check{descriptorFlags}},
		{"fstat", unix.SYS_FSTAT, "the size of a file about to be read", nil},
		{"newfstatat", unix.SYS_NEWFSTATAT, "whether a configured path is a file, a directory or a link", nil},
	}
}
