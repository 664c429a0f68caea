package sandbox_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"dnsproxy/internal/sandbox"
)

// The descriptors that needed inherits, as from systemd.
const (
	fdListener = 3 + iota // TCP
	fdUDP
)

// work is what a sealed daemon must still be able to do.
type work struct {
	order    order
	notify   *net.UnixConn
	listener net.Listener
	udp      *net.UDPConn
	control  *bufio.Reader // the test's orders, a line each
	hangups  chan os.Signal
}

// neededActs are design.md's life of the daemon after sealing, in a system call's words.
var neededActs = []struct {
	name string
	do   func(*work) error
}{
	{"session over IPv4", func(w *work) error { return w.session("127.0.0.1") }},
	{"session over IPv6", func(w *work) error { return w.session("::1") }},
	{"refused session", (*work).refusedSession},
	{"client over TCP", (*work).acceptClient},
	{"client over UDP in batches", (*work).batch},
	{"client over UDP by package net", (*work).datagram},
	{"configuration replaced by renaming", (*work).reread},
	{"CA file through a link", func(w *work) error { return wants(w.order.CAFile, "certificates") }},
	{"listing a directory", func(w *work) error { _, err := os.ReadDir(filepath.Dir(w.order.ConfigFile)); return err }},
	{"resolving the policy again", (*work).covers},
	{"notify and journal datagrams", func(w *work) error { _, err := w.notify.Write([]byte("WATCHDOG=1")); return err }},
	{"garbage collection", collect},
	{"memory for the cache", cacheMemory},
	{"many new threads", func(*work) error { lockedThreads(40)(func() {}); return nil }},
	{"ended threads", endThreads},
	{"timers", func(*work) error { <-time.After(time.Millisecond); return nil }},
	{"preemption of a busy goroutine", preempt},
	{"random numbers", func(*work) error { _, err := rand.Read(make([]byte, 4096)); return err }},
	{"times and usage", usage},
	{"following the CPUs that it may use", func(*work) error { runtime.SetDefaultGOMAXPROCS(); return nil }},
	{"a relative path", relativePath},
	{"ignoring a signal", func(*work) error { signal.Ignore(syscall.SIGUSR2); return nil }},
	{"SIGHUP", (*work).hangup},
	{"stopped and continued", (*work).stopped},
}

// needed does it all, telling the test what it did, and waits for the test's leave to end.
func needed(o order) {
	w, err := prepare(o)
	if err != nil {
		fatal("preparing: %v", err)
	}
	o.seal()
	for _, a := range neededActs {
		report(a.name, "", a.do(w))
	}
	report("done", "", nil)
	w.order.awaitLine(w.control)
}

// prepare opens what a daemon opens before it seals.
func prepare(o order) (*work, error) {
	w := &work{order: o, control: bufio.NewReader(os.Stdin), hangups: make(chan os.Signal, 1)}
	signal.Notify(w.hangups, syscall.SIGHUP)
	var err error
	if w.notify, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Name: o.NotifySocket, Net: "unixgram"}); err != nil {
		return nil, err
	}
	if w.listener, err = net.FileListener(os.NewFile(fdListener, "tcp")); err != nil {
		return nil, err
	}
	conn, err := net.FilePacketConn(os.NewFile(fdUDP, "udp"))
	if err != nil {
		return nil, err
	}
	w.udp = conn.(*net.UDPConn)
	return w, nil
}

func (o order) awaitLine(r *bufio.Reader) string {
	line, err := r.ReadString('\n')
	if err != nil {
		fatal("awaiting the test: %v", err)
	}
	return strings.TrimSpace(line)
}

// ask has the test do something and waits until it has.
func (w *work) ask(what string) {
	ask(what)
	w.order.awaitLine(w.control)
}

// session makes a TLS session as package dot does, and uses it.
func (w *work) session(host string) error {
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(filepath.Join(filepath.Dir(w.order.ConfigFile), "root.pem"))
	if err != nil {
		return err
	}
	roots.AppendCertsFromPEM(pem)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}}
	tcp, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, fmt.Sprint(w.order.Port)))
	if err != nil {
		return err
	}
	defer tcp.Close()
	if err := socketOptions(tcp.(*net.TCPConn)); err != nil {
		return err
	}
	session := tls.Client(tcp, &tls.Config{RootCAs: roots, ServerName: "dns.test", MinVersion: tls.VersionTLS13, NextProtos: []string{"dot"}})
	if err := session.HandshakeContext(ctx); err != nil {
		return err
	}
	return echo(session)
}

func socketOptions(conn *net.TCPConn) error {
	c, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = c.Control(func(fd uintptr) {
		inner = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1000),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
		if _, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err != nil {
			inner = errors.Join(inner, err)
		}
	})
	return errors.Join(err, inner)
}

func echo(conn net.Conn) error {
	buffers := net.Buffers{[]byte{0, 5}, []byte("query")}
	if _, err := buffers.WriteTo(conn); err != nil {
		return err
	}
	answer := make([]byte, 7)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if string(answer) != "\x00\x05query" {
		return fmt.Errorf("got %q back", answer)
	}
	return nil
}

// refusedSession: an upstream that is down must look so, and not like a denial.
func (w *work) refusedSession() error {
	_, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", w.order.Policy.ConnectPorts[1]), time.Second)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("got %v, want connection refused", err)
	}
	return nil
}

func (w *work) acceptClient() error {
	ask("dial")
	conn, err := w.listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	query := make([]byte, 7)
	if _, err := io.ReadFull(conn, query); err != nil {
		return err
	}
	answer := net.Buffers{query[:2], query[2:]}
	if _, err := answer.WriteTo(conn); err != nil {
		return err
	}
	err = conn.(*net.TCPConn).CloseWrite()
	w.order.awaitLine(w.control)
	return err
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	n uint32
}

