package upstream_test

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/upstream"
	"dnsproxy/internal/wire"
)

// mode is what a fakeServer does.
type mode int

const (
	serving mode = iota
	frozen       // sessions stay open, nothing answers, connects hang: SIGSTOP, a half-open peer, dropped packets
	gone         // sessions are reset, connects refused
)

var (
	errClosed  = errors.New("session closed by peer")
	errRefused = errors.New("connection refused")
	errSilent  = errors.New("no response on a new session")
)

// fakeServer is what stands behind fakeClients of one address.
type fakeServer struct {
	mu         sync.Mutex
	mode       mode
	delay      time.Duration // of answers
	handshake  time.Duration
	dropEvery  int // the n-th query is never answered
	slowEvery  int // the n-th query is answered after slow
	slow       time.Duration
	closeAfter int // queries on one session; the one after it resets it
	queries    []time.Time
	dials      []time.Time
	backlog    []func()
	sessions   map[*fakeSession]bool
	clients    []*fakeClient
}

func newServer(delay time.Duration) *fakeServer {
	return &fakeServer{delay: delay, slow: 500 * time.Millisecond, handshake: 10 * time.Millisecond, sessions: map[*fakeSession]bool{}}
}

// set changes the server's mode.
func (s *fakeServer) set(m mode) {
	s.mu.Lock()
	s.mode = m
	backlog := s.backlog
	if m != frozen {
		s.backlog = nil
	} else {
		backlog = nil
	}
	var dead []*fakeSession
	if m == gone {
		for f := range s.sessions {
			dead = append(dead, f)
		}
		clear(s.sessions)
	}
	s.mu.Unlock()
	for _, f := range dead {
		f.client.end(f, errClosed)
	}
	for _, f := range backlog {
		f()
	}
}

func (s *fakeServer) configure(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// seen returns how many queries have come since t.
func (s *fakeServer) seen(since time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return after(s.queries, since)
}

func (s *fakeServer) dialled(since time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return after(s.dials, since)
}

func after(times []time.Time, since time.Time) (n int) {
	for _, t := range times {
		if !t.Before(since) {
			n++
		}
	}
	return n
}

// do runs f after d unless the server is frozen by then, or when it thaws.
func (s *fakeServer) do(d time.Duration, f func()) {
	time.AfterFunc(d, func() {
		s.mu.Lock()
		if s.mode == frozen {
			s.backlog = append(s.backlog, f)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		f()
	})
}

type fakeSession struct {
	client   *fakeClient
	received time.Time
	queries  int
	void     bool // half-open: what is sent on it vanishes
	suspect  bool
	ended    bool
	answers  int
	waiting  map[*fakePending]bool
}

// fakeClient behaves as dot.Client says it does.
type fakeClient struct {
	server   *fakeServer
	endpoint dot.Endpoint

	mu      sync.Mutex
	session *fakeSession // the one for new queries
	old     *fakeSession // the one before
	dialing bool
	fails   int
	until   time.Time
	err     error
	rtt     time.Duration
	rttvar  time.Duration
	queue   []*fakePending
	closed  bool
	sends   []time.Time
	dialled time.Time
	wanted  time.Time
	late    int // responses to cancelled queries
	opens   int
	live    int // queries neither answered nor given up
}

type fakePending struct {
	client  *fakeClient
	session *fakeSession
	resent  bool
	sent    time.Time
	results chan<- dot.Result
	over    bool
}

func (c *fakeClient) Send(q wire.Query, results chan<- dot.Result, _ *dot.Pending) upstream.Pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sends = append(c.sends, time.Now())
	c.wanted = time.Now()
	p := &fakePending{client: c, results: results, sent: time.Now()}
	c.live++
	if c.closed {
		p.finishLocked(dot.Result{Err: errClosed})
		return p
	}
	if c.session != nil {
		c.putLocked(p)
		return p
	}
	if time.Now().Before(c.until) && !c.dialing && time.Since(c.dialled) < 100*time.Millisecond {
		p.finishLocked(dot.Result{Err: c.err})
		return p
	}
	c.queue = append(c.queue, p)
	c.dialLocked()
	return p
}

func (c *fakeClient) Open() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opens++
	c.wanted = time.Now()
	if c.session == nil && time.Now().After(c.until) {
		c.dialLocked()
	}
}

// putLocked sends p on the session.
func (c *fakeClient) putLocked(p *fakePending) {
	f, s := c.session, c.server
	p.session, p.sent = f, time.Now()
	f.waiting[p] = true
	f.queries++
	s.mu.Lock()
	s.queries = append(s.queries, time.Now())
	drop := s.dropEvery > 0 && len(s.queries)%s.dropEvery == 0
	reset := s.closeAfter > 0 && f.queries > s.closeAfter
	delay := s.delay
	if s.slowEvery > 0 && len(s.queries)%s.slowEvery == 0 {
		delay = s.slow
	}
	s.mu.Unlock()
	switch {
	case reset:
		s.do(0, func() { c.end(f, errClosed) })
	case !drop && !f.void:
		s.do(delay, func() { c.receive(f, p) })
	}
}

