package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data, linux/seccomp.h. The filter reads 32-bit words of
// the host's byte order; every port of this table is little endian.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16 // six words of 64 bits, the low half first
)

// x32Bit marks the system calls of amd64's x32 ABI. They carry the same architecture
// and other numbers, so a filter that does not look can be walked around.
const x32Bit = 0x40000000

// maxInstructions is BPF_MAXINSNS of linux/bpf_common.h.
const maxInstructions = 4096

// What becomes of a call that no row allows.
const (
	denyErrno = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	denyTrap  = unix.SECCOMP_RET_TRAP // SIGSYS: for tests, which then name the call
)

// rule is a row of the list: a system call that may be made.
type rule struct {
	name  string
	nr    uintptr
	why   string
	where []check // all must hold; none: whatever the arguments
}

// check holds if arg's low 32 bits, masked, are one of the values. The kernel takes
// each argument checked here as an int, or keeps the masked bits in the low half.
type check struct {
	arg    uint32
	mask   uint32
	values []uint32
}

// refusal is a system call that meets something harsher, or gentler, than the default.
type refusal struct {
	name   string
	nr     uintptr
	why    string
	action uint32 // SECCOMP_RET_...
}

// filter is a BPF program for seccomp(2) under construction.
type filter []unix.SockFilter

func (f *filter) load(offset uint32) {
	*f = append(*f, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset})
}

func (f *filter) and(mask uint32) {
	*f = append(*f, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask})
}

func (f *filter) ret(action uint32) {
	*f = append(*f, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action})
}

// jump compares the accumulator with k and skips so many instructions.
func (f *filter) jump(op uint16, k uint32, ifTrue, ifFalse int) {
	if ifTrue > 255 || ifFalse > 255 {
		panic("sandbox: internal error: the filter outgrew its jumps")
	}
	*f = append(*f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | op, K: k, Jt: uint8(ifTrue), Jf: uint8(ifFalse)})
}

// assemble makes the program. The head refuses what is not this architecture, the rows
// with checks come first (the kernel caches the verdict on those without, so their
// place costs nothing), and deny is what happens to all that is on no list.
func assemble(arch uint32, rules []rule, refusals []refusal, deny uint32) []unix.SockFilter {
	var f filter
	f.load(offArch)
	f.jump(unix.BPF_JEQ, arch, 1, 0)
	f.ret(unix.SECCOMP_RET_KILL_PROCESS)
	f.load(offNr)
	if arch == unix.AUDIT_ARCH_X86_64 {
		f.jump(unix.BPF_JGE, x32Bit, 0, 1)
		f.ret(unix.SECCOMP_RET_KILL_PROCESS)
	}
	var plain []uintptr
	for _, r := range rules {
		if len(r.where) == 0 {
			plain = append(plain, r.nr)
			continue
		}
		block := checked(r.where, deny)
		f.jump(unix.BPF_JEQ, uint32(r.nr), 0, len(block))
		f = append(f, block...)
	}
	for _, r := range refusals {
		f.jump(unix.BPF_JEQ, uint32(r.nr), 0, 1)
		f.ret(r.action)
	}
	for i, nr := range plain {
		f.jump(unix.BPF_JEQ, uint32(nr), len(plain)-i, 0) // to the last instruction
	}
	f.ret(deny)
	f.ret(unix.SECCOMP_RET_ALLOW)
	return f
}

// checked is the part of the program that judges one call by its arguments; it always
// returns, so the accumulator need not hold the number again.
func checked(where []check, deny uint32) []unix.SockFilter {
	var f filter
	for _, c := range where {
		f.load(offArgs + 8*c.arg)
		if c.mask != ^uint32(0) {
			f.and(c.mask)
		}
		for i, value := range c.values {
			f.jump(unix.BPF_JEQ, value, len(c.values)-i, 0)
		}
		f.ret(deny)
	}
	f.ret(unix.SECCOMP_RET_ALLOW)
	return f
}

// seccompGap says what stands in the way of a filter, before anything is changed.
func seccompGap() (Gap, bool) {
	if auditArch == 0 {
		return Gap{PartSeccomp, "no list of system calls for " + runtime.GOARCH, "run on amd64, arm64 or arm"}, true
	}
	action := uint32(unix.SECCOMP_RET_KILL_PROCESS)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	switch errno {
	case 0:
		return Gap{}, false
	case unix.EPERM, unix.EACCES:
		return Gap{PartSeccomp, "a system call filter denies seccomp", "allow the seccomp system call in the unit or the container"}, true
	default:
		return Gap{PartSeccomp, fmt.Sprintf("asking the kernel for seccomp: %v", errno), "run Linux 4.14 or later, built with CONFIG_SECCOMP_FILTER"}, true
	}
}

// loadFilter puts the program on every thread, or on none.
func loadFilter(program []unix.SockFilter) error {
	if len(program) > maxInstructions {
		panic("sandbox: internal error: the filter is longer than the kernel takes")
	}
	// The thread that asks must hold no_new_privs and stay the same one.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	const flags = unix.SECCOMP_FILTER_FLAG_TSYNC
	r1, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("loading the system call filter: %w", errno)
	}
	if r1 != 0 { // seccomp(2): the ID of a thread that could not be synchronised, and errno untouched
		return fmt.Errorf("loading the system call filter: thread %d has a filter of its own", r1)
	}
	return nil
}

// rulesHere is the list for this architecture and this process, without the refusals.
func rulesHere() []rule {
	rules := append(commonRules(uint32(os.Getpid())), archRules()...)
	return append(rules, linkageRules()...)
}
