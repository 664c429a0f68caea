package frontend

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/wire"
)

// echo is a Handler that knows every answer.
type echo struct{}

func (echo) AppendCached(dst []byte, q wire.Query, _ int, _ time.Time) ([]byte, bool) {
	return wire.AppendError(dst, q, wire.NXDomain, wire.EDE{}), true
}

func (echo) AppendAnswer(_ context.Context, dst []byte, q wire.Query, _ int) []byte {
	return wire.AppendError(dst, q, wire.NXDomain, wire.EDE{})
}

func bind(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.UDPConn)
}

// countWrites makes s count its system calls.
func countWrites(s *sender, n *int) {
	write := s.write
	s.write = func(fd uintptr) bool {
		*n++
		return write(fd)
	}
}

// receive reads one batch, and returns its size and how many system calls it took.
func receive(t testing.TB, r *receiver) (n, calls int) {
	t.Helper()
	recv := r.recv
	defer func() { r.recv = recv }()
	r.recv = func(fd uintptr) (int, syscall.Errno) {
		calls++
		return recv(fd)
	}
	if err := r.each(func(got int) bool { n = got; return false }); err != nil {
		t.Fatal(err)
	}
	return n, calls
}

func packed(t testing.TB, name string) []byte {
	t.Helper()
	b, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A batch of datagrams takes one recvmmsg(2) and one sendmmsg(2).
func TestBatchTakesOneSystemCallEachWay(t *testing.T) {
	for _, bound := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"} {
		server := bind(t, bound)
		port := server.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
		if bound[1] == ':' && bound != "[::]:0" {
			to = netip.AddrPortFrom(netip.IPv6Loopback(), port)
		}
		client := bind(t, netip.AddrPortFrom(to.Addr(), 0).String())
		s, err := newUDPSocket(server)
		if err != nil {
			t.Fatal(err)
		}
		var writes int
		countWrites(s.out, &writes)
		query := packed(t, "example.")
		for range batchSize {
			if _, err := client.WriteToUDPAddrPort(query, to); err != nil {
				t.Fatal(err)
			}
		}
		n, reads := receive(t, s.in)
		if n != batchSize || reads != 1 {
			t.Fatalf("%s: %d datagrams in %d calls, want %d in 1", bound, n, reads, batchSize)
		}
		for i := range n {
			msg, from := s.in.message(i)
			s.out.add(msg, from)
		}
		s.out.send()
		if writes != 1 {
			t.Errorf("%s: %d calls to send %d datagrams, want 1", bound, writes, n)
		}
		buf := make([]byte, 512)
		for range n {
			k, from, err := client.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatalf("%s: %v", bound, err)
			}
			if from.Port() != port || from.Addr().Unmap() != to.Addr() || k != len(query) {
				t.Errorf("%s: %d octets from %v, want %d from %v", bound, k, from, len(query), to)
			}
		}
	}
}

// Datagrams that come one by one take one call each: there is no look whether more have come.
func TestNoLookAtAnEmptySocket(t *testing.T) {
	server, client := bind(t, "127.0.0.1:0"), bind(t, "127.0.0.1:0")
	s, err := newUDPSocket(server)
	if err != nil {
		t.Fatal(err)
	}
	send := func() {
		if _, err := client.WriteTo([]byte("x"), server.LocalAddr()); err != nil {
			t.Error(err)
		}
	}
	calls, batches := 0, 0
	recv := s.in.recv
	s.in.recv = func(fd uintptr) (int, syscall.Errno) {
		calls++
		return recv(fd)
	}
	const n = 20
	send()
	if err := s.in.each(func(int) bool {
		batches++
		send()
		return batches < n
	}); err != nil {
		t.Fatal(err)
	}
	if calls > n+1 { // the first may come before the datagram
		t.Errorf("%d calls for %d datagrams", calls, n)
	}
}

