//go:build servers

package main_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// hotNames is how many names the load asks for again and again; every second
// query is for one of them, the others are for names never asked before.
const hotNames = 100

func hotName(i int) string { return fmt.Sprintf("hot%d.wild.plain.rig.", i%hotNames) }

// load asks over UDP at a steady rate from a few sockets, like as many stub
// resolvers that never ask twice. It is open-loop: a query does not wait for the one before.
type load struct {
	sent, answered, failed atomic.Int64
	slow                   atomic.Int64 // answers that took longer than slowAnswer
	firstFailure           atomic.Pointer[dns.Msg]

	mu      sync.Mutex
	worst   time.Duration
	worstAt time.Duration // when that query was asked, since the start
	worstOf string        // its name

	began time.Time
	stop  chan struct{}
	wg    sync.WaitGroup
}

// slowAnswer is far beyond what a healthy upstream on the same machine needs.
const slowAnswer = 300 * time.Millisecond

// startLoad asks addr for tag's names at rate queries a second.
func startLoad(t *testing.T, addr, tag string, rate int) *load {
	t.Helper()
	const sockets = 4
	l := &load{stop: make(chan struct{}), began: time.Now()}
	for i := range sockets {
		conn, err := net.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.UDPConn).SetReadBuffer(4 << 20); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		asked := map[uint16]time.Time{}
		reading := make(chan struct{})
		go func() {
			defer close(reading)
			l.read(conn, &mu, asked)
		}()
		l.wg.Go(func() {
			defer func() { <-reading }()
			l.write(conn, &mu, asked, fmt.Sprintf("%s%d", tag, i), time.Second*sockets/time.Duration(rate))
		})
	}
	return l
}

// write sends until the load ends, then gives the last answers time to come.
func (l *load) write(conn net.Conn, mu *sync.Mutex, asked map[uint16]time.Time, tag string, every time.Duration) {
	defer conn.Close()
	began := time.Now()
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			for range 500 {
				time.Sleep(10 * time.Millisecond)
				mu.Lock()
				waiting := len(asked)
				mu.Unlock()
				if waiting == 0 {
					return
				}
			}
			return
		case <-time.After(time.Until(began.Add(time.Duration(n) * every))):
		}
		name := hotName(n / 2)
		if n%2 == 1 {
			name = fmt.Sprintf("%s-%d.wild.plain.rig.", tag, n)
		}
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		q.Id = uint16(n)
		packed, err := q.Pack()
		if err != nil {
			panic(err)
		}
		mu.Lock()
		asked[q.Id] = time.Now()
		mu.Unlock()
		l.sent.Add(1)
		// ECONNREFUSED tells of an earlier datagram: then nothing was bound, and a query is lost.
		_, _ = conn.Write(packed)
	}
}

func (l *load) read(conn net.Conn, mu *sync.Mutex, asked map[uint16]time.Time) {
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, err := conn.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		m := new(dns.Msg)
		if err != nil || m.Unpack(buf[:n]) != nil {
			continue
		}
		mu.Lock()
		at, known := asked[m.Id]
		delete(asked, m.Id)
		mu.Unlock()
		if !known {
			continue
		}
		l.answered.Add(1)
		l.note(m, at, time.Since(at))
		if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
			l.failed.Add(1)
			l.firstFailure.CompareAndSwap(nil, m)
		}
	}
}

func (l *load) note(m *dns.Msg, at time.Time, took time.Duration) {
	if took > slowAnswer {
		l.slow.Add(1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if took > l.worst && len(m.Question) == 1 {
		l.worst, l.worstAt, l.worstOf = took, at.Sub(l.began), m.Question[0].Name
	}
}

// end stops asking and checks that every query has had its answer.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	sent, answered, failed := l.sent.Load(), l.answered.Load(), l.failed.Load()
	t.Logf("%d queries, %d lost, %d failed, %d took longer than %v; the worst, for %s after %v, took %v", sent, sent-answered, failed,
		l.slow.Load(), slowAnswer, l.worstOf, l.worstAt.Round(time.Millisecond), l.worst.Round(time.Millisecond/10))
	if answered != sent || failed != 0 {
		t.Errorf("%d of %d queries lost, %d failed; the first failure:\n%v", sent-answered, sent, failed, l.firstFailure.Load())
	}
}

// relay passes TCP connections on to a server and counts them: one for each TLS handshake.
type relay struct {
	addr        string
	connections atomic.Int64
	listener    net.Listener

	mu   sync.Mutex
	open map[net.Conn]bool
}

func startRelay(t *testing.T, server string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: l.Addr().String(), listener: l, open: map[net.Conn]bool{}}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			r.connections.Add(1)
			go r.pass(client, server)
		}
	}()
	t.Cleanup(r.close)
	return r
}

