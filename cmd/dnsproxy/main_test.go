// The tests run the program as its users do: this test binary, started again as
// dnsproxy, with sockets, signals and a service manager of the test's own, between
// real clients and a DNS-over-TLS server on loopback.
package main_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	main "dnsproxy/cmd/dnsproxy"
	"dnsproxy/internal/dottest"
)

// asProgram tells the test binary to be the program.
const asProgram = "DNSPROXY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	os.Unsetenv(asProgram)
	if os.Getenv("LISTEN_FDS") != "" {
		// Only the process itself knows it, as sd_listen_fds(3) wants it.
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	main.Main()
}

// patience is how long tests wait for what must come, on a machine that may be busy.
const patience = 20 * time.Second

// program returns the command line, ready to start. The test's end kills it.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), executable, args...)
	for _, v := range os.Environ() {
		// What a service manager gave the test is not the program's.
		if name, _, _ := strings.Cut(v, "="); name != "NOTIFY_SOCKET" && !strings.HasPrefix(name, "LISTEN_") && !strings.HasPrefix(name, "WATCHDOG_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	// The race detector would have the program sleep for a second at its end.
	cmd.Env = append(cmd.Env, asProgram+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// running is a program that was started.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *transcript
	stderr *transcript
	ended  chan struct{}
}

func launch(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{t: t, cmd: cmd, stdout: newTranscript(), stderr: newTranscript(), ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = r.stdout, r.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(r.ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-r.ended
		if t.Failed() {
			t.Logf("%s wrote:\n%s%s", strings.Join(cmd.Args[1:], " "), r.stdout, r.stderr)
		}
	})
	return r
}

// signal sends s.
func (r *running) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// wait waits for the program's end and returns its exit code.
func (r *running) wait() int {
	r.t.Helper()
	select {
	case <-r.ended:
		return r.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		r.t.Fatalf("the program has not ended after %v", patience)
		return -1
	}
}

// terminate sends SIGTERM and expects success.
func (r *running) terminate() {
	r.t.Helper()
	r.signal(syscall.SIGTERM)
	if code := r.wait(); code != 0 {
		r.t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
}

// transcript is what a program writes, as it comes.
type transcript struct {
	mu    sync.Mutex
	text  strings.Builder
	added chan struct{} // closed with the next write
}

func newTranscript() *transcript { return &transcript{added: make(chan struct{})} }

func (s *transcript) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.added)
	s.added = make(chan struct{})
	return s.text.Write(b)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// lines returns the lines that contain text.
func (s *transcript) lines(text string) (found []string) {
	for line := range strings.Lines(s.String()) {
		if strings.Contains(line, text) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// await waits for a line that contains text, and returns it.
func (s *transcript) await(t *testing.T, text string) string {
	t.Helper()
	return s.awaitN(t, text, 1)[0]
}

// awaitN waits for n lines that contain text, and returns them.
func (s *transcript) awaitN(t *testing.T, text string, n int) []string {
	t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		added := s.added
		s.mu.Unlock()
		found := s.lines(text)
		if len(found) >= n {
			return found
		}
		select {
		case <-added:
		case <-timeout:
			t.Fatalf("%d lines with %q, want %d", len(found), text, n)
		}
	}
}

// service is a daemon as a service manager runs it: with sockets that were bound before
// it, and a socket for its notifications.
type service struct {
	*running
	*manager
	addr   string // of its UDP and TCP sockets
	config string // path of the file
}

// serve starts a service on fresh sockets of 127.0.0.1 and waits until it is ready.
func serve(t *testing.T, config string) *service {
	t.Helper()
	sockets := bindPair(t, "127.0.0.1")
	return serveOn(t, sockets, writeConfig(t, config))
}

// serveOn starts a service on these sockets and waits until it is ready.
func serveOn(t *testing.T, sockets *socketPair, config string, env ...string) *service {
	t.Helper()
	m := newManager(t)
	cmd := program(t, "serve", "--config="+config)
	cmd.ExtraFiles = sockets.files
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.path, fmt.Sprintf("LISTEN_FDS=%d", len(sockets.files)))
	cmd.Env = append(cmd.Env, env...)
	s := &service{running: launch(t, cmd), manager: m, addr: sockets.addr, config: config}
	s.expect(t, "READY", "1")
	return s
}

// ask asks over UDP.
func (s *service) ask(name string, qtype uint16) *dns.Msg {
	s.t.Helper()
	return exchange(s.t, "udp", s.addr, queryFor(name, qtype))
}

// rewrite replaces the configuration as editors do, by renaming.
func (s *service) rewrite(config string) {
	s.t.Helper()
	fresh := s.config + ".new"
	if err := os.WriteFile(fresh, []byte(config), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(fresh, s.config); err != nil {
		s.t.Fatal(err)
	}
}

// manager is a service manager's end of sd_notify(3).
type manager struct {
	path     string
	received chan notification
}

// notification is one datagram's assignments.
type notification struct {
	at     time.Time
	values map[string]string
}

// shortDir returns a folder that a socket's path may begin with: those are short (unix(7)).
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dnsproxy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(shortDir(t), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m := &manager{path: path, received: make(chan notification, 10000)}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			values := map[string]string{}
			for line := range strings.Lines(string(buf[:n])) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
				values[name] = value
			}
			m.received <- notification{time.Now(), values}
		}
	}()
	return m
}

