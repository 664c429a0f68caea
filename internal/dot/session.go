package dot

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"time"

	"dnsproxy/internal/wire"
)

const (
	// maxRecord is the most plaintext that one TLS record holds (RFC 8446, section 5.1).
	maxRecord = 16 << 10
	// linger is for how long a session that was replaced is kept for late responses.
	linger = 3 * time.Second
	// drainTimeout bounds how long a session that takes no more queries waits for the
	// responses in flight.
	drainTimeout = 6 * time.Second
	// closeTimeout bounds sending close_notify.
	closeTimeout = 500 * time.Millisecond
)

// session is one TLS connection. It has a goroutine that writes and one that
// reads; either ends it.
type session struct {
	c     *Client
	conn  *tls.Conn
	state tls.ConnectionState
	wake  chan struct{} // something changed that concerns the writer
	done  chan struct{} // closed by endLocked

	// The client's mutex guards what follows.
	queue     queue
	inFlight  int // queries whose on is this session
	opened    time.Time
	heard     time.Time // when something was last received
	active    time.Time // when a query was last written or a response received
	written   uint64    // queries
	responses uint64
	timeout   time.Duration // announced by edns-tcp-keepalive; 0: none
	suspect   bool
	retired   closer    // why it takes no more queries, "" if it does
	until     time.Time // when it ends at the latest, once retired
	sooner    bool      // the writer's timer may be set too late
	ended     bool
}

func newSession(c *Client, conn *tls.Conn, now time.Time) *session {
	return &session{
		c: c, conn: conn, state: conn.ConnectionState(),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		opened: now, heard: now, active: now,
	}
}

func (s *session) enqueueLocked(q *query) {
	q.on = s
	s.inFlight++
	s.queue.push(q)
	s.wakeUp()
}

func (s *session) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// staleLocked reports whether an idle session has outlived its time unnoticed, as happens when the
// machine was suspended. The wall clock tells, which goes on meanwhile, while the
// monotonic one stands still.
func (s *session) staleLocked(now time.Time) bool {
	if s.inFlight > 0 {
		return false
	}
	limit := s.idleLimitLocked() + staleGrace
	return now.Round(0).Sub(s.active.Round(0)) > limit
}

const staleGrace = time.Second

// write is the goroutine that writes. All that is queued goes out as one record.
func (s *session) write() {
	buf := make([]byte, 0, maxRecord)
	timer := time.NewTimer(s.untilNext())
	defer timer.Stop()
	for {
		select {
		case <-s.wake:
			runtime.Gosched() // those who are about to send get to add theirs to the record
		case <-timer.C:
			if s.expire() {
				return
			}
			timer.Reset(s.untilNext())
			continue
		case <-s.done:
			return
		}
		for buf = s.gather(buf[:0]); len(buf) > 0; buf = s.gather(buf[:0]) {
			if _, err := s.conn.Write(buf); err != nil {
				s.lost(err)
				return
			}
		}
		if s.rearm() {
			timer.Reset(s.untilNext())
		}
	}
}

// gather appends the queries that are queued, as many as one record takes.
func (s *session) gather(buf []byte) []byte {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	q := s.queue.pop()
	if q == nil || s.ended {
		return buf
	}
	now := time.Now()
	s.active = now
	for ; q != nil; q = s.queue.pop() {
		if len(buf)+len(q.msg)+keepaliveRoom > maxRecord && len(buf) > 0 {
			s.queue.unpop(q)
			break
		}
		if s.written == 0 {
			// edns-tcp-keepalive on the first query of each session (RFC 7828, section 3.2.1).
			q.asked = true
			buf = wire.AppendUpstream(buf, q.q, q.id, true)
		} else {
			buf = append(buf, q.msg...)
		}
		q.since = now
		s.written++
	}
	return buf
}

// keepaliveRoom is what edns-tcp-keepalive may add to a message: one block of padding.
const keepaliveRoom = 128

// reply is a response and the query that it is to.
type reply struct {
	q        *query
	from, to int // in the read buffer
}

// maxReplies is how many responses are matched for each time the mutex is taken.
const maxReplies = 64

// read is the goroutine that reads.
func (s *session) read() {
	buf := make([]byte, maxRecord)
	var replies [maxReplies]reply
	end := 0
	for {
		n, err := s.conn.Read(buf[end:])
		end += n
		start := 0
		for n > 0 {
			batch, next, fault := s.match(buf[start:end], replies[:0])
			s.answer(buf[start:end], batch)
			if fault != nil {
				s.fail(misbehaved, s.c.errorf(Protocol, "", fault))
				return
			}
			start += next
			if len(batch) < maxReplies {
				break
			}
		}
		end = copy(buf, buf[start:end])
		if err != nil {
			if end > 0 && errors.Is(err, io.EOF) {
				err = errTruncated
			}
			s.lost(err)
			return
		}
		buf = grow(buf, end)
	}
}

// grow returns a buffer that holds the whole message which starts buf.
func grow(buf []byte, end int) []byte {
	if end < lengthLen {
		return buf
	}
	need := lengthLen + int(binary.BigEndian.Uint16(buf))
	if need <= len(buf) {
		return buf
	}
	return append(make([]byte, 0, lengthLen+1<<16), buf[:end]...)[:lengthLen+1<<16-1]
}

