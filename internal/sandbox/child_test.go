package sandbox_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dnsproxy/internal/sandbox"
)

// Sealing cannot be undone, so each test seals a process of its own: this test binary,
// started again with an order in its environment.

// envOrder holds the order, in JSON.
const envOrder = "DNSPROXY_SANDBOX_TEST_ORDER"

// order is what a child is to do.
type order struct {
	Scenario string
	Policy   sandbox.Policy
	Mode     sandbox.Mode
	Trap     bool   // calls on no list raise SIGSYS
	Act      string // for scenarios that do one thing

	Port         int    // of the test's TLS upstream
	ConfigFile   string // replaced by renaming
	CAFile       string // reached through a symbolic link
	NotifySocket string
	FailCalls    map[int][]uintptr // errno: system calls that fail from the start
}

// result is what a child reports, one JSON line each.
type result struct {
	Act    string
	Thread string          `json:",omitempty"`
	Pid    int             `json:",omitempty"` // of a child that asks for something
	Errno  syscall.Errno   `json:",omitempty"`
	Err    string          `json:",omitempty"`
	Report *sandbox.Report `json:",omitempty"`
	Line   string          `json:",omitempty"`
}

var scenarios = map[string]func(order){
	"seal":      func(o order) { o.seal() },
	"forbidden": forbidden,
	"banned":    banned,
	"needed":    needed,
	"diverged":  diverged,
	"panic":     func(o order) { o.seal(); panicDeep(5) },
	"abort":     func(o order) { o.seal(); waitForSignal() },
	"cost":      func(o order) { measure(o.seal) },
}

func TestMain(m *testing.M) {
	text, child := os.LookupEnv(envOrder)
	if !child {
		os.Exit(m.Run())
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fatal("reading the order: %v", err)
	}
	for errno, nrs := range o.FailCalls {
		if err := sandbox.FailCalls(syscall.Errno(errno), nrs...); err != nil {
			fatal("making calls fail: %v", err)
		}
	}
	scenarios[o.Scenario](o)
	os.Exit(0)
}

// seal seals the child as ordered and reports how that went.
func (o order) seal() sandbox.Report {
	f := sandbox.Seal
	if o.Trap {
		f = sandbox.SealTrapping
	}
	report, err := f(o.Policy, o.Mode)
	r := result{Act: "seal", Report: &report, Line: report.String()}
	if err != nil {
		r.Err = err.Error()
	}
	r.emit()
	if err != nil {
		os.Exit(3)
	}
	return report
}

func (r result) emit() {
	line, err := json.Marshal(r)
	if err != nil {
		fatal("reporting: %v", err)
	}
	os.Stdout.Write(append(line, '\n'))
}

// ask has the test do something.
func ask(what string) { result{Act: "ask: " + what, Pid: os.Getpid()}.emit() }

// report is a result of one act.
func report(act, thread string, err error) {
	r := result{Act: act, Thread: thread}
	if err != nil {
		r.Err = err.Error()
		if errno, ok := err.(syscall.Errno); ok {
			r.Errno = errno
		}
	}
	r.emit()
}

func fatal(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(4)
}

// command is this binary, told to obey o.
func command(t *testing.T, o order) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), envOrder+"="+string(text), "GORACE=atexit_sleep_ms=0")
	return cmd
}

// run obeys o to the end and returns what it reported, its other output and its state.
func run(t *testing.T, o order, change ...func(*exec.Cmd)) ([]result, string, *os.ProcessState) {
	t.Helper()
	cmd := command(t, o)
	for _, f := range change {
		f(cmd)
	}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return results(t, stdout.String()), stderr.String(), cmd.ProcessState
}

func results(t *testing.T, stdout string) []result {
	t.Helper()
	var list []result
	for line := range strings.Lines(stdout) {
		var r result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("child said %q", line)
		}
		list = append(list, r)
	}
	return list
}

