package sandbox_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dnsproxy/internal/sandbox"
)

// host is the test's side of "needed": the upstream, a client and the administrator.
type host struct {
	t        *testing.T
	order    order
	listener *net.TCPListener
	udp      *net.UDPConn
	notify   *net.UnixConn
	pid      int        // of the child, which a tracer may have started
	clients  []net.Conn // each has sent two datagrams
	cmd      *exec.Cmd
	stdin    io.Writer
	stderr   strings.Builder
}

func newHost(t *testing.T, abstract bool) *host {
	t.Helper()
	h := &host{t: t, order: newOrder(t, "needed")}
	h.startUpstream()
	h.order.Policy.ConnectPorts = []uint16{uint16(h.order.Port), refusingPort(t)}
	h.listener = h.listen("127.0.0.1:0")
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	h.udp = udp
	h.order.NotifySocket = filepath.Join(filepath.Dir(filepath.Dir(h.order.ConfigFile)), "notify")
	if abstract {
		h.order.NotifySocket = "@dnsproxy-sandbox-test-" + strconv.Itoa(os.Getpid())
	}
	h.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: h.order.NotifySocket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if !abstract {
		if err := os.Chmod(h.order.NotifySocket, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { h.listener.Close(); h.udp.Close(); h.notify.Close() })
	return h
}

func (h *host) listen(address string) *net.TCPListener {
	h.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		h.t.Fatal(err)
	}
	return l.(*net.TCPListener)
}

// refusingPort is bound, so that nobody else takes it, and does not listen.
func refusingPort(t *testing.T) uint16 {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(address.(*unix.SockaddrInet4).Port)
}

// samePort listens on a port that is free on both 127.0.0.1 and ::1.
func (h *host) samePort() (v4, v6 net.Listener) {
	h.t.Helper()
	for range 20 {
		v4 = h.listen("127.0.0.1:0")
		v6, err := net.Listen("tcp", "[::1]:"+strconv.Itoa(v4.Addr().(*net.TCPAddr).Port))
		if err == nil {
			return v4, v6
		}
		h.t.Logf("trying another port: %v", err)
		v4.Close()
	}
	h.t.Fatal("no port is free on both 127.0.0.1 and ::1")
	return nil, nil
}

// startUpstream echoes over TLS on one port of 127.0.0.1 and ::1.
func (h *host) startUpstream() {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "dns.test"}, DNSNames: []string{"dns.test"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		h.t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(h.t, filepath.Join(filepath.Dir(h.order.ConfigFile), "root.pem"), string(text))
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"dot"}}
	v4, v6 := h.samePort()
	h.order.Port = v4.Addr().(*net.TCPAddr).Port
	for _, l := range []net.Listener{v4, v6} {
		h.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					session := tls.Server(conn, config)
					io.Copy(session, session)
					session.Close()
				}()
			}
		}()
	}
}

// run starts the child, serves its requests and returns what it said, while it still runs.
func (h *host) run(change func(*exec.Cmd)) []result {
	h.t.Helper()
	h.cmd = command(h.t, h.order)
	tcp, err := h.listener.File()
	if err != nil {
		h.t.Fatal(err)
	}
	udp, err := h.udp.File()
	if err != nil {
		h.t.Fatal(err)
	}
	h.cmd.ExtraFiles = []*os.File{tcp, udp}
	h.cmd.Stderr = &h.stderr
	change(h.cmd)
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		h.t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	tcp.Close()
	udp.Close()
	var list []result
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var r result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			h.t.Fatalf("child said %q", lines.Text())
		}
		if what, asks := strings.CutPrefix(r.Act, "ask: "); asks {
			h.pid = r.Pid
			h.serve(what)
			continue
		}
		if r.Act == "done" {
			return list
		}
		list = append(list, r)
	}
	h.cmd.Wait()
	if call := trapped(h.t, h.stderr.String()); call != "" {
		h.t.Fatalf("the list lacks %q\n%s", call, h.stderr.String())
	}
	h.t.Fatalf("child ended early: %v\n%s", h.cmd.ProcessState, h.stderr.String())
	return nil
}

