package dot

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"time"
)

const (
	// connectTimeout leaves room for one lost SYN, which the kernel repeats after 1 s.
	connectTimeout = 1500 * time.Millisecond
	// handshakeTimeout is for two round trips and a certificate chain.
	handshakeTimeout = 2 * time.Second

	firstBackOff = 100 * time.Millisecond
	maxBackOff   = 5 * time.Second
	// forceEvery is how often queries may cut a back-off short.
	forceEvery = 100 * time.Millisecond
)

// attempt is the state of opening sessions. The client's mutex guards it.
type attempt struct {
	running  bool
	started  time.Time
	failures int       // in a row, up to the next response
	until    time.Time // of the back-off
	err      error     // of the last attempt or session, nil after a response
	timer    *time.Timer
}

// mayForce reports whether a query may start an attempt now.
func (a *attempt) mayForce(now time.Time) bool {
	return a.err == nil || !now.Before(a.until) || now.Sub(a.started) >= forceEvery
}

// failed notes a failure and returns for how long to wait: half of a span that
// doubles, and a random part of the other half, so that clients do not come
// back in step.
func (a *attempt) failed(err error, now time.Time) time.Duration {
	span := min(firstBackOff<<min(a.failures, 10), maxBackOff)
	wait := span/2 + rand.N(span/2)
	a.failures++
	a.err, a.until = err, now.Add(wait)
	return wait
}

// succeeded notes a response, which alone shows that the upstream works.
func (a *attempt) succeeded() {
	a.failures, a.err, a.until = 0, nil, time.Time{}
}

// startLocked starts an attempt; none may be running.
func (c *Client) startLocked(now time.Time) {
	c.attempt.running, c.attempt.started = true, now
	c.attempt.timer.Stop()
	c.stats.Attempts++
	c.wg.Go(c.open)
}

// reopen is called when a back-off ends.
func (c *Client) reopen() {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := c.current == nil || c.current.suspect
	if !c.closed && wanted && !c.attempt.running && c.demand.recent(now) {
		c.startLocked(now)
	}
}

// open makes one attempt, and then serves the session that came of it.
func (c *Client) open() {
	conn, err := c.connect(c.ctx)
	now := time.Now()
	c.mu.Lock()
	c.attempt.running = false
	if err != nil || c.closed {
		c.failedLocked(err, now)
		c.mu.Unlock()
		if conn != nil {
			conn.NetConn().Close()
		}
		return
	}
	s := newSession(c, conn, now)
	c.installLocked(s, now)
	c.wg.Go(s.write)
	c.mu.Unlock()
	s.read()
}

// failedLocked notes that an attempt failed, and tells the queries that waited for it.
func (c *Client) failedLocked(err error, now time.Time) {
	if c.closed {
		c.failWaitingLocked(c.errorf(Shutdown, "", errShutdown))
		return
	}
	c.stats.Failed++
	if c.stats.FailedBy == nil {
		c.stats.FailedBy = make(map[Reason]uint64)
	}
	c.stats.FailedBy[ReasonOf(err)]++
	wait := c.attempt.failed(err, now)
	c.downLocked(err, now)
	c.failWaitingLocked(err)
	if c.demand.recent(now) {
		c.attempt.timer.Reset(wait)
	}
}

// installLocked makes s the session that takes queries. Those in flight on the one that
// it replaces are sent again on it if that is still silent; that one stays for
// a while, for late responses.
func (c *Client) installLocked(s *session, now time.Time) {
	old := c.current
	c.endReplacedLocked()
	c.current = s
	c.sessions = append(c.sessions, s)
	for q := c.waiting.pop(); q != nil; q = c.waiting.pop() {
		s.enqueueLocked(q)
	}
	switch {
	case old == nil:
	case old.suspect:
		c.resendLocked(old, s)
		old.retireLocked(replaced, now)
	default: // it was heard of meanwhile, and will answer what is in flight
		old.retireLocked(drained, now)
	}
	c.openedLocked(s, now)
}

