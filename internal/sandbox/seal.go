package sandbox

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Seal confines the process, on all its threads and on those to come, to p; there is
// no way back. Then it attempts what must fail, and the Report says what holds.
//
// The order is the one that works: each step takes away what an earlier one needs. The
// first, dropping capabilities, needs a capability; landlock needs no_new_privs; the
// system call filter denies all the other steps.
//
// With [Required] a part that the kernel cannot enforce is an error, and nothing is
// changed where that can be known beforehand. After any other error the process is
// half sealed: the caller must exit.
func Seal(p Policy, m Mode) (Report, error) {
	return seal(p, m, denial)
}

// seal is Seal with a choice of what becomes of calls that no rule allows.
func seal(p Policy, m Mode, deny uint32) (Report, error) {
	switch m {
	case Off:
		return Report{Mode: Off}, nil
	case Required, BestEffort:
	default:
		return Report{}, fmt.Errorf("sealing: unknown mode %q", m)
	}
	s := sealing{policy: p, report: Report{Mode: m}}
	s.survey()
	if err := s.verdict(); err != nil {
		return s.report, err
	}
	warm()
	witness, err := newWitness(p)
	if err != nil {
		return s.report, fmt.Errorf("sealing: %w", err)
	}
	defer witness.close()

	s.step(PartCapabilities, s.capabilities)
	s.step(PartNoNewPrivs, s.noNewPrivs)
	s.step(PartFiles, s.landlock)
	s.step(PartDumpable, s.undumpable)
	s.step(PartSeccomp, func() error { return s.seccomp(deny) })
	if deny == denyErrno { // a trap would end the attempts at the first
		s.step(PartVerification, func() error { return witness.verify(&s.report) })
	}
	return s.report, s.verdict()
}

// sealing is one call of Seal under way.
type sealing struct {
	policy Policy
	report Report
}

// survey notes what the kernel cannot do, before anything is changed.
func (s *sealing) survey() {
	abi, err := landlockABI()
	s.report.LandlockABI = abi
	s.report.Gaps = append(s.report.Gaps, landlockGaps(abi, err)...)
	if gap, found := seccompGap(); found {
		s.report.Gaps = append(s.report.Gaps, gap)
	}
}

// step runs f unless its part is known to be missing. A failure becomes a gap.
func (s *sealing) step(part Part, f func() error) {
	if s.lacks(part) {
		return
	}
	if err := f(); err != nil {
		s.report.Gaps = append(s.report.Gaps, Gap{Part: part, Reason: err.Error()})
	}
}

func (s *sealing) lacks(part Part) bool {
	for _, gap := range s.report.Gaps {
		if gap.Part == part {
			return true
		}
	}
	return false
}

// verdict is the error that the gaps so far make in this mode. Scopes stand above what
// is required: what they keep in, signals, the system call filter keeps in as well, and
// every unix socket is closed to be made.
func (s *sealing) verdict() error {
	if s.report.Mode != Required {
		return nil
	}
	var faults []string
	for _, gap := range s.report.Gaps {
		if gap.Part == PartScopes {
			continue
		}
		fault := gap.String()
		if gap.Remedy != "" {
			fault += " (" + gap.Remedy + ")"
		}
		faults = append(faults, fault)
	}
	if len(faults) == 0 {
		return nil
	}
	return errors.New("sealing as required: " + strings.Join(faults, "; ") +
		`; or set sandbox = "best-effort" to run without`)
}

func (s *sealing) capabilities() (err error) {
	s.report.BoundingSet, err = dropCapabilities()
	s.report.Capabilities = err == nil
	return err
}

func (s *sealing) noNewPrivs() error {
	if err := prctlAllThreads(unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	s.report.NoNewPrivs = true
	return nil
}

func (s *sealing) landlock() error {
	if err := restrictLandlock(s.policy); err != nil {
		return err
	}
	s.report.Files = s.report.LandlockABI >= abiFiles
	s.report.Connect = s.report.LandlockABI >= abiConnect
	s.report.Scopes = s.report.LandlockABI >= abiScopes
	return nil
}

func (s *sealing) undumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("turning core files off: %w", err)
	}
	s.report.Undumpable = true
	return nil
}

func (s *sealing) seccomp(deny uint32) error {
	rules := rulesHere()
	program := assemble(auditArch, rules, refusals(), deny)
	if err := loadFilter(program); err != nil {
		return err
	}
	s.report.Seccomp, s.report.Syscalls, s.report.Instructions = true, len(rules), len(program)
	return nil
}

// warm makes the runtime and the standard library do now what they do once, at first
// use, with calls and files that are about to be denied.
func warm() {
	time.NewTimer(time.Hour).Stop()  // the runtime's poller: epoll_create1, eventfd2
	_, _ = time.Now().Local().Zone() // /etc/localtime, for the log's times
}
