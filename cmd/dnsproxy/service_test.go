package main_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"dnsproxy/internal/dottest"
)

// Half a resolver fails at the worst time: loudly, at once, and with what to do.
func TestRefusesSocketsThatAreNoResolver(t *testing.T) {
	pair := bindPair(t, "127.0.0.1")
	control, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(shortDir(t), "control"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	other := &socketPair{}
	other.keep(t, control)
	for name, tt := range map[string]struct {
		files []*os.File
		want  []string // in the error's line
	}{
		"UDP alone":        {pair.files[:1], []string{"no TCP socket", "ListenStream="}},
		"TCP alone":        {pair.files[1:], []string{"no UDP socket", "ListenDatagram="}},
		"something else":   {append(other.files, pair.files...), []string{"socket 1", "Unix"}},
		"not even sockets": {[]*os.File{null, pair.files[0]}, []string{"socket 1", "not a socket"}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := program(t, "serve", "--config="+writeConfig(t, upstreamAt("test", "127.0.0.1:853", `server_name = "dns.example"`)))
			cmd.ExtraFiles = tt.files
			cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(tt.files)))
			r := launch(t, cmd)
			if code := r.wait(); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			line := r.stderr.await(t, "ERROR")
			for _, want := range tt.want {
				if !strings.Contains(line, want) {
					t.Errorf("no %q in %q", want, line)
				}
			}
		})
	}
}

// Queries wait in passed sockets from before the start. Ready is what answers: nothing more
// need be waited for.
func TestIsReadyOnceItAnswers(t *testing.T) {
	up := dottest.New(t)
	sockets := bindPair(t, "127.0.0.1")
	early, err := dns.DialTimeout("udp", sockets.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	early.SetDeadline(time.Now().Add(patience))
	if err := early.WriteMsg(queryFor("early.example.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	m := newManager(t)
	cmd := program(t, "serve", "--config="+writeConfig(t, toUpstream("test", up)))
	cmd.ExtraFiles = sockets.files
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.path, "LISTEN_FDS=2")
	launch(t, cmd)
	ready := m.expect(t, "READY", "1")
	for _, want := range []string{"serving", sockets.addr, "test"} {
		if !strings.Contains(ready.values["STATUS"], want) {
			t.Errorf("no %q in STATUS=%s", want, ready.values["STATUS"])
		}
	}
	answer, err := early.ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	expectAddress(t, answer, "192.0.2.1")
}

// A dead network at boot is normal.
func TestIsReadyWithoutUpstream(t *testing.T) {
	up := dottest.New(t)
	up.Stop()
	s := serve(t, toUpstream("test", up))
	expectAddress(t, s.ask("localhost.", dns.TypeA), "127.0.0.1")
	up.Start()
	expectAddress(t, s.ask("www.example.", dns.TypeA), "192.0.2.1")
}

func TestStopsOnceAnswersHaveLeft(t *testing.T) {
	const queries = 200
	up := dottest.New(t)
	asked, release := make(chan struct{}, queries), make(chan struct{})
	up.Do(func(q *dottest.Query) {
		asked <- struct{}{}
		go func() {
			<-release
			dottest.Answer(q)
		}()
	})
	s := serve(t, "[forward]\nhedge_budget = 0\n"+toUpstream("test", up))
	var conns []*dns.Conn
	for _, network := range []string{"udp", "tcp"} {
		conn, err := dns.DialTimeout(network, s.addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		for i := range queries / 2 {
			if err := conn.WriteMsg(queryFor(fmt.Sprintf("%s%d.example.", network, i), dns.TypeA)); err != nil {
				t.Fatal(err)
			}
		}
		conns = append(conns, conn)
	}
	for range queries {
		<-asked
	}
	s.signal(syscall.SIGTERM)
	s.expect(t, "STOPPING", "1")
	close(release)
	for _, conn := range conns {
		for range queries / 2 {
			m, err := conn.ReadMsg()
			if err != nil {
				t.Fatal(err)
			}
			expectAddress(t, m, "192.0.2.1")
		}
	}
	if code := s.wait(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// What a stopping daemon cannot answer in time is answered by the next one, when the client asks again.
func TestLeavesWhatItCannotAnswerToTheNext(t *testing.T) {
	up := dottest.New(t)
	asked := make(chan struct{}, 100)
	up.Do(func(*dottest.Query) { asked <- struct{}{} })
	sockets, config := bindPair(t, "127.0.0.1"), writeConfig(t, toUpstream("test", up))
	s := serveOn(t, sockets, config)
	conn, err := dns.DialTimeout("udp", s.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	q := queryFor("www.example.", dns.TypeA)
	if err := conn.WriteMsg(q); err != nil {
		t.Fatal(err)
	}
	<-asked
	s.terminate()
	if found := s.stderr.lines("WARN"); found != nil {
		t.Errorf("the end of the drain is no news of upstreams:\n%s", strings.Join(found, "\n"))
	}
	up.Do(dottest.Answer)
	serveOn(t, sockets, config)
	if err := conn.WriteMsg(q); err != nil {
		t.Fatal(err)
	}
	m, err := conn.ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	expectAddress(t, m, "192.0.2.1")
}

func TestRestartsLoseNoQuery(t *testing.T) {
	up := dottest.New(t)
	up.Do(dottest.After(5*time.Millisecond, dottest.Answer))
	sockets, config := bindPair(t, "127.0.0.1"), writeConfig(t, toUpstream("test", up))
	s := serveOn(t, sockets, config)
	tr := startTraffic(t, sockets.addr, 300)
	for range 4 {
		tr.more(100)
		s.terminate()
		s = serveOn(t, sockets, config)
	}
	tr.more(100)
	tr.end()
}

// sd_watchdog_enabled(3): a sign of life comes within the interval, and from a daemon that serves only.
func TestFeedsTheWatchdogWhileItServes(t *testing.T) {
	const interval = 1200 * time.Millisecond
	up := dottest.New(t)
	sockets := bindPair(t, "127.0.0.1")
	s := serveOn(t, sockets, writeConfig(t, toUpstream("test", up)), fmt.Sprintf("WATCHDOG_USEC=%d", interval.Microseconds()))
	last := s.expect(t, "WATCHDOG", "1").at
	for range 4 {
		alive := s.expect(t, "WATCHDOG", "1").at
		if alive.Sub(last) >= interval {
			t.Errorf("%v between signs of life, want less than %v", alive.Sub(last), interval)
		}
		last = alive
	}
	deaf(t, sockets.files[0], true)
	s.stderr.await(t, "own query not answered")
	for len(s.received) > 0 {
		<-s.received
	}
	s.stderr.awaitN(t, "own query not answered", 4)
	if len(s.received) > 0 {
		t.Errorf("a daemon that answers nobody sent %v", (<-s.received).values)
	}
	deaf(t, sockets.files[0], false)
	s.expect(t, "WATCHDOG", "1")
}

// deaf makes a socket drop everything that it receives (socket(7), SO_ATTACH_FILTER), or not.
func deaf(t *testing.T, f *os.File, on bool) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	dropAll := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	controlErr := raw.Control(func(fd uintptr) {
		if on {
			err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &dropAll})
		} else {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		}
	})
	if err != nil || controlErr != nil {
		t.Fatal(err, controlErr)
	}
}