func (r *relay) pass(client net.Conn, server string) {
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		client.Close()
		return
	}
	r.mu.Lock()
	r.open[client], r.open[upstream] = true, true
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, upstream}, {upstream, client}} {
		wg.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			way[0].Close()
		})
	}
	wg.Wait()
}

// close refuses further connections and cuts those that are open.
func (r *relay) close() {
	r.listener.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.open {
		conn.Close()
	}
}

// testReloadUnderLoad sends SIGHUP 20 times under 1,000 queries a second, with
// good files and bad ones in turn.
func (r *rig) testReloadUnderLoad(t *testing.T) {
	const reloads = 20
	up := r.upstreams[0]
	counter := startRelay(t, up.dot)
	config := func(reload int) string {
		return fmt.Sprintf("[cache]\nmax_ttl = \"%dh\"\n%s", 2+reload, upstreamTable("kept", counter.addr, r.ca.file))
	}
	d := r.startDaemon(t, config(0))
	l := startLoad(t, d.listen, "reload", 1000)
	d.await(t, "the first thousand answers", func() bool { return l.answered.Load() >= 1000 })
	before := counter.connections.Load()
	for i := 1; i <= reloads; i++ {
		if i%2 == 1 {
			d.rewrite(t, "", config(i))
		} else {
			d.rewrite(t, fmt.Sprintf("no_such_key_%d = true", i), config(i))
		}
		sent := l.sent.Load()
		d.hangup(t)
		if i%2 == 0 {
			d.awaitLog(t, fmt.Sprintf("no_such_key_%d", i))
		}
		d.await(t, "250 more queries", func() bool { return l.sent.Load() >= sent+250 })
	}
	l.end(t)
	// A busy machine can stall for longer than the daemon takes for silence; then it
	// dials beside the session. Reloads that cost sessions would cost one each.
	opened := counter.connections.Load() - before
	t.Logf("%d connections to the unchanged upstream before the reloads, %d during them", before, opened)
	if opened >= reloads/2 {
		t.Errorf("%d connections opened to the unchanged upstream during %d good reloads", opened, reloads/2)
	}

	counter.close()
	for i := range hotNames {
		if m := d.resolves(t, hotName(i)); len(m.Answer) != 1 || hasEDE(m) {
			t.Fatalf("%s is no longer cached after the reloads:\n%v", hotName(i), m)
		}
	}
}

