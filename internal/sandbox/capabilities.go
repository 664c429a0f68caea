package sandbox

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// lockedSecurebits is every bit of capabilities(7), "The securebits flags", with its
// lock, except SECBIT_KEEP_CAPS itself, of which only the lock is set: user ID 0
// means nothing, changes of user ID give nothing, and nothing can be made ambient.
const lockedSecurebits = 0xEF

// capabilities is the state of one thread in the layout of capget(2), version 3.
type capabilities [2]unix.CapUserData

// dropCapabilities empties every capability set of every thread. The order is
// forced: dropping from the bounding set and setting the securebits need
// CAP_SETPCAP, so the set that holds it goes last. It reports whether the bounding
// set is empty too, which an unprivileged process cannot arrange: under
// no_new_privs nothing can be regained from it.
func dropCapabilities() (bounding bool, err error) {
	held, err := capget()
	if err != nil {
		return false, err
	}
	if held[0].Effective&(1<<unix.CAP_SETPCAP) != 0 {
		if err := dropBoundingSet(); err != nil {
			return false, err
		}
		if err := prctlAllThreads(unix.PR_SET_SECUREBITS, lockedSecurebits, 0); err != nil {
			return false, fmt.Errorf("locking the securebits: %w", err)
		}
	}
	if held == (capabilities{}) {
		// Ambient is a subset of permitted and so is empty too. The call below
		// would change nothing, and systemd's ~@privileged denies it.
		return boundingSetEmpty(), nil
	}
	if err := prctlAllThreads(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return false, fmt.Errorf("clearing the ambient set: %w", err)
	}
	if err := capsetAllThreads(capabilities{}); err != nil {
		return false, err
	}
	return boundingSetEmpty(), nil
}

// capget reads the calling thread's sets; all threads of a Go process share them
// unless someone went to lengths.
func capget() (capabilities, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var held capabilities
	if err := unix.Capget(&header, &held[0]); err != nil {
		return held, fmt.Errorf("reading the capabilities: %w", err)
	}
	return held, nil
}

func capsetAllThreads(want capabilities) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	_, _, errno := psx.Syscall3(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&want[0])), 0)
	if errno != 0 {
		return fmt.Errorf("emptying the capability sets: %w", errno)
	}
	return nil
}

func dropBoundingSet() error {
	for capability := uintptr(0); ; capability++ {
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, capability, 0, 0, 0)
		if err == unix.EINVAL { // beyond the last one that this kernel knows
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the bounding set: %w", err)
		}
		if in == 0 {
			continue
		}
		if err := prctlAllThreads(unix.PR_CAPBSET_DROP, capability, 0); err != nil {
			return fmt.Errorf("dropping capability %d from the bounding set: %w", capability, err)
		}
	}
}

func boundingSetEmpty() bool {
	for capability := uintptr(0); ; capability++ {
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, capability, 0, 0, 0)
		if err != nil {
			return err == unix.EINVAL
		}
		if in != 0 {
			return false
		}
	}
}

// prctlAllThreads runs prctl(2) on every thread of the process: these attributes
// belong to threads, and Go moves goroutines among them at will.
func prctlAllThreads(option, arg2, arg3 uintptr) error {
	_, _, errno := psx.Syscall6(unix.SYS_PRCTL, option, arg2, arg3, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