func (c *fakeClient) dialLocked() {
	if c.dialing || c.closed {
		return
	}
	c.dialing, c.dialled = true, time.Now()
	s := c.server
	s.mu.Lock()
	s.dials = append(s.dials, time.Now())
	refused, handshake := s.mode == gone, s.handshake
	s.mu.Unlock()
	if refused {
		time.AfterFunc(time.Millisecond, c.refused)
		return
	}
	s.do(handshake, c.connected)
}

func (c *fakeClient) refused() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialing = false
	c.failedLocked(errRefused)
	queue := c.queue
	c.queue = nil
	for _, p := range queue {
		p.finishLocked(dot.Result{Err: errRefused})
	}
}

// failedLocked backs off.
func (c *fakeClient) failedLocked(err error) {
	c.err = err
	wait := min(100*time.Millisecond<<min(c.fails, 10), 5*time.Second)
	c.until = time.Now().Add(wait)
	c.fails++
	time.AfterFunc(wait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if (c.session == nil || c.session.suspect) && time.Since(c.wanted) < 10*time.Second && !time.Now().Before(c.until) {
			c.dialLocked()
		}
	})
}

func (c *fakeClient) connected() {
	c.server.mu.Lock()
	refused := c.server.mode == gone
	c.server.mu.Unlock()
	if refused {
		c.refused()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialing = false
	if c.closed {
		return
	}
	old := c.session
	c.session = &fakeSession{client: c, waiting: map[*fakePending]bool{}}
	c.server.mu.Lock()
	c.server.sessions[c.session] = true
	c.server.mu.Unlock()
	queue := c.queue
	c.queue = nil
	if c.old != nil { // only one lingers
		c.old.ended = true
	}
	c.old = old
	if old != nil {
		for p := range old.waiting {
			p.resent = true
			queue = append(queue, p)
		}
	}
	for _, p := range queue {
		if !p.over {
			c.putLocked(p)
		}
	}
}

// end ends a session.
func (c *fakeClient) end(f *fakeSession, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == f {
		c.session = nil
	}
	f.ended = true
	for p := range f.waiting {
		if p.session == f {
			p.finishLocked(dot.Result{Err: err})
		}
	}
}

func (c *fakeClient) receive(f *fakeSession, p *fakePending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.ended {
		return
	}
	f.received, f.suspect = time.Now(), false
	f.answers++
	c.fails, c.err, c.until = 0, nil, time.Time{}
	delete(f.waiting, p)
	delete(p.session.waiting, p)
	if p.over {
		c.late++
		return
	}
	took := time.Since(p.sent)
	if p.resent {
		// says nothing of the time (RFC 6298, section 3)
	} else if c.rtt == 0 {
		c.rtt, c.rttvar = took, took/2
	} else {
		c.rttvar += (max(took-c.rtt, c.rtt-took) - c.rttvar) / 4
		c.rtt += (took - c.rtt) / 8
	}
	p.finishLocked(dot.Result{Response: wire.FromPacked([]byte(c.endpoint.Upstream))})
}

func (p *fakePending) finishLocked(r dot.Result) {
	if !p.over {
		p.over = true
		p.client.live--
		p.results <- r
	}
}

func (p *fakePending) Cancel() bool {
	p.client.mu.Lock()
	defer p.client.mu.Unlock()
	if p.over {
		return false
	}
	p.over = true
	p.client.live--
	if p.session != nil {
		delete(p.session.waiting, p)
	}
	return true
}

func (p *fakePending) Silent() bool {
	c := p.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.over || p.session != nil && p.session.received.After(p.sent) {
		return false
	}
	if p.session != nil && p.session == c.session {
		c.session.suspect = true
		if !time.Now().Before(c.until) && !c.dialing {
			if c.session.answers == 0 {
				c.failedLocked(errSilent)
			}
			c.dialLocked()
		}
	}
	return true
}

func (c *fakeClient) Health() dot.Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := dot.Health{RTT: c.rtt, RTTVar: c.rttvar, Until: c.until, Err: c.err}
	h.Pending = c.live
	switch {
	case c.session != nil && c.session.suspect:
		h.State = dot.Suspect
	case c.session != nil:
		h.State = dot.Ready
	case c.dialing:
		h.State = dot.Connecting
	case time.Now().Before(c.until):
		h.State = dot.BackingOff
	}
	return h
}

func (c *fakeClient) Stats() dot.Stats { return dot.Stats{} }

func (c *fakeClient) Close() {
	c.mu.Lock()
	f := c.session
	c.closed = true
	c.mu.Unlock()
	if f != nil {
		c.end(f, errClosed)
	}
}

// sent returns how many queries the client was given since t.
func (c *fakeClient) sent(since time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return after(c.sends, since)
}

// lateResponses returns how many responses came to queries that were given up.
func (c *fakeClient) lateResponses() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.late
}

func (c *fakeClient) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// net is a set of fake servers by address.
type network map[netip.AddrPort]*fakeServer

func (n network) dial(e dot.Endpoint, _ *slog.Logger) upstream.Client {
	c := &fakeClient{server: n[e.Addr], endpoint: e}
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.server.clients = append(c.server.clients, c)
	return c
}
