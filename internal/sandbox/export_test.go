package sandbox

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// SealTrapping is Seal, except that a call on no list raises SIGSYS, whose crash names
// it, where Seal lets it fail; and that nothing forbidden is attempted.
func SealTrapping(p Policy, m Mode) (Report, error) { return seal(p, m, denyTrap) }

// Call is a row of one of the lists.
type Call struct {
	Name, Why string
	Nr        uintptr
	Allowed   [6]uint32 // arguments that satisfy the row
	Checked   bool
}

// AllowedCalls is the list of this architecture.
func AllowedCalls() []Call {
	var calls []Call
	for _, r := range rulesHere() {
		c := Call{Name: r.name, Why: r.why, Nr: r.nr, Checked: len(r.where) > 0}
		for _, w := range r.where {
			c.Allowed[w.arg] = w.values[0]
		}
		calls = append(calls, c)
	}
	return calls
}

// BannedCalls is the list of what ends the process.
func BannedCalls() []Call {
	var calls []Call
	for _, r := range refusals() {
		if r.action == unix.SECCOMP_RET_KILL_PROCESS {
			calls = append(calls, Call{Name: r.name, Why: r.why, Nr: r.nr})
		}
	}
	return calls
}

// Program is the filter that Seal loads, and the architecture it is for.
func Program() ([]unix.SockFilter, uint32) {
	return assemble(auditArch, rulesHere(), refusals(), denyErrno), auditArch
}

// FailCalls makes calls fail with errno on every thread, as a container's or the service
// manager's filter does.
func FailCalls(errno unix.Errno, nrs ...uintptr) error {
	f := filter{}
	f.load(offNr)
	for i, nr := range nrs {
		f.jump(unix.BPF_JEQ, uint32(nr), len(nrs)-i, 0)
	}
	f.ret(unix.SECCOMP_RET_ALLOW)
	f.ret(unix.SECCOMP_RET_ERRNO | uint32(errno))
	if err := prctlAllThreads(unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return err
	}
	return loadFilter(f)
}

// FilterThisThread gives the calling thread alone a filter, which allows everything.
func FilterThisThread() error {
	f := filter{}
	f.ret(unix.SECCOMP_RET_ALLOW)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	return nil
}

// LandlockABI and LandlockGaps are what the survey asks.
func LandlockABI() (int, error) { return landlockABI() }

func LandlockGaps(abi int, err error) []Gap { return landlockGaps(abi, err) }

func CheckStatus(status []byte, r Report) error { return checkStatus(status, r) }