// batch takes what the test has sent by one recvmmsg and answers by one sendmmsg.
func (w *work) batch() error {
	w.ask("datagrams")
	c, err := w.udp.SyscallConn()
	if err != nil {
		return err
	}
	var (
		payload [2][512]byte
		from    [2]unix.RawSockaddrInet6
		vec     [2]unix.Iovec
		batch   [2]mmsghdr
	)
	for i := range batch {
		vec[i].Base = &payload[i][0]
		vec[i].SetLen(len(payload[i]))
		batch[i].Iov, batch[i].Iovlen = &vec[i], 1
		batch[i].Name, batch[i].Namelen = (*byte)(unsafe.Pointer(&from[i])), uint32(unsafe.Sizeof(from[i]))
	}
	mmsg := func(nr uintptr) func(uintptr) bool {
		return func(fd uintptr) bool {
			_, _, errno := unix.Syscall6(nr, fd, uintptr(unsafe.Pointer(&batch[0])), uintptr(len(batch)), 0, 0, 0)
			err = nil
			if errno != 0 {
				err = errno
			}
			return errno != unix.EAGAIN
		}
	}
	if waited := c.Read(mmsg(unix.SYS_RECVMMSG)); waited != nil || err != nil {
		return errors.Join(waited, err)
	}
	for i := range batch {
		vec[i].SetLen(int(batch[i].n))
	}
	return errors.Join(c.Write(mmsg(unix.SYS_SENDMMSG)), err)
}

// datagram goes the ways of package net: recvfrom, sendto, recvmsg, sendmsg.
func (w *work) datagram() error {
	buf := make([]byte, 512)
	w.ask("datagrams")
	n, from, err := w.udp.ReadFromUDPAddrPort(buf)
	if err != nil {
		return err
	}
	if _, err := w.udp.WriteToUDPAddrPort(buf[:n], from); err != nil {
		return err
	}
	n, _, _, from, err = w.udp.ReadMsgUDPAddrPort(buf, nil)
	if err != nil {
		return err
	}
	_, _, err = w.udp.WriteMsgUDPAddrPort(buf[:n], nil, from)
	return err
}

func (w *work) reread() error {
	if err := wants(w.order.ConfigFile, "first"); err != nil {
		return err
	}
	w.ask("replace")
	return wants(w.order.ConfigFile, "second")
}

func wants(name, text string) error {
	got, err := os.ReadFile(name)
	if err == nil && string(got) != text {
		err = fmt.Errorf("%s holds %q, want %q", name, got, text)
	}
	return err
}

// covers is the check of a reload.
func (w *work) covers() error {
	dirs, err := sandbox.DirsOf(w.order.ConfigFile, w.order.CAFile)
	if err != nil {
		return err
	}
	if !w.order.Policy.Covers(sandbox.Policy{ReadDirs: dirs, ConnectPorts: []uint16{uint16(w.order.Port)}}) {
		return fmt.Errorf("%v does not cover %v", w.order.Policy, dirs)
	}
	return nil
}

func collect(*work) error {
	var kept [][]byte
	for range 64 {
		kept = append(kept, make([]byte, 1<<20))
	}
	runtime.KeepAlive(kept)
	kept = nil
	runtime.GC()
	debug.FreeOSMemory()
	return nil
}

func cacheMemory(*work) error {
	mem, err := unix.Mmap(-1, 0, 1<<20, rw, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	mem[1<<19] = 1
	return errors.Join(unix.Madvise(mem, unix.MADV_HUGEPAGE), unix.Madvise(mem, unix.MADV_DONTNEED), unix.Munmap(mem))
}

// endThreads: a goroutine that ends while locked takes its thread along.
func endThreads(*work) error {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { runtime.LockOSThread() })
	}
	all.Wait()
	return nil
}

// preempt stops the world while a goroutine runs that calls nothing. It returns only if
// the runtime's signal reaches the thread.
func preempt(*work) error {
	var busy atomic.Bool
	busy.Store(true)
	started := make(chan struct{})
	go func() {
		close(started)
		for busy.Load() { // compiled to a load and a jump: no call to be preempted at
		}
	}()
	<-started
	runtime.GC()
	busy.Store(false)
	return nil
}

func usage(*work) error {
	var spent unix.Rusage
	var since unix.Timespec
	return errors.Join(unix.Getrusage(unix.RUSAGE_SELF, &spent), unix.ClockGettime(unix.CLOCK_BOOTTIME, &since))
}

// relativePath: without PWD package os asks the kernel where it is.
func relativePath(*work) error {
	os.Unsetenv("PWD")
	_, err := filepath.Abs("dnsproxy.toml")
	return err
}

func (w *work) hangup() error {
	ask("SIGHUP")
	<-w.hangups
	w.order.awaitLine(w.control)
	signal.Stop(w.hangups)
	signal.Notify(w.hangups, syscall.SIGHUP)
	return nil
}

// stopped: the kernel resumes a thread's sleep by restart_syscall.
func (w *work) stopped() error {
	w.ask("SIGSTOP and SIGCONT")
	return nil
}

func panicDeep(n int) {
	if n == 0 {
		panic("as a fault would")
	}
	panicDeep(n - 1)
}

// waitForSignal says that it is ready and waits, in a read, for the signal that ends it.
func waitForSignal() {
	ask("SIGABRT")
	io.Copy(io.Discard, os.Stdin)
}
