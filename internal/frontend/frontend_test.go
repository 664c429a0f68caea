package frontend_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/frontend"
	"dnsproxy/internal/wire"
)

// handler answers by the first label of the QNAME: "hit" is known, all else must be
// waited for; "wait" until release is closed.
type handler struct {
	release chan struct{}
	waiting chan struct{} // gets a token from each query that waits
}

func newHandler() *handler {
	return &handler{release: make(chan struct{}), waiting: make(chan struct{}, 100000)}
}

func first(q wire.Query) string { n := q.QName(); return string(n[1 : 1+n[0]]) }

func (h *handler) AppendCached(dst []byte, q wire.Query, limit int, _ time.Time) ([]byte, bool) {
	if first(q) != "hit" {
		return dst, false
	}
	return h.append(dst, q), true
}

func (h *handler) AppendAnswer(ctx context.Context, dst []byte, q wire.Query, limit int) []byte {
	if first(q) == "wait" {
		h.waiting <- struct{}{}
		select {
		case <-h.release:
		case <-ctx.Done():
			return wire.AppendError(dst, q, wire.ServFail, wire.EDE{})
		}
	}
	return h.append(dst, q)
}

func (h *handler) append(dst []byte, q wire.Query) []byte {
	r := wire.Record{Type: dns.TypeA, TTL: 60, Data: []byte{192, 0, 2, 1}}
	return wire.AppendLocal(dst, q, wire.NoError, &r, nil, wire.EDE{})
}

func limits() frontend.Limits {
	return frontend.Limits{
		Allow:   []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Pending: 1000, TCPClients: 100, TCPIdleTimeout: 10 * time.Second, UDPPayload: 1232,
	}
}

// server is a Frontend that serves one UDP and one TCP socket.
type server struct {
	*frontend.Frontend
	handler  *handler
	udp, tcp string
	stop     func() // ends Run, and returns once it has
}

func serve(t *testing.T, host string, l frontend.Limits) *server {
	t.Helper()
	udp, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	h := newHandler()
	s := &server{handler: h, udp: udp.LocalAddr().String(), tcp: tcp.Addr().String()}
	s.Frontend = frontend.New(frontend.Sockets{UDP: []*net.UDPConn{udp.(*net.UDPConn)}, TCP: []*net.TCPListener{tcp.(*net.TCPListener)}}, h, l, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, 5*time.Second) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		udp.Close()
		tcp.Close()
	})
	t.Cleanup(s.stop)
	return s
}

// client is a connection to a server, UDP or TCP.
type client struct {
	t *testing.T
	*dns.Conn
}

func dial(t *testing.T, network, addr string) *client {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t, &dns.Conn{Conn: conn, UDPSize: 4096}}
}

func query(name string) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeA)
	return m
}

func (c *client) send(m *dns.Msg) {
	c.t.Helper()
	if err := c.WriteMsg(m); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) receive() *dns.Msg {
	c.t.Helper()
	m, err := c.ReadMsg()
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *client) ask(m *dns.Msg) *dns.Msg {
	c.t.Helper()
	c.send(m)
	r := c.receive()
	if r.Id != m.Id {
		c.t.Fatalf("ID: got %d, want %d", r.Id, m.Id)
	}
	return r
}

func TestAnswersOverUDPAndTCP(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		s := serve(t, host, limits())
		for network, addr := range map[string]string{"udp": s.udp, "tcp": s.tcp} {
			c := dial(t, network, addr)
			for _, name := range []string{"hit.example.", "miss.example."} {
				if r := c.ask(query(name)); len(r.Answer) != 1 {
					t.Errorf("%s, %s: %v", network, name, r)
				}
			}
		}
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	s := serve(t, "127.0.0.1", limits())
	var wg sync.WaitGroup
	for i := range 50 {
		network, addr := "udp", s.udp
		if i%2 == 0 {
			network, addr = "tcp", s.tcp
		}
		c := dial(t, network, addr)
		wg.Go(func() {
			for j := range 20 {
				if r, _, err := new(dns.Client).ExchangeWithConn(query(fmt.Sprintf("m%d.example.", j)), c.Conn); err != nil || len(r.Answer) != 1 {
					t.Errorf("%s: %v %v", network, r, err)
				}
			}
		})
	}
	wg.Wait()
}

// RFC 5452, section 4.4: the answer comes from the address that was asked.
func TestWildcardSocketAnswersFromTheAddressAsked(t *testing.T) {
	for _, tt := range []struct{ bind, ask string }{{"0.0.0.0", "127.0.0.2"}, {"0.0.0.0", "127.0.0.1"}, {"::", "::1"}, {"::", "127.0.0.3"}} {
		s := serve(t, tt.bind, limits())
		_, port, _ := net.SplitHostPort(s.udp)
		c := dial(t, "udp", net.JoinHostPort(tt.ask, port)) // connected: takes answers from there only
		for _, name := range []string{"hit.example.", "miss.example."} {
			c.ask(query(name))
		}
	}
}