// A datagram that cannot be sent does not keep the others.
func TestSendSkipsWhatCannotBeSent(t *testing.T) {
	server, client := bind(t, "127.0.0.1:0"), bind(t, "127.0.0.1:0")
	s, err := newUDPSocket(server)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := client.WriteTo([]byte("x"), server.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	for got := 0; got < 2; {
		n, _ := receive(t, s.in)
		for i := range n {
			msg, from := s.in.message(i)
			tooLarge := make([]byte, 1<<16)
			s.out.add(tooLarge, from) // EMSGSIZE
			s.out.add(msg, from)
		}
		s.out.send()
		got += n
	}
	buf := make([]byte, 16)
	for range 2 {
		if n, err := client.Read(buf); err != nil || n != 1 {
			t.Errorf("%d octets, %v", n, err)
		}
	}
}

// Answers that become ready together leave together.
func TestLateAnswersLeaveTogether(t *testing.T) {
	server, client := bind(t, "127.0.0.1:0"), bind(t, "127.0.0.1:0")
	s, err := newUDPSocket(server)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.WriteTo([]byte("x"), server.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	receive(t, s.in)
	msg, from := s.in.message(0)
	var writes int
	countWrites(s.late.out, &writes)
	s.late.sending = true // somebody is: the others leave theirs
	const n = 50
	for range n {
		s.late.send(&lateAnswer{socket: s, peer: *from, message: msg})
	}
	s.late.sending = false
	s.late.send(&lateAnswer{socket: s, peer: *from, message: msg})
	if writes != 1 {
		t.Errorf("%d calls for %d answers, want 1", writes, n+1)
	}
}

func newTestFrontend() *Frontend {
	return New(Sockets{}, echo{}, Limits{
		Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.0/8")}, Pending: 10, TCPClients: 10,
		TCPIdleTimeout: 10 * time.Second, UDPPayload: 1232,
	}, slog.New(slog.DiscardHandler))
}

func loopbackPeer() *peer {
	p := new(peer)
	copy(p.address[:], []byte{2, 0, 0xd4, 0x31, 127, 0, 0, 1}) // AF_INET in the byte order of all our machines
	return p
}

// The way of a hit allocates nothing, over UDP and over TCP.
func TestKnownAnswersAllocateNothing(t *testing.T) {
	f := newTestFrontend()
	query := packed(t, "www.example.")
	dst := make([]byte, 0, 4096)
	from, now := loopbackPeer(), time.Now()
	if n := testing.AllocsPerRun(100, func() {
		answer, pending := f.answerUDP(dst, nil, query, from, f.limits.Load(), now)
		if pending || len(answer) != len(query) {
			t.Fatalf("%d octets, pending %v", len(answer), pending)
		}
	}); n != 0 {
		t.Errorf("UDP: %v allocations", n)
	}
	c := &tcpClient{frontend: f, addr: netip.MustParseAddr("127.0.0.1")}
	var stream []byte
	for range 20 {
		stream = append(append(stream, 0, byte(len(query))), query...)
	}
	if n := testing.AllocsPerRun(100, func() {
		if answers, rest, ok := c.answerAll(dst, stream); !ok || len(rest) != 0 || len(answers) != len(stream) {
			t.Fatalf("%d octets, %d left, %v", len(answers), len(rest), ok)
		}
	}); n != 0 {
		t.Errorf("TCP: %v allocations", n)
	}
}

func BenchmarkAnswerUDP(b *testing.B) {
	f := newTestFrontend()
	query := packed(b, "www.example.")
	dst := make([]byte, 0, 4096)
	from, now := loopbackPeer(), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		f.answerUDP(dst, nil, query, from, f.limits.Load(), now)
	}
}

// BenchmarkBatch is what the kernel takes for a datagram each way, in batches.
func BenchmarkBatch(b *testing.B) {
	server, client := bind(b, "127.0.0.1:0"), bind(b, "127.0.0.1:0")
	s, err := newUDPSocket(server)
	if err != nil {
		b.Fatal(err)
	}
	server.SetDeadline(time.Time{})
	query := packed(b, "www.example.")
	to := server.LocalAddr().(*net.UDPAddr).AddrPort()
	buf := make([]byte, 512)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for range batchSize {
			client.WriteToUDPAddrPort(query, to)
		}
		b.StartTimer()
		n, _ := receive(b, s.in)
		for i := range n {
			msg, from := s.in.message(i)
			s.out.add(msg, from)
		}
		s.out.send()
		b.StopTimer()
		client.SetReadDeadline(time.Now().Add(time.Second))
		for range n {
			client.Read(buf)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batchSize, "ns/datagram")
}
