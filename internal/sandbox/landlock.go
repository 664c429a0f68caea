package sandbox

import (
	"errors"
	"fmt"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// The first ABI of the kernel's Landlock that can enforce each part, and the Linux
// release that brought it (landlock(7), "HISTORY").
const (
	abiFiles   = 1 // Linux 5.13
	abiConnect = 4 // Linux 6.7
	abiScopes  = 6 // Linux 6.12
)

// erratumSignalScope is the bit of the erratum by which a signal between two threads
// of one process crosses the scope when each thread was confined by itself. Without
// the fix the Go runtime could not preempt its own threads, so the scopes are left
// out (go-landlock then does the same).
const erratumSignalScope = 1 << 1

// landlockConfig is everything the kernel can take away, save one: UDP sends to
// chosen ports (ABI 10). That rule would also judge the answers that leave through
// the listeners, whose clients ask from any port. Binding a UDP socket is taken.
//
// Multipath TCP is outside the TCP rules of every ABI so far: seccomp closes it.
func landlockConfig() landlock.Config {
	all := landlock.V11
	all.HandledAccessNet = ll.AccessNetBindTCP | ll.AccessNetConnectTCP | ll.AccessNetBindUDP
	return all.BestEffort()
}

// landlockABI returns the ABI whose parts can be relied on, 0 and the reason if none.
func landlockABI() (int, error) {
	abi, err := ll.LandlockGetABIVersion()
	if err != nil {
		return 0, err
	}
	if abi < abiScopes {
		return abi, nil
	}
	if fixed, err := ll.LandlockGetErrata(); err != nil || fixed&erratumSignalScope == 0 {
		return abiScopes - 1, nil
	}
	return abi, nil
}

// landlockGaps says which parts the kernel cannot enforce.
func landlockGaps(abi int, err error) []Gap {
	if err != nil {
		gap := landlockAbsent(err)
		return []Gap{gap, {PartConnect, gap.Reason, gap.Remedy}, {PartScopes, gap.Reason, gap.Remedy}}
	}
	var gaps []Gap
	if abi < abiConnect {
		gaps = append(gaps, Gap{PartConnect, fmt.Sprintf("the kernel's landlock has abi %d, %d is needed", abi, abiConnect), "run Linux 6.7 or later"})
	}
	if abi < abiScopes {
		gaps = append(gaps, Gap{PartScopes, fmt.Sprintf("the kernel's landlock has abi %d, %d is needed", abi, abiScopes), "run Linux 6.12 or later, with its stable updates"})
	}
	return gaps
}

func landlockAbsent(err error) Gap {
	gap := Gap{Part: PartFiles}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		gap.Reason, gap.Remedy = "landlock is disabled at boot", `add "landlock" to the kernel's lsm= option`
	case errors.Is(err, unix.ENOSYS):
		gap.Reason, gap.Remedy = "the kernel has no landlock", "run Linux 5.13 or later, built with CONFIG_SECURITY_LANDLOCK"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		gap.Reason, gap.Remedy = "a system call filter denies landlock", "allow the landlock_* system calls in the unit or the container"
	default:
		gap.Reason = fmt.Sprintf("asking the kernel for landlock: %v", err)
	}
	return gap
}

// restrictLandlock confines every thread to p, as far as the kernel's ABI goes. From
// ABI 8 the kernel takes all threads in one step, before that each is confined in turn
// with the world stopped.
func restrictLandlock(p Policy) error {
	const read = ll.AccessFSReadFile | ll.AccessFSReadDir
	rules := []landlock.Rule{landlock.PathAccess(read, p.ReadDirs...)}
	for _, port := range p.ConnectPorts {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	if err := landlockConfig().Restrict(rules...); err != nil {
		return fmt.Errorf("restricting by landlock: %w", err)
	}
	return nil
}