// testRestartUnderLoad restarts the daemon five times under load, on sockets
// that it is passed, as systemd does (sd_listen_fds(3)).
func (r *rig) testRestartUnderLoad(t *testing.T) {
	const addr = "127.0.0.1:15401"
	up := r.upstreams[0]
	sockets := passedSockets(t, addr)
	config := filepath.Join(t.TempDir(), "dnsproxy.toml")
	write(t, config, upstreamTable("kept", up.dot, r.ca.file))
	serve := func() *daemon {
		// LISTEN_PID is the daemon's own, which only the shell before it knows.
		cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve --config="$1"`, r.daemon, config)
		cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "LISTEN_FDNAMES=dnsproxy.socket:dnsproxy.socket")
		cmd.ExtraFiles = sockets
		d := &daemon{process: startCommand(t, cmd), listen: addr, config: config}
		d.awaitServing(t)
		return d
	}
	d := serve()
	l := startLoad(t, addr, "restart", 1000)
	for i := range int64(5) {
		d.await(t, "another thousand answers", func() bool { return l.answered.Load() >= (i+1)*1000 })
		d.stop(t)
		if d.err != nil {
			t.Errorf("the daemon ended with %v on SIGTERM\n%s", d.err, tail(d.log(), 20))
		}
		d = serve()
	}
	l.end(t)
}

// passedSockets binds a UDP and a TCP socket and keeps them open across restarts.
func passedSockets(t *testing.T, addr string) []*os.File {
	t.Helper()
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := udp.(*net.UDPConn).SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	udpFile, err := udp.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	tcpFile, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []io.Closer{udp, tcp, udpFile, tcpFile} {
			c.Close()
		}
	})
	return []*os.File{udpFile, tcpFile}
}

// The crowd: as many clients as limits.tcp_clients is set to, and the memory
// that they may cost: 12 KiB each (measured: 8.6 KiB, two goroutines and their
// buffers) on top of a daemon whose cache, of 32 MiB, is filling.
const (
	crowd        = 10_000
	crowdRSSBase = 48 << 20
	crowdRSSEach = 12 << 10
)

// testManyTCPClients keeps 10,000 TCP connections open at once and asks over each, twice.
func (r *rig) testManyTCPClients(t *testing.T) {
	raiseFileLimit(t, crowd+1000)
	up := r.upstreams[0]
	d := r.startDaemonAt(t, daemonAddr, "", fmt.Sprintf("[limits]\ntcp_clients = %d\ntcp_idle_timeout = \"60s\"\npending = %d\n%s",
		crowd+100, crowd, upstreamTable(up.name, up.dot, r.ca.file)))
	idle, idleFiles := d.rss(t), d.files(t)
	conns := make([]net.Conn, crowd)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	inParallel(crowd, func(i int) {
		conn, err := net.DialTimeout("tcp", d.listen, 10*time.Second)
		if err != nil {
			t.Errorf("client %d: %v", i, err)
			return
		}
		conns[i] = conn
	})
	if t.Failed() {
		t.FailNow()
	}
	peak := 0
	for round := range 2 {
		began := time.Now()
		inParallel(crowd, func(i int) {
			if err := askOverStream(conns[i], fmt.Sprintf("crowd%d-%d.wild.plain.rig.", round, i%1000)); err != nil {
				t.Errorf("round %d, client %d: %v", round, i, err)
			}
		})
		peak = max(peak, d.rss(t))
		t.Logf("round %d: %d clients served in %v, RSS %d MiB", round, crowd, time.Since(began).Round(time.Millisecond), d.rss(t)>>20)
	}
	t.Logf("idle RSS %.1f MiB; %.1f KiB more for each client", float64(idle)/(1<<20), float64(peak-idle)/crowd/1024)
	if bound := crowdRSSBase + crowd*crowdRSSEach; peak > bound {
		t.Errorf("RSS of %d MiB, want at most %d MiB", peak>>20, bound>>20)
	}
	for i, conn := range conns {
		conn.Close()
		conns[i] = nil
	}
	d.await(t, "the release of the clients' descriptors", func() bool { return d.files(t) <= idleFiles+10 })
}

// inParallel calls do for 0 to n-1 from a few goroutines.
func inParallel(n int, do func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
}

// askOverStream asks for an A record over an open TCP connection.
func askOverStream(conn net.Conn, qname string) error {
	q := new(dns.Msg).SetQuestion(qname, dns.TypeA)
	packed, err := q.Pack()
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)); err != nil {
		return err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return err
	}
	answer := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	m := new(dns.Msg)
	if err := m.Unpack(answer); err != nil {
		return err
	}
	if m.Id != q.Id || m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
		return fmt.Errorf("the answer is not one A record: %v", strings.ReplaceAll(m.String(), "\n", " "))
	}
	return nil
}

func raiseFileLimit(t *testing.T, files uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < files {
		limit.Max = files // needs CAP_SYS_RESOURCE
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatalf("raising the limit of open files to %d: %v", files, err)
	}
}

// files counts the daemon's open descriptors.
func (d *daemon) files(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