func TestMalformedQueriesGetTheirRCode(t *testing.T) {
	s := serve(t, "127.0.0.1", limits())
	for network, addr := range map[string]string{"udp": s.udp, "tcp": s.tcp} {
		c := dial(t, network, addr)
		for name, tt := range map[string]struct {
			edit func(m *dns.Msg)
			want int
		}{
			"two questions": {func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
			"update":        {func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
			"AXFR":          {func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }, dns.RcodeRefused},
			"EDNS 1":        {func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }, dns.RcodeBadVers},
		} {
			m := query("hit.example.")
			tt.edit(m)
			if r := c.ask(m); r.Rcode != tt.want {
				t.Errorf("%s over %s: got %d, want %d", name, network, r.Rcode, tt.want)
			}
		}
	}
}

// A response must not be answered: two that do would never stop.
func TestSilentToResponses(t *testing.T) {
	s := serve(t, "127.0.0.1", limits())
	c := dial(t, "udp", s.udp)
	m := query("hit.example.")
	m.Response = true
	c.send(m)
	c.Write([]byte("short"))
	later := query("hit.example.")
	if r := c.ask(later); r.Id != later.Id {
		t.Error("the response was answered")
	}
	if got := s.Stats().Ignored; got != 2 {
		t.Errorf("ignored: got %d, want 2", got)
	}
}

func TestClientsOutsideAllowAreRefused(t *testing.T) {
	l := limits()
	l.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	s := serve(t, "127.0.0.1", l)
	for network, addr := range map[string]string{"udp": s.udp, "tcp": s.tcp} {
		c := dial(t, network, addr)
		m := query("hit.example.")
		m.SetEdns0(1232, false)
		r := c.ask(m)
		if r.Rcode != dns.RcodeRefused || r.IsEdns0().Option[0].(*dns.EDNS0_EDE).InfoCode != dns.ExtendedErrorCodeProhibited {
			t.Errorf("%s: %v", network, r)
		}
		s.Apply(limits()) // a reload counts for those who are connected
		if r := c.ask(query("hit.example.")); r.Rcode != dns.RcodeSuccess {
			t.Errorf("%s after Apply: %v", network, r)
		}
		s.Apply(l)
	}
}

// RFC 7766, section 6.2.1.1: answers leave as they become ready.
func TestTCPAnswersOutOfOrder(t *testing.T) {
	s := serve(t, "127.0.0.1", limits())
	c := dial(t, "tcp", s.tcp)
	slow, fast := query("wait.example."), query("miss.example.")
	c.send(slow)
	<-s.handler.waiting
	if r := c.ask(fast); len(r.Answer) != 1 {
		t.Errorf("got %v", r)
	}
	close(s.handler.release)
	if r := c.receive(); r.Id != slow.Id {
		t.Errorf("got %v", r)
	}
}

// RFC 7766, section 8: a message may come in any number of segments.
func TestTCPQueryInPieces(t *testing.T) {
	s := serve(t, "127.0.0.1", limits())
	c := dial(t, "tcp", s.tcp)
	m := query("hit.example.")
	b, _ := m.Pack()
	b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	for i := range b {
		if _, err := c.Conn.Conn.Write(b[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if r := c.receive(); r.Id != m.Id {
		t.Errorf("got %v", r)
	}
}

// The largest message that there is, an OPT record with padding in it, and many small ones in one segment.
func TestTCPLargeAndManyQueries(t *testing.T) {
	s := serve(t, "127.0.0.1", limits())
	c := dial(t, "tcp", s.tcp)
	m := query("hit.example.")
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_PADDING{Padding: make([]byte, 60000)})
	c.ask(m)
	var all []byte
	const n = 500
	for i := range n {
		m := query([]string{"hit.example.", "miss.example."}[i%2])
		m.Id = uint16(i)
		b, _ := m.Pack()
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(b))), b...)
	}
	if _, err := c.Conn.Conn.Write(all); err != nil {
		t.Fatal(err)
	}
	seen := map[uint16]bool{}
	for range n {
		seen[c.receive().Id] = true
	}
	if len(seen) != n {
		t.Errorf("%d answers to %d queries", len(seen), n)
	}
}

// RFC 7766, section 6.2.4: a client that has sent its FIN still gets its answers.
func TestTCPHalfClose(t *testing.T) {
	s := serve(t, "127.0.0.1", limits())
	c := dial(t, "tcp", s.tcp)
	m := query("wait.example.")
	c.send(m)
	<-s.handler.waiting
	c.Conn.Conn.(*net.TCPConn).CloseWrite()
	close(s.handler.release)
	if r := c.receive(); r.Id != m.Id {
		t.Errorf("got %v", r)
	}
	if _, err := c.ReadMsg(); err == nil {
		t.Error("the connection is not closed")
	}
}

