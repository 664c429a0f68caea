package sandbox

import (
	"fmt"
	"strings"
)

// Part names one of the things that Seal does.
type Part string

// The parts, in the order in which they are sealed.
const (
	PartCapabilities Part = "capabilities"
	PartNoNewPrivs   Part = "no_new_privs"
	PartFiles        Part = "landlock files"
	PartConnect      Part = "landlock tcp connect"
	PartScopes       Part = "landlock scopes"
	PartDumpable     Part = "dumpable"
	PartSeccomp      Part = "seccomp"
	PartVerification Part = "verification"
)

// Gap is a part that is not enforced.
type Gap struct {
	Part   Part
	Reason string // what stands in the way
	Remedy string // what the administrator can do; empty if nothing
}

// String renders the gap as "part: reason".
func (g Gap) String() string { return string(g.Part) + ": " + g.Reason }

// Report is what is enforced, as verified on the sealed process. The zero Report
// says that nothing is.
type Report struct {
	Mode Mode

	Capabilities bool // permitted, effective, inheritable and ambient are empty on every thread
	BoundingSet  bool // so is the bounding set; void in any case once NoNewPrivs holds
	NoNewPrivs   bool // no execve can gain a privilege, on every thread
	Undumpable   bool // no core file, and no other process of the same user may look inside

	LandlockABI int  // what the kernel offers, 0 if nothing
	Files       bool // reading is confined to the policy's directories, writing to nothing
	Connect     bool // TCP connect is confined to the policy's ports, TCP bind is gone
	Scopes      bool // no signal and no abstract unix socket outside the process

	Seccomp      bool // calls are confined to the allow-list, on every thread
	Syscalls     int  // rows of the allow-list
	Instructions int  // of the BPF program

	Threads int // threads whose state was read back from /proc
	Gaps    []Gap
}

// Complete reports whether every part is enforced.
func (r Report) Complete() bool { return r.Mode != Off && r.Mode != "" && len(r.Gaps) == 0 }

// String renders the report as one line for the journal, such as
//
//	landlock abi 7 (files, tcp connect, scopes), seccomp on (62 syscalls), capabilities none, no_new_privs
//
// followed, after a semicolon, by what is missing and why.
func (r Report) String() string {
	if r.Mode == Off || r.Mode == "" {
		return "off"
	}
	parts := []string{r.landlock(), "seccomp off", "capabilities kept"}
	if r.Seccomp {
		parts[1] = fmt.Sprintf("seccomp on (%d syscalls)", r.Syscalls)
	}
	if r.Capabilities {
		parts[2] = "capabilities none"
	}
	if r.NoNewPrivs {
		parts = append(parts, "no_new_privs")
	}
	line := strings.Join(parts, ", ")
	if len(r.Gaps) == 0 {
		return line
	}
	missing := make([]string, len(r.Gaps))
	for i, gap := range r.Gaps {
		missing[i] = gap.String()
	}
	return line + "; not enforced: " + strings.Join(missing, "; ")
}

func (r Report) landlock() string {
	var on []string
	if r.Files {
		on = append(on, "files")
	}
	if r.Connect {
		on = append(on, "tcp connect")
	}
	if r.Scopes {
		on = append(on, "scopes")
	}
	if len(on) == 0 {
		return "landlock off"
	}
	return fmt.Sprintf("landlock abi %d (%s)", r.LandlockABI, strings.Join(on, ", "))
}
