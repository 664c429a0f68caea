package main_test

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"dnsproxy/internal/dottest"
)

// reload sends SIGHUP and returns the status that the reload ends with.
func (s *service) reload() string {
	s.t.Helper()
	before := monotonic(s.t)
	s.signal(syscall.SIGHUP)
	return s.reloaded(before)
}

// reloaded expects what Type=notify-reload of systemd.service(5) wants to hear, and returns the status.
func (s *service) reloaded(since int64) string {
	s.t.Helper()
	begun := s.expect(s.t, "RELOADING", "1")
	at, err := strconv.ParseInt(begun.values["MONOTONIC_USEC"], 10, 64)
	if err != nil || at < since || at > monotonic(s.t) {
		s.t.Errorf("MONOTONIC_USEC=%s, want the time of the reload, in µs of CLOCK_MONOTONIC", begun.values["MONOTONIC_USEC"])
	}
	return s.expect(s.t, "READY", "1").values["STATUS"]
}

// monotonic returns CLOCK_MONOTONIC in microseconds.
func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano() / 1000
}

// pairOfUpstreams returns two servers of one port, so that the sandbox of a daemon that
// knows one lets it reach the other.
func pairOfUpstreams(t *testing.T) (a, b *dottest.Server) {
	t.Helper()
	a = dottest.New(t)
	b = dottest.New(t, dottest.WithAddr(fmt.Sprintf("127.0.0.2:%d", a.Addr().Port())))
	a.Do(answerWith("192.0.2.1"))
	b.Do(answerWith("192.0.2.2"))
	return a, b
}

func TestReloadKeepsCacheAndSessions(t *testing.T) {
	up := dottest.New(t)
	s := serve(t, toUpstream("test", up))
	expectAddress(t, s.ask("www.example.", dns.TypeA), "192.0.2.1")
	s.rewrite("log_level = \"debug\"\n[limits]\npending = 20\n" + toUpstream("test", up))
	if status := s.reload(); !strings.HasPrefix(status, "serving on "+s.addr) {
		t.Errorf("STATUS=%s", status)
	}
	for _, want := range []string{"log_level", "pending"} {
		if line := s.stderr.await(t, want); !strings.Contains(line, "configuration changed") {
			t.Errorf("the change of %s is told as %q", want, line)
		}
	}
	asked := up.Stats().Queries
	expectAddress(t, s.ask("www.example.", dns.TypeA), "192.0.2.1")
	if n := up.Stats().Queries; n != asked {
		t.Error("what was cached is no more")
	}
	expectAddress(t, s.ask("other.example.", dns.TypeA), "192.0.2.1")
	if st := up.Stats(); st.Handshakes != 1 || st.Open != 1 {
		t.Errorf("%d handshakes, %d sessions open; want one session all along", st.Handshakes, st.Open)
	}
}

func TestReloadUsesNewUpstreams(t *testing.T) {
	a, b := pairOfUpstreams(t)
	s := serve(t, toUpstream("a", a))
	expectAddress(t, s.ask("one.example.", dns.TypeA), "192.0.2.1")
	s.rewrite(toUpstream("b", b) + toUpstream("a", a))
	if status := s.reload(); !strings.Contains(status, "upstreams b, a") {
		t.Errorf("STATUS=%s", status)
	}
	expectAddress(t, s.ask("two.example.", dns.TypeA), "192.0.2.2")
	b.Stop() // what remains is the session that was there before
	expectAddress(t, s.ask("three.example.", dns.TypeA), "192.0.2.1")
	if n := a.Stats().Handshakes; n != 1 {
		t.Errorf("%d handshakes with the upstream that stayed, want 1", n)
	}
}