// RFC 9210, section 4.5: octets that make no query do not keep a connection.
func TestTCPIdleTimeout(t *testing.T) {
	l := limits()
	l.TCPIdleTimeout = 50 * time.Millisecond
	s := serve(t, "127.0.0.1", l)
	c := dial(t, "tcp", s.tcp)
	c.ask(query("hit.example."))
	go func() {
		for {
			if _, err := c.Conn.Conn.Write([]byte{0}); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond) // paces a slow sender; nothing depends on how slow
		}
	}()
	if _, err := io.ReadAll(c.Conn.Conn); err != nil && err.(net.Error).Timeout() {
		t.Error("a client that sends an octet at a time is kept")
	}
	waiting := dial(t, "tcp", s.tcp)
	waiting.send(query("wait.example."))
	<-s.handler.waiting
	time.AfterFunc(4*l.TCPIdleTimeout, func() { close(s.handler.release) })
	waiting.receive() // one that is owed an answer is not idle
}

func TestTooManyTCPClientsEvictTheIdlest(t *testing.T) {
	l := limits()
	l.TCPClients = 2
	s := serve(t, "127.0.0.1", l)
	first, second := dial(t, "tcp", s.tcp), dial(t, "tcp", s.tcp)
	first.ask(query("hit.example."))
	second.ask(query("hit.example."))
	third := dial(t, "tcp", s.tcp)
	third.ask(query("hit.example."))
	if _, err := first.ReadMsg(); err == nil {
		t.Error("the idlest client is still there")
	}
	second.send(query("wait.example."))
	third.send(query("wait.example."))
	<-s.handler.waiting
	<-s.handler.waiting
	fourth := dial(t, "tcp", s.tcp)
	if _, err := fourth.ReadMsg(); err == nil {
		t.Error("a client beyond the bound is served while nobody is idle")
	}
	close(s.handler.release)
	second.receive()
	third.receive()
}

func TestTooManyPendingQueriesAreShed(t *testing.T) {
	l := limits()
	l.Pending = 3
	s := serve(t, "127.0.0.1", l)
	c := dial(t, "udp", s.udp)
	for range l.Pending {
		c.send(query("wait.example."))
		<-s.handler.waiting
	}
	for network, addr := range map[string]string{"udp": s.udp, "tcp": s.tcp} {
		c := dial(t, network, addr)
		m := query("wait.example.")
		m.SetEdns0(1232, false)
		if r := c.ask(m); r.Rcode != dns.RcodeServerFailure || r.IsEdns0().Option[0].(*dns.EDNS0_EDE).InfoCode != dns.ExtendedErrorCodeNotReady {
			t.Errorf("%s: %v", network, r)
		}
		if r := c.ask(query("hit.example.")); r.Rcode != dns.RcodeSuccess {
			t.Errorf("a known answer needs no place: %v", r)
		}
	}
	close(s.handler.release)
	for range l.Pending {
		c.receive()
	}
}

func TestRunAnswersWhatIsInFlightBeforeItReturns(t *testing.T) {
	s := serve(t, "127.0.0.1", limits())
	udp, tcp := dial(t, "udp", s.udp), dial(t, "tcp", s.tcp)
	for _, c := range []*client{udp, tcp} {
		c.send(query("wait.example."))
		<-s.handler.waiting
	}
	time.AfterFunc(20*time.Millisecond, func() { close(s.handler.release) })
	s.stop()
	udp.receive()
	tcp.receive()
}

// What Run does not read stays in the socket for whoever serves it next.
func TestNextRunReadsWhatWasLeft(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	run := func(during func()) {
		f := frontend.New(frontend.Sockets{UDP: []*net.UDPConn{udp.(*net.UDPConn)}}, newHandler(), limits(), slog.New(slog.DiscardHandler))
		udp.SetReadDeadline(time.Time{})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx, time.Second) }()
		during()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	c := dial(t, "udp", udp.LocalAddr().String())
	run(func() { c.ask(query("hit.example.")) })
	for range 100 {
		c.send(query("hit.example."))
	}
	run(func() {
		for range 100 {
			c.receive()
		}
	})
}

func TestTCPClientThatDoesNotReadIsDropped(t *testing.T) {
	s := serve(t, "127.0.0.1", limits())
	c := dial(t, "tcp", s.tcp)
	b, _ := query("hit.example.").Pack()
	b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	for err := error(nil); err == nil; { // until both directions are full and the server gives up
		_, err = c.Conn.Conn.Write(b)
	}
}

// Each answer counts once, with the time that it took.
func TestTimesOfAnswers(t *testing.T) {
	s := serve(t, "127.0.0.1", limits())
	for network, addr := range map[string]string{"udp": s.udp, "tcp": s.tcp} {
		c := dial(t, network, addr)
		c.ask(query("hit.example."))
		c.ask(query("hit.example."))
		c.ask(query("www.example."))
	}
	s.stop() // what was sent is counted then
	st := s.Stats()
	if st.KnownTimes.Count() != 4 || st.WaitedTimes.Count() != 2 {
		t.Errorf("%d known, %d waited for, want 4 and 2", st.KnownTimes.Count(), st.WaitedTimes.Count())
	}
	if st.KnownTimes.Sum <= 0 || st.KnownTimes.Sum > time.Minute || st.WaitedTimes.Sum <= 0 || st.WaitedTimes.Sum > time.Minute {
		t.Errorf("took %v and %v", st.KnownTimes.Sum, st.WaitedTimes.Sum)
	}
}