// next returns the next datagram, whatever it says.
func (m *manager) next(t *testing.T) notification {
	t.Helper()
	select {
	case n := <-m.received:
		return n
	case <-time.After(patience):
		t.Fatal("no notification")
		return notification{}
	}
}

// expect returns the next datagram, which must assign value to name.
func (m *manager) expect(t *testing.T, name, value string) notification {
	t.Helper()
	n := m.next(t)
	if n.values[name] != value {
		t.Fatalf("notification %v, want %s=%s", n.values, name, value)
	}
	return n
}

// socketPair is a UDP and a TCP socket of one address, or several, that stay
// bound while programs that serve them come and go.
type socketPair struct {
	addr  string
	files []*os.File
}

// bindPair binds both to a free port.
func bindPair(t *testing.T, host string) *socketPair {
	t.Helper()
	for range 100 {
		udp, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if errors.Is(err, syscall.EADDRINUSE) {
			udp.Close()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := udp.(*net.UDPConn).SetReadBuffer(4 << 20); err != nil {
			t.Fatal(err)
		}
		p := &socketPair{addr: udp.LocalAddr().String()}
		p.keep(t, udp.(*net.UDPConn))
		p.keep(t, tcp.(*net.TCPListener))
		return p
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil
}

// keep adds a duplicate of s, and closes s.
func (p *socketPair) keep(t *testing.T, s interface {
	File() (*os.File, error)
	Close() error
}) {
	t.Helper()
	f, err := s.File()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	t.Cleanup(func() { f.Close() })
	p.files = append(p.files, f)
}

// freePort returns an address whose port nobody listens on, over UDP or TCP.
func freePort(t *testing.T, host string) string {
	t.Helper()
	p := bindPair(t, host)
	for _, f := range p.files {
		f.Close()
	}
	return p.addr
}

// writeConfig writes a configuration into a folder of its own and returns its path.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dnsproxy.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// toUpstream returns the [[upstream]] of a server, authenticated by its pin (the CA's is the
// backup); more lines may follow.
func toUpstream(name string, s *dottest.Server, more ...string) string {
	return upstreamAt(name, s.Addr().String(), append(more, fmt.Sprintf("pins = [%q, %q]", s.Pin(), s.CA().Pin()))...)
}

// upstreamAt returns an [[upstream]] of one address.
func upstreamAt(name, addr string, lines ...string) string {
	return fmt.Sprintf("[[upstream]]\nname = %q\naddresses = [%q]\n%s\n\n", name, addr, strings.Join(lines, "\n"))
}

// queryFor returns a query with EDNS.
func queryFor(name string, qtype uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(name, qtype).SetEdns0(1232, false)
}

// exchange asks once.
func exchange(t *testing.T, network, addr string, q *dns.Msg) *dns.Msg {
	t.Helper()
	m, _, err := (&dns.Client{Net: network, Timeout: patience}).Exchange(q, addr)
	if err != nil {
		t.Fatalf("asking %s over %s for %s: %v", addr, network, q.Question[0].Name, err)
	}
	return m
}

// expectAddress fails the test unless m is an answer of one A record with that address.
func expectAddress(t *testing.T, m *dns.Msg, want string) {
	t.Helper()
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
		t.Fatalf("want one A record, got\n%v", m)
	}
	if a, ok := m.Answer[0].(*dns.A); !ok || a.A.String() != want {
		t.Fatalf("want an A record with %s, got\n%v", want, m)
	}
}

// extendedError returns the EDE of m, an empty one if it has none.
func extendedError(m *dns.Msg) *dns.EDNS0_EDE {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				return e
			}
		}
	}
	return &dns.EDNS0_EDE{}
}
