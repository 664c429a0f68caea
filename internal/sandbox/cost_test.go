package sandbox_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dnsproxy/internal/sandbox"
)

// costCalls: the kernel caches the verdict on the first two; the arguments of the others
// are read by the filter each time.
var costCalls = []struct {
	name string
	do   func()
}{
	{"getpid", func() { unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0) }},
	{"gettid", func() { unix.RawSyscall(unix.SYS_GETTID, 0, 0, 0) }},
	{"fcntl", func() { unix.RawSyscall(unix.SYS_FCNTL, 0, unix.F_GETFL, 0) }},
	{"mprotect", func() { unix.RawSyscall(unix.SYS_MPROTECT, 0, 0, unix.PROT_READ) }},
}

// measure prints what calls cost before and after sealing: the best of many short rounds,
// since other work on the machine only adds.
func measure(seal func() sandbox.Report) {
	const rounds, calls = 64, 2048
	each := func() (cost [4]time.Duration) {
		for i, c := range costCalls {
			cost[i] = time.Hour
			for range rounds {
				start := time.Now()
				for range calls {
					c.do()
				}
				cost[i] = min(cost[i], time.Since(start))
			}
		}
		return cost
	}
	before := each()
	start := time.Now()
	r := seal()
	took := time.Since(start)
	after := each()
	fmt.Fprintf(os.Stderr, "sealing took %v, %d instructions\n", took, r.Instructions)
	for i, c := range costCalls {
		fmt.Fprintf(os.Stderr, "%-10s %4d ns before, %4d ns after\n", c.name, before[i]/calls, after[i]/calls)
	}
}

// TestCost logs what the seal costs; it judges nothing, machines differ.
func TestCost(t *testing.T) {
	_, figures, state := run(t, newOrder(t, "cost"))
	if !state.Success() {
		t.Fatalf("child: %v", state)
	}
	t.Log(figures)
}
