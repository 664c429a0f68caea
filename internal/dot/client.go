package dot

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"log/slog"
	"sync"
	"time"

	"dnsproxy/internal/wire"
)

// Client holds one session to one endpoint, opened when first needed, and for
// moments a second beside it: its replacement, or one that is being left.
type Client struct {
	e      Endpoint
	log    *slog.Logger
	tls    *tls.Config
	ctx    context.Context // of dialing; ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex // guards what follows, and all sessions' and queries' fields that say so
	closed   bool
	table    table
	current  *session   // takes new queries; nil: none
	sessions []*session // all that live, current included
	waiting  queue      // queries that wait for the attempt under way
	attempt  attempt
	idle     idle
	demand   demand
	rtt      estimator
	journal  journal
	stats    Stats
}

// NewClient returns a client that has not dialled yet.
func NewClient(e Endpoint, log *slog.Logger) *Client {
	c := &Client{
		e:     e,
		log:   log.With("upstream", e.Upstream, "address", e.Addr.String()),
		table: newTable(),
	}
	c.tls = newTLSConfig(&c.e)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.attempt.timer = time.AfterFunc(time.Hour, c.reopen)
	c.attempt.timer.Stop()
	return c
}

// Endpoint returns what NewClient was given.
func (c *Client) Endpoint() Endpoint { return c.e }

// Pending is a query in flight. The zero value is one that has ended.
type Pending struct {
	c   *Client
	q   *query
	gen uint32
}

// Send sends q and delivers exactly one Result to results, which must have room
// for it, unless the Pending is cancelled first. It does not block. Without a
// session, the query waits for the one that is then dialled; while backing off, an attempt
// is made all the same, at most once in 100 ms, and between those the query
// fails at once with the last attempt's error. Nothing of q is kept.
func (c *Client) Send(q wire.Query, results chan<- Result) Pending {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Queries++
	c.demand.note(now)
	if err := c.refusalLocked(now); err != nil {
		c.deliver(results, Result{Err: err})
		return Pending{}
	}
	p := c.table.add(now)
	if p == nil {
		c.deliver(results, Result{Err: c.errorf(Busy, "", errNoID)})
		return Pending{}
	}
	p.results = results
	p.msg = wire.AppendUpstream(p.msg[:0], q, p.id, false)
	p.q = mustParse(p.msg[lengthLen:])
	if c.current == nil {
		c.waiting.push(p)
	} else {
		c.current.enqueueLocked(p)
	}
	return Pending{c, p, p.gen}
}

// lengthLen is the size of a message's length (RFC 1035, section 4.2.2).
const lengthLen = 2

// mustParse gives a query on our own bytes, so that the caller's may be reused.
func mustParse(msg []byte) wire.Query {
	q, err := wire.ParseQuery(msg)
	if err != nil {
		panic("dot: internal error: own query does not parse: " + err.Error())
	}
	return q
}

// refusalLocked sees to it that a session is there or on its way, or says why not.
func (c *Client) refusalLocked(now time.Time) error {
	if c.closed {
		return c.errorf(Shutdown, "", errShutdown)
	}
	if s := c.current; s != nil && s.staleLocked(now) {
		s.leaveLocked(theirsGone)
	}
	if c.current != nil || c.attempt.running {
		return nil
	}
	if !c.attempt.mayForce(now) {
		return c.attempt.err
	}
	c.startLocked(now)
	return nil
}

// deliver hands over a result.
func (c *Client) deliver(results chan<- Result, r Result) {
	r.Client = c
	select {
	case results <- r:
	default:
		panic("dot: internal error: no room for a result")
	}
}

// Cancel gives up on the response, and reports whether it came in time: if
// not, the Result has been delivered or is about to be. The query's ID stays
// out of use for a while.
func (p Pending) Cancel() bool {
	if p.c == nil {
		return false
	}
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.q.gen != p.gen {
		return false
	}
	c.stats.Cancelled++
	c.endLocked(p.q, time.Now())
	c.table.recycle(p.q)
	return true
}

// endLocked takes a query off the table and off the queue that it may wait in.
// It sets the ID aside if the query was written and not answered everywhere.
func (c *Client) endLocked(q *query, now time.Time) {
	written := q.before != nil || q.on != nil && q.at < 0
	if q.at >= 0 {
		if q.on != nil {
			q.on.queue.drop(q)
		} else {
			c.waiting.drop(q)
		}
	}
	if q.on != nil {
		q.on.inFlight--
	}
	c.table.end(q, written, now)
}

// Silent reports whether nothing at all has been received since p was sent on the
// session that p was sent on, or whether p still waits for a session. A silent session is
// suspect: the client opens a replacement beside it, sends what is in flight
// there again on that, and says Suspect until a response arrives on either.
func (p Pending) Silent() bool {
	if p.c == nil {
		return false
	}
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case p.q.gen != p.gen:
		return false
	case p.q.on == nil:
		return true
	case p.q.on.heard.After(p.q.since):
		return false
	}
	c.suspectLocked(p.q.on, time.Now())
	return true
}

// Open opens a session in the background if there is none, and none is being
// opened, and back-off allows it. It tells a client that is passed over for now that
// it is wanted, so that it goes on trying.
func (c *Client) Open() {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.demand.last = now
	if c.closed || c.current != nil || c.attempt.running {
		return
	}
	if now.Before(c.attempt.until) {
		c.attempt.timer.Reset(c.attempt.until.Sub(now))
		return
	}
	c.startLocked(now)
}

// Health returns the client's present state.
func (c *Client) Health() Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := Health{
		RTT:     c.rtt.smoothed,
		RTTVar:  c.rtt.deviation,
		Pending: c.table.inFlight(),
		Err:     c.attempt.err,
	}
	switch {
	case c.current != nil && c.current.suspect:
		h.State = Suspect
	case c.current != nil:
		h.State = Ready
	case c.attempt.running:
		h.State = Connecting
	case time.Now().Before(c.attempt.until):
		h.State, h.Until = BackingOff, c.attempt.until
	default:
		h.State = Idle
	}
	return h
}

// Close ends the session and waits for its goroutines. Queries in flight end with an error.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.attempt.timer.Stop()
	err := c.errorf(Shutdown, "", errShutdown)
	for len(c.sessions) > 0 {
		c.sessions[0].endLocked(shutdown, err)
	}
	c.failWaitingLocked(err)
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

// failWaitingLocked ends the queries that wait for a session.
func (c *Client) failWaitingLocked(err error) {
	now := time.Now()
	for q := c.waiting.pop(); q != nil; q = c.waiting.pop() {
		c.failLocked(q, err, now)
	}
}

func (c *Client) failLocked(q *query, err error, now time.Time) {
	results := q.results
	c.endLocked(q, now)
	c.table.recycle(q)
	c.deliver(results, Result{Err: err})
}

// messageID returns the ID of a message, which has one.
func messageID(msg []byte) uint16 { return binary.BigEndian.Uint16(msg) }
