package sandbox_test

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"dnsproxy/internal/sandbox"
)

// judge runs the filter on one call in x/net's BPF machine, and returns the action. That
// machine loads big endian words, so the call is laid out in those.
func judge(t *testing.T, arch uint32, nr uintptr, args [6]uint32) uint32 {
	t.Helper()
	program, _ := sandbox.Program()
	raw := make([]bpf.RawInstruction, len(program))
	for i, in := range program {
		raw[i] = bpf.RawInstruction{Op: in.Code, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	instructions, all := bpf.Disassemble(raw)
	if !all {
		t.Fatal("the filter has instructions that x/net does not know")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	call := make([]byte, 64) // struct seccomp_data
	binary.BigEndian.PutUint32(call[0:], uint32(nr))
	binary.BigEndian.PutUint32(call[4:], arch)
	for i, arg := range args {
		binary.BigEndian.PutUint32(call[16+8*i:], arg)
	}
	action, err := vm.Run(call)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(action)
}

const deny = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)

func TestFilterAllowsTheList(t *testing.T) {
	_, arch := sandbox.Program()
	for _, call := range sandbox.AllowedCalls() {
		if got := judge(t, arch, call.Nr, call.Allowed); got != unix.SECCOMP_RET_ALLOW {
			t.Errorf("%s: got action %#x, want allow", call.Name, got)
		}
		all := [6]uint32{^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0)}
		want := uint32(unix.SECCOMP_RET_ALLOW)
		if call.Checked {
			want = deny // no row takes every bit
		}
		if got := judge(t, arch, call.Nr, all); got != want {
			t.Errorf("%s with all bits set: got action %#x, want %#x", call.Name, got, want)
		}
	}
}

// TestFilterDeniesTheRest walks through every number of today's kernels and beyond.
func TestFilterDeniesTheRest(t *testing.T) {
	_, arch := sandbox.Program()
	want := map[uintptr]uint32{unix.SYS_CLONE3: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}
	for _, call := range sandbox.AllowedCalls() {
		want[call.Nr] = 0
	}
	for _, call := range sandbox.BannedCalls() {
		if _, twice := want[call.Nr]; twice {
			t.Errorf("%s is on two lists", call.Name)
		}
		want[call.Nr] = unix.SECCOMP_RET_KILL_PROCESS
	}
	for nr := range uintptr(600) {
		expected, listed := want[nr]
		if !listed {
			expected = deny
		}
		if got := judge(t, arch, nr, [6]uint32{}); expected != 0 && got != expected {
			t.Errorf("call %d: got action %#x, want %#x", nr, got, expected)
		}
	}
}

func TestFilterKillsForeignCalls(t *testing.T) {
	_, arch := sandbox.Program()
	for _, foreign := range []uint32{unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_AARCH64} {
		if foreign == arch {
			continue
		}
		if got := judge(t, foreign, unix.SYS_READ, [6]uint32{}); got != unix.SECCOMP_RET_KILL_PROCESS {
			t.Errorf("architecture %#x: got action %#x, want the process killed", foreign, got)
		}
	}
	if arch != unix.AUDIT_ARCH_X86_64 {
		return
	}
	if got := judge(t, arch, unix.SYS_READ|0x40000000, [6]uint32{}); got != unix.SECCOMP_RET_KILL_PROCESS {
		t.Errorf("x32: got action %#x, want the process killed", got)
	}
}

func TestEveryRowHasItsReason(t *testing.T) {
	seen := map[uintptr]string{}
	for _, call := range append(sandbox.AllowedCalls(), sandbox.BannedCalls()...) {
		if call.Why == "" {
			t.Errorf("%s has no reason", call.Name)
		}
		if other, twice := seen[call.Nr]; twice {
			t.Errorf("%s and %s have one number", call.Name, other)
		}
		seen[call.Nr] = call.Name
	}
}