func (h *host) serve(what string) {
	h.t.Helper()
	switch what {
	case "dial":
		conn, err := net.Dial("tcp", h.listener.Addr().String())
		if err != nil {
			h.t.Fatal(err)
		}
		defer conn.Close()
		if err := echo(conn); err != nil {
			h.t.Errorf("client over TCP: %v", err)
		}
	case "datagrams":
		conn, err := net.Dial("udp", h.udp.LocalAddr().String())
		if err != nil {
			h.t.Fatal(err)
		}
		h.clients = append(h.clients, conn)
		conn.Write([]byte("one"))
		conn.Write([]byte("two"))
	case "replace":
		write(h.t, h.order.ConfigFile+".new", "second")
		if err := os.Rename(h.order.ConfigFile+".new", h.order.ConfigFile); err != nil {
			h.t.Fatal(err)
		}
	case "SIGHUP":
		unix.Kill(h.pid, syscall.SIGHUP)
	case "SIGSTOP and SIGCONT":
		unix.Kill(h.pid, syscall.SIGSTOP)
		h.awaitStop()
		unix.Kill(h.pid, syscall.SIGCONT)
	default:
		h.t.Fatalf("child asks for %q", what)
	}
	io.WriteString(h.stdin, "done\n")
}

// awaitStop waits until the child is stopped, perhaps under a tracer; proc_pid_stat(5).
func (h *host) awaitStop() {
	h.t.Helper()
	for h.t.Context().Err() == nil {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(h.pid) + "/stat")
		if err != nil {
			h.t.Fatal(err)
		}
		if _, after, _ := strings.Cut(string(stat), ") "); after[0] == 'T' || after[0] == 't' {
			return
		}
	}
}

// end checks what the child sent, lets it end and fails the test unless it ends well.
func (h *host) end() {
	h.t.Helper()
	buf := make([]byte, 64)
	for _, conn := range h.clients {
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		for _, want := range []string{"one", "two"} {
			if n, err := conn.Read(buf); err != nil || string(buf[:n]) != want {
				h.t.Errorf("client over UDP: got %q, %v, want %q", buf[:n], err, want)
			}
		}
		conn.Close()
	}
	h.notify.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := h.notify.Read(buf); err != nil || string(buf[:n]) != "WATCHDOG=1" {
		h.t.Errorf("notify socket: got %q, %v", buf[:n], err)
	}
	io.WriteString(h.stdin, "end\n")
	if err := h.cmd.Wait(); err != nil {
		h.t.Errorf("child: %v\n%s", err, h.stderr.String())
	}
}

func TestNeededActsSucceed(t *testing.T) {
	for _, user := range users(t) {
		for _, variant := range []struct {
			name     string
			trap     bool // a call on no list ends the child and is named
			abstract bool // the notify socket is: scopes must not cut it off
		}{{"as shipped", false, false}, {"trapping", true, true}} {
			t.Run(user.name+", "+variant.name, func(t *testing.T) {
				h := newHost(t, variant.abstract)
				h.order.Trap = variant.trap
				list := h.run(user.become)
				sealed := requireSealed(t, list)
				for i, a := range neededActs {
					if i+1 >= len(list) || list[i+1].Act != a.name {
						t.Fatalf("%s: not tried", a.name)
					}
					if r := list[i+1]; r.Err != "" {
						t.Errorf("%s: %s", r.Act, r.Err)
					}
				}
				checkThreads(t, h.pid, sealed)
				h.end()
			})
		}
	}
}