// newOrder is an order with a policy like the daemon's: a configuration directory and
// that of the CA file, which is reached through a link as on Fedora; a port; every user
// may read them.
func newOrder(t *testing.T, scenario string) order {
	t.Helper()
	root, err := os.MkdirTemp("", "sandbox") // not t.TempDir, which others may not enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	for _, dir := range []string{"", "etc", "ssl", "pki"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o := order{
		Scenario:   scenario,
		Mode:       sandbox.Required,
		Port:       853,
		ConfigFile: filepath.Join(root, "etc", "dnsproxy.toml"),
		CAFile:     filepath.Join(root, "ssl", "ca.crt"),
	}
	if abi, err := sandbox.LandlockABI(); err != nil || abi < 4 {
		t.Logf("THIS KERNEL CANNOT ENFORCE ALL OF THE SANDBOX: landlock abi %d, %v", abi, err)
		o.Mode = sandbox.BestEffort
	}
	write(t, o.ConfigFile, "first")
	write(t, filepath.Join(root, "pki", "bundle.pem"), "certificates")
	if err := os.Symlink("../pki/bundle.pem", o.CAFile); err != nil {
		t.Fatal(err)
	}
	dirs, err := sandbox.DirsOf(o.ConfigFile, o.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	o.Policy = sandbox.Policy{ReadDirs: dirs, ConnectPorts: []uint16{853, 8853}}
	return o
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// missing reports whether r says that part is not enforced.
func missing(r sandbox.Report, part sandbox.Part) bool {
	return slices.ContainsFunc(r.Gaps, func(g sandbox.Gap) bool { return g.Part == part })
}

// requireSealed returns the child's report of Seal: complete, but for what this kernel is
// known to lack.
func requireSealed(t *testing.T, list []result) sandbox.Report {
	t.Helper()
	if len(list) == 0 || list[0].Report == nil {
		t.Fatalf("child reported no seal: %v", list)
	}
	if list[0].Err != "" {
		t.Fatalf("child's seal: %s", list[0].Err)
	}
	r := *list[0].Report
	want := sandbox.LandlockGaps(sandbox.LandlockABI())
	if !slices.Equal(r.Gaps, want) {
		t.Fatalf("got gaps %v, want what the kernel lacks: %v", r.Gaps, want)
	}
	return r
}

// user is who a child runs as.
type user struct {
	name   string
	become func(*exec.Cmd)
}

// users are root, if the test is, one without privileges, and one who binds port 53 himself.
func users(t *testing.T) []user {
	t.Helper()
	ourselves := user{"user " + strconv.Itoa(os.Getuid()), func(*exec.Cmd) {}}
	if os.Getuid() != 0 {
		return []user{ourselves}
	}
	nobody := user{"user 65534", func(cmd *exec.Cmd) {
		// go test keeps the binary in a folder that only its owner enters.
		dir, err := os.MkdirTemp("", "sandbox")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		binary, err := os.ReadFile(cmd.Path)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path = filepath.Join(dir, "sandbox.test")
		if err := os.WriteFile(cmd.Path, binary, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}}
	binder := user{"user 65534 with CAP_NET_BIND_SERVICE", func(cmd *exec.Cmd) {
		nobody.become(cmd)
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_BIND_SERVICE}
	}}
	return []user{ourselves, nobody, binder}
}

// trapped is the name of the system call at which a Go process died of SIGSYS.
func trapped(t *testing.T, stderr string) string {
	t.Helper()
	register := map[string]string{"amd64": "rax", "arm64": "r8", "arm": "r7"}[runtime.GOARCH]
	if !strings.Contains(stderr, "SIGSYS: bad system call") {
		return ""
	}
	match := regexp.MustCompile(`(?m)^` + register + ` +0x([0-9a-f]+)`).FindStringSubmatch(stderr)
	if match == nil {
		t.Fatalf("no register %s in the crash:\n%s", register, stderr)
	}
	nr, err := strconv.ParseUint(match[1], 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	return callName(t, nr)
}

// callName looks a system call's number up in x/sys, which is generated from the kernel.
func callName(t *testing.T, nr uint64) string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Logf("no sources of x/sys: %v", err)
		return fmt.Sprintf("number %d", nr)
	}
	table, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+runtime.GOARCH+".go"))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(fmt.Sprintf(`(?m)^\s*SYS_(\w+)\s+= %d$`, nr)).FindSubmatch(table)
	if match == nil {
		return fmt.Sprintf("number %d", nr)
	}
	return strings.ToLower(string(match[1]))
}

// lockedThreads starts n goroutines, each on an OS thread that nobody else uses, and
// returns a way to run f on every one in turn. The threads live as long as the process.
func lockedThreads(n int) func(f func()) {
	work := make([]chan func(), n)
	started := make(chan struct{})
	for i := range work {
		work[i] = make(chan func())
		go func() {
			runtime.LockOSThread()
			started <- struct{}{}
			for f := range work[i] {
				f()
				started <- struct{}{}
			}
		}()
		<-started
	}
	return func(f func()) {
		for i := range work {
			work[i] <- f
			<-started
		}
	}
}