// endReplacedLocked ends sessions that were replaced before: only one lingers.
func (c *Client) endReplacedLocked() {
	for _, s := range slices.Clone(c.sessions) {
		if s.retired == replaced {
			s.leaveLocked(replaced)
		}
	}
}

// resendLocked queues on s what is in flight on old.
func (c *Client) resendLocked(old, s *session) {
	for _, q := range c.table.byID {
		if q.on != old {
			continue
		}
		if q.at >= 0 {
			old.queue.drop(q)
		} else {
			q.before, q.resent = old, true
			c.stats.Resent++
		}
		old.inFlight--
		s.enqueueLocked(q)
	}
}

// suspectLocked notes that s is silent, and opens a replacement unless one is on its way or
// was tried too recently.
func (c *Client) suspectLocked(s *session, now time.Time) {
	if s != c.current || c.closed {
		return
	}
	if !s.suspect {
		s.suspect = true
		c.stats.Suspected++
		c.log.Debug("session suspect", "silent", now.Sub(s.heard).Round(time.Millisecond))
	}
	if c.attempt.running || !c.attempt.mayForce(now) {
		return
	}
	if s.responses == 0 {
		// A peer that takes sessions and never answers is not worth a storm of them.
		if now.Before(c.attempt.until) {
			return
		}
		err := c.errorf(Timeout, "", errSilent)
		c.attempt.failed(err, now)
		c.downLocked(err, now)
	}
	c.startLocked(now)
}

var errSilent = errors.New("no response on a new session")

// connect dials and shakes hands.
func (c *Client) connect(ctx context.Context) (*tls.Conn, error) {
	raw, err := c.reach(ctx)
	if err != nil {
		return nil, err
	}
	return c.secure(ctx, raw)
}

// reach dials. The error is an *Error, as that of secure.
func (c *Client) reach(ctx context.Context) (net.Conn, error) {
	raw, err := c.dial(ctx)
	if err != nil {
		return nil, c.errorf(reasonOfIO(err), "connecting", plainDial(err))
	}
	return raw, nil
}

// secure shakes hands over raw, which it closes if that fails.
func (c *Client) secure(ctx context.Context, raw net.Conn) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn, err := c.handshake(ctx, raw)
	if err != nil {
		raw.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			err = errHandshakeTimeout
		}
		reason, err := explain(err)
		return nil, c.errorf(reason, "TLS handshake", err)
	}
	return conn, nil
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if c.e.Dial != nil {
		return c.e.Dial(ctx, c.e.Addr)
	}
	return dialTCP(ctx, c.e.Addr)
}

// timeoutError is a deadline of ours that passed.
type timeoutError string

func (e timeoutError) Error() string { return string(e) }
func (e timeoutError) Unwrap() error { return context.DeadlineExceeded }

var (
	errConnectTimeout   = timeoutError("timed out after " + connectTimeout.String())
	errHandshakeTimeout = timeoutError("timed out after " + handshakeTimeout.String() +
		" (the peer is frozen, or something on the way drops a large ClientHello)")
)

func plainDial(err error) error {
	if reasonOfIO(err) == Timeout {
		return errConnectTimeout
	}
	return plain(err)
}

// plain takes off what net says of addresses, since the Error has the one that matters.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// handshake authenticates the peer at the end of raw. Queries may be written once it has
// returned, not before.
func (c *Client) handshake(ctx context.Context, raw net.Conn) (*tls.Conn, error) {
	return handshake(ctx, raw, c.tls, c.e.Suites)
}

// handshake makes one that offers suites, all if there are none.
func handshake(ctx context.Context, raw net.Conn, config *tls.Config, suites []uint16) (*tls.Conn, error) {
	helloMu.Lock()
	offerLocked(suites)
	rec := newRecordConn(raw, helloMu.Unlock)
	conn := tls.Client(rec, config)
	err := conn.HandshakeContext(ctx)
	if rec.beforeHello != nil {
		helloMu.Unlock() // failed before there was a ClientHello
	}
	rec.established()
	return conn, err
}