// checkThreads reads from outside the state of every thread, those of work included.
func checkThreads(t *testing.T, pid int, sealed sandbox.Report) {
	t.Helper()
	names, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/status")
	if err != nil || len(names) < 40 {
		t.Fatalf("got %d threads of the child (%v), want those of 40 locked goroutines too", len(names), err)
	}
	for _, name := range names {
		status, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := sandbox.CheckStatus(status, sealed); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReport(t *testing.T) {
	if abi, err := sandbox.LandlockABI(); err != nil || abi < 6 {
		t.Logf("landlock abi %d, %v: the report is judged by TestMissingSupport alone", abi, err)
		return
	}
	for _, user := range users(t) {
		t.Run(user.name, func(t *testing.T) {
			list, stderr, state := run(t, newOrder(t, "seal"), user.become)
			if !state.Success() {
				t.Fatalf("child: %v\n%s", state, stderr)
			}
			r := requireSealed(t, list)
			if !r.Capabilities || !r.NoNewPrivs || !r.Undumpable || !r.Files || !r.Connect || !r.Scopes || !r.Seccomp || !r.Complete() {
				t.Errorf("got %+v, want every part", r)
			}
			if r.Threads < 2 || r.Syscalls != len(sandbox.AllowedCalls()) {
				t.Errorf("got %d threads and %d calls", r.Threads, r.Syscalls)
			}
			want := "landlock abi " + strconv.Itoa(r.LandlockABI) + " (files, tcp connect, scopes), seccomp on (" +
				strconv.Itoa(r.Syscalls) + " syscalls), capabilities none, no_new_privs"
			if list[0].Line != want {
				t.Errorf("got %q, want %q", list[0].Line, want)
			}
			if os.Getuid() == 0 && user.name == "user 0" && !r.BoundingSet {
				t.Error("root's bounding set is not empty")
			}
		})
	}
}

func TestOffSealsNothing(t *testing.T) {
	r, err := sandbox.Seal(sandbox.Policy{ReadDirs: []string{"/nowhere"}}, sandbox.Off)
	if err != nil || r.String() != "off" || r.Complete() {
		t.Errorf("got %q, %v", r, err)
	}
}

// missingTests: what a filter of a container or an old kernel makes of Seal.
var missingTests = []struct {
	name     string
	fail     map[int][]uintptr
	wantGap  sandbox.Part
	wantLine string // under best effort, in the report's line
	wantErr  string // under required
}{
	{
		"no landlock in the kernel", map[int][]uintptr{int(unix.ENOSYS): {unix.SYS_LANDLOCK_CREATE_RULESET}}, sandbox.PartFiles,
		"landlock off, seccomp on", "landlock files: the kernel has no landlock (run Linux 5.13 or later, built with CONFIG_SECURITY_LANDLOCK)",
	},
	{
		"landlock disabled at boot", map[int][]uintptr{int(unix.EOPNOTSUPP): {unix.SYS_LANDLOCK_CREATE_RULESET}}, sandbox.PartConnect,
		"landlock tcp connect: landlock is disabled at boot", `landlock files: landlock is disabled at boot (add "landlock" to the kernel's lsm= option)`,
	},
	{
		"landlock denied by a filter", map[int][]uintptr{int(unix.EPERM): {unix.SYS_LANDLOCK_CREATE_RULESET}}, sandbox.PartScopes,
		"a system call filter denies landlock", "a system call filter denies landlock (allow the landlock_* system calls in the unit or the container)",
	},
	{
		"seccomp denied by a filter", map[int][]uintptr{int(unix.EPERM): {unix.SYS_SECCOMP}}, sandbox.PartSeccomp,
		"seccomp off", "seccomp: a system call filter denies seccomp (allow the seccomp system call in the unit or the container)",
	},
}

func TestMissingSupport(t *testing.T) {
	for _, test := range missingTests {
		t.Run(test.name, func(t *testing.T) {
			o := newOrder(t, "seal")
			o.FailCalls = test.fail
			o.Mode = sandbox.BestEffort
			list, stderr, state := run(t, o)
			if !state.Success() || len(list) != 1 {
				t.Fatalf("best effort: child: %v\n%s", state, stderr)
			}
			r := list[0]
			if !missing(*r.Report, test.wantGap) || r.Report.Complete() || !strings.Contains(r.Line, test.wantLine) {
				t.Errorf("best effort: got %q, want a line with %q", r.Line, test.wantLine)
			}
			if !r.Report.Capabilities || !r.Report.NoNewPrivs || r.Report.Threads == 0 {
				t.Errorf("best effort: got %+v, want the other parts sealed and verified", r.Report)
			}

			o.Mode = sandbox.Required
			list, stderr, state = run(t, o)
			if state.ExitCode() != 3 || len(list) != 1 {
				t.Fatalf("required: child: %v, want a failed seal\n%s", state, stderr)
			}
			if r := list[0]; !strings.Contains(r.Err, test.wantErr) || !strings.Contains(r.Err, `sandbox = "best-effort"`) {
				t.Errorf("required: got %q, want %q", r.Err, test.wantErr)
			}
			if r := list[0].Report; r.Seccomp || r.Files || r.NoNewPrivs || r.Capabilities {
				t.Errorf("required: got %+v, want nothing changed", r)
			}
		})
	}
}

// TestSealUnderSystemdFilter: with SystemCallFilter=~@privileged capset fails, and a
// service that was started without capabilities must not need it.
func TestSealUnderSystemdFilter(t *testing.T) {
	for _, user := range users(t) {
		if user.name == "user 0" {
			continue // who holds every capability
		}
		o := newOrder(t, "seal")
		o.FailCalls = map[int][]uintptr{int(unix.EPERM): {unix.SYS_CAPSET}}
		o.Mode = sandbox.BestEffort
		list, stderr, state := run(t, o, user.become)
		if !state.Success() || len(list) != 1 {
			t.Fatalf("%s: child: %v\n%s", user.name, state, stderr)
		}
		holds := strings.Contains(user.name, "with CAP")
		if r := list[0]; missing(*r.Report, sandbox.PartCapabilities) != holds || r.Report.Capabilities == holds {
			t.Errorf("%s: got %q", user.name, r.Line)
		}
	}
}

// diverged seals a process one thread of which has a filter that the others lack.
func diverged(o order) {
	lockedThreads(1)(func() {
		if err := sandbox.FilterThisThread(); err != nil {
			fatal("filtering one thread: %v", err)
		}
	})
	o.seal()
}

// TestUnsynchronisedThreadIsAnError: seccomp(2) tells of it by a result, and no errno.
func TestUnsynchronisedThreadIsAnError(t *testing.T) {
	o := newOrder(t, "diverged")
	o.Mode = sandbox.Required
	list, stderr, state := run(t, o)
	if state.ExitCode() != 3 || len(list) != 1 {
		t.Fatalf("child: %v, want a failed seal\n%s", state, stderr)
	}
	if r := list[0]; r.Report.Seccomp || !strings.Contains(r.Err, "has a filter of its own") {
		t.Errorf("got %q, seccomp %t", r.Err, r.Report.Seccomp)
	}
}

func TestLandlockGapsByABI(t *testing.T) {
	for _, test := range []struct {
		abi  int
		want []sandbox.Part
	}{
		{1, []sandbox.Part{sandbox.PartConnect, sandbox.PartScopes}}, // Linux 5.13
		{2, []sandbox.Part{sandbox.PartConnect, sandbox.PartScopes}}, // Debian 12
		{4, []sandbox.Part{sandbox.PartScopes}},                      // Linux 6.7
		{6, nil},                                                     // Debian 13
		{11, nil},
	} {
		gaps := sandbox.LandlockGaps(test.abi, nil)
		if len(gaps) != len(test.want) {
			t.Fatalf("abi %d: got %v, want %v", test.abi, gaps, test.want)
		}
		for i, gap := range gaps {
			if gap.Part != test.want[i] || gap.Remedy == "" {
				t.Errorf("abi %d: got %v, want %v with a remedy", test.abi, gap, test.want[i])
			}
		}
	}
}

func TestMissingDirectoryIsAnError(t *testing.T) {
	for _, mode := range []sandbox.Mode{sandbox.Required, sandbox.BestEffort} {
		o := newOrder(t, "seal")
		o.Mode = mode
		o.Policy.ReadDirs = []string{"/nowhere"}
		if _, err := sandbox.LandlockABI(); err != nil && mode == sandbox.Required {
			continue // that is said first
		}
		list, _, state := run(t, o)
		want := `sealing: opening directory "/nowhere", which is to stay readable: no such file or directory`
		if state.ExitCode() != 3 || len(list) != 1 || list[0].Err != want {
			t.Errorf("%s: got %v, want %q", mode, list, want)
		}
	}
}

// A crash must still tell where: that is what an operator sends in.
func TestCrashIsReadable(t *testing.T) {
	_, stderr, state := run(t, newOrder(t, "panic"))
	if state.ExitCode() != 2 || !strings.Contains(stderr, "panic: as a fault would") || strings.Count(stderr, "panicDeep(") != 6 {
		t.Errorf("got %v and\n%s\nwant a panic with its stack", state, stderr)
	}
}

// awaitSleep waits until no thread of a process runs (proc_pid_stat(5): the third field).
func awaitSleep(t *testing.T, pid int) {
	t.Helper()
	for asleep := false; !asleep; runtime.Gosched() {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(threads) == 0 {
			t.Fatalf("process %d has no threads: %v", pid, err)
		}
		asleep = true
		for _, thread := range threads {
			stat, err := os.ReadFile(thread)
			_, state, _ := strings.Cut(string(stat), ") ")
			asleep = asleep && (err != nil || strings.HasPrefix(state, "S "))
		}
	}
}

// TestAbortShowsGoroutines: systemd's watchdog sends SIGABRT.
func TestAbortShowsGoroutines(t *testing.T) {
	cmd := command(t, newOrder(t, "abort"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // which stays open
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.Contains(lines.Text(), "ask: SIGABRT") {
			awaitSleep(t, cmd.Process.Pid) // in C code, which the race detector is, a traceback may fail
			cmd.Process.Signal(syscall.SIGABRT)
		}
	}
	cmd.Wait()
	if !strings.Contains(stderr.String(), "SIGABRT: abort") || !strings.Contains(stderr.String(), "waitForSignal(") {
		t.Errorf("got %v and\n%s\nwant every goroutine's stack", cmd.ProcessState, stderr.String())
	}
}