func TestReloadLetsQueriesEndOnWhatTheyBeganWith(t *testing.T) {
	a, b := pairOfUpstreams(t)
	asked, release := make(chan struct{}, 10), make(chan struct{})
	a.Do(func(q *dottest.Query) {
		asked <- struct{}{}
		go func() {
			<-release
			answerWith("192.0.2.1")(q)
		}()
	})
	s := serve(t, toUpstream("a", a))
	conn, err := dns.DialTimeout("udp", s.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.WriteMsg(queryFor("www.example.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	<-asked
	s.rewrite(toUpstream("b", b))
	s.reload()
	expectAddress(t, s.ask("www.example.", dns.TypeA), "192.0.2.2")
	close(release)
	m, err := conn.ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	expectAddress(t, m, "192.0.2.1")
}

// A file with any fault changes nothing, and each fault is told.
func TestReloadOfABadFileChangesNothing(t *testing.T) {
	up := dottest.New(t)
	s := serve(t, toUpstream("test", up))
	expectAddress(t, s.ask("www.example.", dns.TypeA), "192.0.2.1")
	s.rewrite("timeout = \"soon\"\nno_such_key = 1\n\n" + toUpstream("other", up))
	status := s.reload()
	if !strings.HasPrefix(status, "running previous configuration: "+s.config+":1") {
		t.Errorf("STATUS=%s", status)
	}
	for _, want := range []string{s.config + ":1", s.config + ":2"} {
		line := s.stderr.await(t, want)
		if !strings.Contains(line, "ERROR") || !strings.Contains(line, "reload failed") {
			t.Errorf("the fault is told as %q", line)
		}
	}
	expectAddress(t, s.ask("other.example.", dns.TypeA), "192.0.2.1")
	if st := up.Stats(); st.Handshakes != 1 || st.Queries != 2 {
		t.Errorf("%d handshakes and %d queries, want 1 and 2", st.Handshakes, st.Queries)
	}
	s.rewrite(toUpstream("test", up))
	if status := s.reload(); !strings.HasPrefix(status, "serving") {
		t.Errorf("after the repair: STATUS=%s", status)
	}
}

// The sandbox cannot be widened (landlock(7)).
func TestReloadRefusesWhatTheSandboxForbids(t *testing.T) {
	up, other := dottest.New(t), dottest.New(t)
	s := serve(t, toUpstream("test", up))
	s.rewrite(toUpstream("other", other))
	if status := s.reload(); !strings.HasPrefix(status, "running previous configuration: ") || !strings.Contains(status, "needs a restart") {
		t.Errorf("STATUS=%s", status)
	}
	if line := s.stderr.await(t, "reload failed"); !strings.Contains(line, "needs a restart") {
		t.Errorf("the log says %q", line)
	}
	expectAddress(t, s.ask("www.example.", dns.TypeA), "192.0.2.1")
	if n := other.Stats().Connections; n != 0 {
		t.Errorf("%d connections to the upstream that was refused", n)
	}
}

func TestReloadsUnderLoad(t *testing.T) {
	const reloads = 10
	up := dottest.New(t)
	up.Do(dottest.After(5*time.Millisecond, dottest.Answer))
	config := func(n int) string {
		return fmt.Sprintf("[limits]\npending = %d\n", 10000+n) + toUpstream("test", up)
	}
	s := serve(t, config(0))
	tr := startTraffic(t, s.addr, 400)
	for n := range reloads {
		tr.more(60)
		want := "serving"
		if n%2 == 1 {
			want = "running previous configuration"
			s.rewrite("no_such_key = 1\n" + config(n))
		} else {
			s.rewrite(config(n + 1))
		}
		if status := s.reload(); !strings.HasPrefix(status, want) {
			t.Errorf("reload %d: STATUS=%s, want %s", n, status, want)
		}
	}
	tr.more(60)
	tr.end()
	// A machine that stands still may make the daemon dial beside a session that seems silent. Reloads that
	// cost the session would cost one each.
	if n := up.Stats().Handshakes; n >= reloads/2 {
		t.Errorf("%d handshakes in %d reloads", n, reloads)
	}
}

// "systemctl reload" fails if the command does, and says what it said.
func TestReloadCommand(t *testing.T) {
	up := dottest.New(t)
	s := serve(t, toUpstream("test", up))
	reload := func() *running {
		return launch(t, program(t, "reload", "--config="+s.config, fmt.Sprintf("--pid=%d", s.cmd.Process.Pid)))
	}
	since := monotonic(t)
	if r := reload(); r.wait() != 0 {
		t.Errorf("a good file: %s", r.stderr)
	}
	s.reloaded(since)
	s.rewrite("no_such_key = 1\n" + toUpstream("test", up))
	if r := reload(); r.wait() != 1 || len(r.stderr.lines(s.config+":1")) != 1 {
		t.Errorf("a bad file: exit code %d, and\n%s", r.cmd.ProcessState.ExitCode(), r.stderr)
	}
	expectAddress(t, s.ask("www.example.", dns.TypeA), "192.0.2.1")
	if len(s.received) > 0 {
		t.Errorf("the daemon was not left alone: it sent %v", (<-s.received).values)
	}
}

// Over the control socket the command knows what the daemon alone can find.
func TestReloadCommandOverTheControlSocket(t *testing.T) {
	up := dottest.New(t)
	o := operate(t, toUpstream("test", up))
	reload := func(args ...string) (code int, stdout, stderr string) {
		t.Helper()
		return types(t, append([]string{"reload", "--socket=" + o.control}, args...)...)
	}
	expect := func(want int, wantOut, wantErr string, args ...string) {
		t.Helper()
		code, stdout, stderr := reload(args...)
		if code != want || stdout != wantOut || !strings.Contains(stderr, wantErr) || (wantErr == "") != (stderr == "") {
			t.Errorf("%q: exit code %d, %q and %q; want %d, %q and %q", args, code, stdout, stderr, want, wantOut, wantErr)
		}
	}
	mine := "--config=" + o.config
	expect(0, "read again, and nothing is different\n", "", mine)
	o.rewrite("timeout = \"3s\"\n" + toUpstream("test", up))
	expect(0, "changed: timeout: 4s -> 3s\n", "", mine)
	o.rewrite("timeout = \"2s\"\n" + toUpstream("test", up))
	expect(0, "", "", mine, "--quiet")
	o.rewrite("timeout = \"never\"\n" + toUpstream("test", up))
	expect(1, "", o.config+":1: timeout", mine)
	expectIn(t, unfolded(o.types("status")), "RELOAD FAILED", "dnsproxy.toml:1: timeout")
	o.rewrite(toUpstream("test", up) + upstreamAt("loop", o.addr, ""))
	expect(1, "", "nothing changed", mine) // what is listened on is the daemon's to know
	expectAddress(t, o.ask("www.example.", dns.TypeA), "192.0.2.1")

	other := writeConfig(t, toUpstream("test", up))
	expect(1, "", "has the configuration "+o.config+", not "+other, "--config="+other)
	missing := o.control + ".none"
	expect(1, "", "no daemon listens at "+missing, "--config="+other, "--socket="+missing)
}