// match takes the queries that the whole messages in data answer off the table, at
// most cap(replies). next is where what is left starts.
func (s *session) match(data []byte, replies []reply) (_ []reply, next int, fault error) {
	now := time.Now()
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.ended {
		return replies, len(data), nil
	}
	s.heardLocked(now)
	for len(replies) < cap(replies) && len(data)-next >= lengthLen {
		from := next + lengthLen
		to := from + int(binary.BigEndian.Uint16(data[next:]))
		if to > len(data) {
			break
		}
		if to-from < headerLen {
			return replies, next, errUnknownID
		}
		q, ok := s.takeLocked(messageID(data[from:]), now)
		if !ok {
			return replies, next, errUnknownID
		}
		if q != nil {
			replies = append(replies, reply{q, from, to})
		}
		next = to
	}
	return replies, next, nil
}

// headerLen is the size of a message's header (RFC 1035, section 4.1.1).
const headerLen = 12

func (s *session) heardLocked(now time.Time) {
	s.heard, s.active = now, now
	s.suspect = false
	s.c.upLocked(now)
}

// takeLocked takes the query with that ID off the table. It returns nil if that was
// given up, and not ok if there is none that was sent on s.
func (s *session) takeLocked(id uint16, now time.Time) (q *query, ok bool) {
	c := s.c
	q = c.table.byID[id]
	switch {
	case q == nil:
		return nil, false
	case q == givenUp:
		c.stats.Late++
		c.attempt.succeeded()
		return nil, true
	case q.before != s && (q.on != s || q.at >= 0):
		return nil, false
	}
	c.stats.Responses++
	c.attempt.succeeded()
	s.responses++
	if !q.resent {
		c.rtt.sample(now.Sub(q.since))
	}
	if q.at >= 0 {
		q.on.queue.drop(q)
	}
	q.on.inFlight--
	c.table.end(q, q.resent, now)
	return q, true
}

// answer checks and delivers the responses.
func (s *session) answer(data []byte, replies []reply) {
	c := s.c
	if len(replies) == 0 {
		return
	}
	var fault error
	for _, r := range replies {
		msg := data[r.from:r.to]
		response, err := wire.ParseResponse(msg, r.q.q)
		if err != nil {
			fault = c.errorf(Protocol, "", err)
			c.deliver(r.q.results, Result{Err: fault})
			continue
		}
		c.deliver(r.q.results, Result{Response: response})
		if r.q.asked {
			s.noteKeepalive(msg, r.q.q)
		}
	}
	c.mu.Lock()
	for _, r := range replies {
		c.table.recycle(r.q)
	}
	if s.retired != "" && s.inFlight == 0 {
		s.sooner = true
		s.wakeUp()
	}
	c.mu.Unlock()
	if fault != nil {
		s.fail(misbehaved, fault)
	}
}

// lost ends the session after an error of reading or writing.
func (s *session) lost(err error) {
	now := time.Now()
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.ended {
		return
	}
	clean, reason := errors.Is(err, io.EOF), reasonOfIO(err)
	idle := s.inFlight == 0
	if idle && (clean || reason == Reset) {
		c.idle.closedByPeer(s, now)
	}
	switch {
	case clean && idle:
		s.endLocked(theirsIdle, c.errorf(Closed, "", errClosedByUpstream))
	case clean:
		s.endLocked(theirsBusy, c.errorf(Closed, "", errClosedByUpstream))
	case errors.Is(err, errTruncated):
		s.endLocked(misbehaved, c.errorf(Protocol, "", err))
	default:
		s.endLocked(closerOf(reason), c.errorf(reason, "session ended", plain(err)))
	}
	if idle && now.Sub(s.opened) >= warmWorth {
		c.warmLocked(now)
	}
}

// fail ends the session for a fault of the peer.
func (s *session) fail(why closer, err error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if !s.ended && why == misbehaved {
		s.c.misbehavedLocked(err)
	}
	s.endLocked(why, err)
}

// retireLocked makes the session take no more queries, and end when those in flight
// are answered, or after a while.
func (s *session) retireLocked(why closer, now time.Time) {
	if s.c.current == s {
		s.c.current = nil
	}
	s.retired = why
	s.until = now.Add(drainTimeout)
	if why == replaced {
		s.until = now.Add(linger)
	}
	s.sooner = true
	s.wakeUp()
}

// leaveLocked ends an idle session.
func (s *session) leaveLocked(why closer) {
	s.endLocked(why, s.c.errorf(Closed, "", errEnded))
}

// endLocked ends the session, once, and tells the queries in flight on it.
func (s *session) endLocked(why closer, err error) {
	if s.ended {
		return
	}
	s.ended = true
	c := s.c
	now := time.Now()
	if c.current == s {
		c.current = nil
	}
	c.closedLocked(s, why, err, now)
	for i, o := range c.sessions {
		if o == s {
			c.sessions = append(c.sessions[:i], c.sessions[i+1:]...)
			break
		}
	}
	missed := why.unexpected() && s.inFlight > 0
	c.abandonLocked(s, err, now)
	if len(c.sessions) == 0 {
		c.table.releaseAll()
	}
	close(s.done)
	c.wg.Go(s.shut)
	if missed && !c.closed && c.demand.recent(now) {
		c.attempt.timer.Reset(max(c.attempt.until.Sub(now), 0))
	}
}

// abandonLocked fails the queries on a session that ended.
func (c *Client) abandonLocked(s *session, err error, now time.Time) {
	for _, q := range c.table.byID {
		if q.before == s {
			q.before = nil
		}
		if q.on == s {
			c.failLocked(q, err, now)
		}
	}
}

// shut closes the connection, with close_notify if the peer takes it in time.
func (s *session) shut() {
	raw := s.conn.NetConn()
	timer := time.AfterFunc(closeTimeout, func() { raw.Close() })
	s.conn.Close()
	timer.Stop()
}
