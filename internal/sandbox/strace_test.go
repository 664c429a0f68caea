//go:build strace

package sandbox_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dnsproxy/internal/sandbox"
)

// TestListIsWhatIsTraced derives the list anew: the child does under strace(1) all that a
// sealed daemon does, with a filter that traps, and what strace saw after the seal must
// be on the list. What is on the list and was not seen is logged, for a reader to judge:
// some rows are for other kernels (a vDSO that cannot tell the time) or for crashes.
func TestListIsWhatIsTraced(t *testing.T) {
	tracer, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("this test needs strace: %v", err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	h := newHost(t, false)
	h.order.Trap = true
	list := h.run(func(cmd *exec.Cmd) {
		cmd.Args = []string{tracer, "-f", "-qq", "-e", "signal=none", "-o", trace, cmd.Path}
		cmd.Path = tracer
	})
	requireSealed(t, list)
	for _, r := range list {
		if r.Err != "" {
			t.Errorf("%s: %s", r.Act, r.Err)
		}
	}
	h.end()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	before, after, sealed := strings.Cut(string(text), "seccomp(SECCOMP_SET_MODE_FILTER")
	if !sealed {
		t.Fatalf("no seal in the trace of %d bytes", len(before))
	}
	_, after, _ = strings.Cut(after, "\n")

	var listed, seen []string
	for _, call := range sandbox.AllowedCalls() {
		listed = append(listed, call.Name)
	}
	for _, match := range regexp.MustCompile(`(?m)^\d+ +(\w+)\(`).FindAllStringSubmatch(after, -1) {
		if name := match[1]; !slices.Contains(seen, name) {
			seen = append(seen, name)
		}
	}
	slices.Sort(seen)
	for _, name := range seen {
		if !slices.Contains(listed, name) {
			t.Errorf("seen and not on the list: %s", name)
		}
	}
	t.Logf("%d seen: %s", len(seen), strings.Join(seen, " "))
	unseen := slices.DeleteFunc(slices.Clone(listed), func(name string) bool { return slices.Contains(seen, name) })
	t.Logf("%d on the list and not seen here: %s", len(unseen), strings.Join(unseen, " "))
}
