// Package dottest is a DNS-over-TLS server for tests that misbehaves to order:
// it delays, reorders, closes, resets, freezes, and presents whatever
// certificate the test wants.
//
// It serves TCP on loopback, or, with [InMemory], connections in memory that a synctest
// bubble can wait for. It is for tests alone.
package dottest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/spki"
)

// Server is a DoT server. Its methods are safe for concurrent use.
type Server struct {
	t      testing.TB
	ca     *CA
	memory bool
	idle   time.Duration // 0: none
	nagle  bool
	addr   netip.AddrPort
	wg     sync.WaitGroup

	mu       sync.Mutex
	config   *tls.Config
	listener net.Listener // nil while stopped, or in memory
	stopped  bool
	dropping bool
	open     chan struct{} // closed unless frozen
	conns    map[*Conn]struct{}
	action   Action
	script   []Action
	seen     map[dns.Question]bool
	stats    Stats
	hellos   [][]byte
}

// Stats is what a server has counted.
type Stats struct {
	Connections int
	Handshakes  int // completed
	Resumed     int // of those
	Queries     int
	Duplicates  int   // queries with a question that came before
	PerConn     []int // queries, in the order of connections
	Records     []int // TLS records of application data, client's Finished and close_notify included
	NotPadded   int   // queries whose size is no multiple of 128
	Open        int   // connections open now
}

// Option changes a server before it starts.
type Option func(*Server)

// InMemory makes the server listen nowhere: Endpoint's Dial reaches it.
func InMemory() Option { return func(s *Server) { s.memory = true } }

// WithCA makes the server use that CA.
func WithCA(ca *CA) Option { return func(s *Server) { s.ca = ca } }

// WithTLS lets f change the TLS configuration.
func WithTLS(f func(*tls.Config)) Option { return func(s *Server) { f(s.config) } }

// WithAction sets what becomes of queries.
func WithAction(a Action) Option { return func(s *Server) { s.action = a } }

// WithHandler answers queries with what f returns; nil is no answer at all.
func WithHandler(f func(*dns.Msg) *dns.Msg) Option { return WithAction(Handle(f)) }

// WithIdleTimeout makes the server close connections that get no query for d.
func WithIdleTimeout(d time.Duration) Option { return func(s *Server) { s.idle = d } }

// WithNagle leaves Nagle's algorithm on, as servers written in C often do.
func WithNagle() Option { return func(s *Server) { s.nagle = true } }

// WithAddr sets the address to listen on, "127.0.0.1:0" otherwise.
func WithAddr(addr string) Option {
	return func(s *Server) { s.addr = netip.MustParseAddrPort(addr) }
}

// New starts a server that answers every query with one A record, and stops with the test.
func New(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := &Server{
		t:      t,
		addr:   netip.MustParseAddrPort("127.0.0.1:0"),
		open:   make(chan struct{}),
		conns:  make(map[*Conn]struct{}),
		seen:   make(map[dns.Question]bool),
		action: Answer,
		config: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"dot"}},
	}
	close(s.open)
	for _, o := range opts {
		o(s)
	}
	if s.ca == nil {
		s.ca = NewCA(t)
	}
	if len(s.config.Certificates) == 0 {
		s.config.Certificates = []tls.Certificate{s.ca.Issue(Leaf{})}
	}
	s.rotateLocked()
	if s.memory {
		s.addr = netip.MustParseAddrPort("192.0.2.1:853")
	}
	s.stopped = true
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// rotateLocked makes the server forget all tickets that it has given.
func (s *Server) rotateLocked() {
	var key [32]byte
	rand.Read(key[:])
	s.config = s.config.Clone()
	s.config.SetSessionTicketKeys([][32]byte{key})
}

// Start listens, again on the address that it had if the server was stopped.
func (s *Server) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		return
	}
	s.stopped = false
	if s.memory {
		return
	}
	l, err := net.Listen("tcp", s.addr.String())
	if err != nil {
		s.t.Errorf("dottest: %v", err)
		return
	}
	s.listener = l
	s.addr = l.Addr().(*net.TCPAddr).AddrPort()
	s.wg.Go(func() { s.accept(l) })
}

// Stop refuses connections, and closes those that are open.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped = true
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
	s.mu.Unlock()
	s.CloseAll()
}

// Close stops the server and waits for its goroutines.
func (s *Server) Close() {
	s.Thaw()
	s.Stop()
	s.mu.Lock()
	for c := range s.conns {
		c.raw.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Server) accept(l net.Listener) {
	for {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		if s.nagle {
			raw.(*net.TCPConn).SetNoDelay(false)
		}
		s.serve(raw)
	}
}

func (s *Server) serve(raw net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		raw.Close()
		return
	}
	c := &Conn{s: s, raw: raw, rec: &recorder{Conn: raw}, index: s.stats.Connections, done: make(chan struct{})}
	c.tls = tls.Server(c.rec, s.config)
	s.stats.Connections++
	s.stats.PerConn = append(s.stats.PerConn, 0)
	s.stats.Records = append(s.stats.Records, 0)
	s.conns[c] = struct{}{}
	if p, ok := raw.(*pipeConn); ok && s.dropping {
		p.setDrop(true)
	}
	s.wg.Go(c.run)
}

