//go:build cgo

package sandbox

import "golang.org/x/sys/unix"

// linkageRules are for builds that are linked with the C library: the race detector's,
// and those of "go run" where a C compiler is installed. What is shipped is not.
func linkageRules() []rule {
	return []rule{
		{"set_robust_list", unix.SYS_SET_ROBUST_LIST, "glibc registers each new thread's locks", nil},
		{"rseq", unix.SYS_RSEQ, "glibc registers each new thread's restartable sequences", nil},
	}
}