// dial connects in memory.
func (s *Server) dial(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
	retry := time.NewTicker(time.Second) // as the kernel repeats a SYN
	defer retry.Stop()
	for {
		s.mu.Lock()
		stopped, dropping := s.stopped, s.dropping
		s.mu.Unlock()
		switch {
		case dropping:
		case stopped:
			return nil, &net.OpError{Op: "dial", Net: "pipe", Err: syscall.ECONNREFUSED}
		default:
			client, server := pipe()
			s.serve(server)
			return client, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-retry.C:
		}
	}
}

// Endpoint returns an endpoint for the server, authenticated by name.
func (s *Server) Endpoint() dot.Endpoint {
	e := dot.Endpoint{
		Upstream:   "test",
		Addr:       s.Addr(),
		ServerName: Name,
		Roots:      s.ca.Pool(),
		RootsID:    s.ca.Pin().String(),
	}
	if s.memory {
		e.Dial = s.dial
	}
	return e
}

// Addr returns where the server listens.
func (s *Server) Addr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// CA returns the server's CA.
func (s *Server) CA() *CA { return s.ca }

// Pin returns the pin of the leaf that is presented now.
func (s *Server) Pin() spki.Pin {
	s.mu.Lock()
	defer s.mu.Unlock()
	return spki.Of(s.config.Certificates[0].Leaf)
}

// Present changes the certificate for the handshakes to come, and makes the server forget its tickets,
// as one that is restarted does.
func (s *Server) Present(cert tls.Certificate) {
	s.ChangeTLS(func(c *tls.Config) { c.Certificates = []tls.Certificate{cert} })
}

// Rekey presents a new key and certificate of the same CA, and returns its pin.
func (s *Server) Rekey() spki.Pin {
	s.Present(s.ca.Issue(Leaf{}))
	return s.Pin()
}

// ChangeTLS changes the configuration for the handshakes to come, and makes the server
// forget its tickets.
func (s *Server) ChangeTLS(f func(*tls.Config)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rotateLocked()
	f(s.config)
}

// KeepTickets presents a certificate as Present does, and still knows the tickets given before.
func (s *Server) KeepTickets(cert tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config = s.config.Clone()
	s.config.Certificates = []tls.Certificate{cert}
}

// Do sets what becomes of queries from now on, when the script is done.
func (s *Server) Do(a Action) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.action = a
}

// Script sets what becomes of the next queries, one by one.
func (s *Server) Script(actions ...Action) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = actions
}

func (s *Server) next() Action {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.script) > 0 {
		a := s.script[0]
		s.script = s.script[1:]
		return a
	}
	return s.action
}

// Freeze makes the server do nothing at all, while connections stay open and are accepted, as
// SIGSTOP does.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.open:
		s.open = make(chan struct{})
	default:
	}
}

// Thaw ends Freeze: all that came meanwhile is served.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.open:
	default:
		close(s.open)
	}
}

// wait waits while the server is frozen.
func (s *Server) wait() {
	s.mu.Lock()
	open := s.open
	s.mu.Unlock()
	<-open
}

// Drop makes the network lose everything in either direction, connects
// included, or not. It is for servers in memory.
func (s *Server) Drop(drop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropping = drop
	for c := range s.conns {
		c.raw.(*pipeConn).setDrop(drop)
	}
}

// DropNew makes the network lose everything on connections to come, or not, and leaves those that are
// open as they are: with false, it is as if a router had been restarted and had forgotten them.
func (s *Server) DropNew(drop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropping = drop
}

// CloseAll closes all connections with close_notify and FIN.
func (s *Server) CloseAll() {
	for _, c := range s.list() {
		c.Close()
	}
}

// ResetAll ends all connections with RST.
func (s *Server) ResetAll() {
	for _, c := range s.list() {
		c.Reset()
	}
}

func (s *Server) list() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*Conn
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// Stats returns what the server has counted so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		s.noteRecordsLocked(c)
	}
	st := s.stats
	st.PerConn = slices.Clone(st.PerConn)
	st.Records = slices.Clone(st.Records)
	st.Open = len(s.conns)
	return st
}

func (s *Server) noteRecordsLocked(c *Conn) {
	c.rec.mu.Lock()
	defer c.rec.mu.Unlock()
	s.stats.Records[c.index] = c.rec.records
}

// Hellos returns the ClientHello messages received so far, without their record headers.
func (s *Server) Hellos() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.hellos)
}

func (s *Server) note(c *Conn, msg *dns.Msg, size int) (seq, connSeq int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Queries++
	s.stats.PerConn[c.index]++
	if size%128 != 0 {
		s.stats.NotPadded++
	}
	if msg != nil && len(msg.Question) == 1 {
		if s.seen[msg.Question[0]] {
			s.stats.Duplicates++
		}
		s.seen[msg.Question[0]] = true
	}
	return s.stats.Queries, s.stats.PerConn[c.index]
}

func (s *Server) noteHello(c *Conn) {
	c.rec.mu.Lock()
	hello := c.rec.hello
	c.rec.mu.Unlock()
	if hello != nil {
		s.hellos = append(s.hellos, hello)
	}
}

func (s *Server) noteHandshake(c *Conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteHello(c)
	if err != nil {
		return
	}
	s.stats.Handshakes++
	if c.tls.ConnectionState().DidResume {
		s.stats.Resumed++
	}
}

func (s *Server) gone(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteRecordsLocked(c)
	delete(s.conns, c)
}

// handshakeTimeout bounds the server's side of a handshake.
const handshakeTimeout = 10 * time.Second
