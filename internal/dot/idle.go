package dot

import (
	"time"

	"dnsproxy/internal/wire"
)

const (
	// defaultIdle is for how long an idle session is kept if nothing is known of the upstream:
	// as long as the most patient common servers do (unbound: 30 s). Those that are
	// less so teach us by closing, which costs no query.
	defaultIdle = 30 * time.Second
	// maxIdle bounds what an upstream may announce; routers forget connections sooner
	// than upstreams.
	maxIdle = 2 * time.Minute
	// minIdle is the least after which we close first.
	minIdle = 50 * time.Millisecond

	// A session that closes while idle is opened again at once if the last two queries
	// came within warmSpan, at most maxWarm times until the next query, and only if sessions
	// last for warmWorth at least.
	warmSpan  = 10 * time.Second
	maxWarm   = 3
	warmWorth = 500 * time.Millisecond
)

// idle is what is known of the upstream's idle timeout. The client's mutex guards it.
type idle struct {
	learnt    time.Duration // the age at which the upstream closes, growing slowly; 0: not known
	once      time.Duration // the age at which it closed last
	announced time.Duration // by edns-tcp-keepalive on the session before; 0: none
}

// closedByPeer learns from a session that the upstream closed while it was idle. One such close
// may have another cause, such as a restart; two at about the same age are a
// timeout.
func (i *idle) closedByPeer(s *session, now time.Time) {
	if s.retired != "" {
		return
	}
	age := now.Sub(s.active)
	if i.once > 0 && (age-i.once).Abs() <= max(age, i.once)/4 {
		i.learnt = max(min(age, i.once), minIdle)
	}
	i.once = age
}

// closedByUs lets the limit grow a little, since the upstream may have become more patient.
func (i *idle) closedByUs() {
	if i.learnt += i.learnt / 32; i.learnt >= defaultIdle {
		i.learnt, i.once = 0, 0
	}
}

// sooner returns when to close so as to be ahead of an upstream that does after timeout: by
// an eighth, and so by more than a query takes to get there.
func sooner(timeout time.Duration) time.Duration {
	return max(timeout-timeout/8, minIdle)
}

// idleLimitLocked returns for how long the session may be idle.
func (s *session) idleLimitLocked() time.Duration {
	known := &s.c.idle
	switch {
	case s.timeout > 0:
		return sooner(min(s.timeout, maxIdle))
	case known.announced > 0:
		return sooner(min(known.announced, maxIdle))
	case known.learnt > 0:
		return sooner(known.learnt)
	default:
		return defaultIdle
	}
}

// noteKeepalive obeys the idle timeout that a response announces (RFC 7828,
// section 3.2.2): 0 means that no more queries may be sent.
func (s *session) noteKeepalive(msg []byte, q wire.Query) {
	units, ok := wire.Keepalive(msg, q)
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle.announced = time.Duration(units) * 100 * time.Millisecond
	if !ok {
		return
	}
	if units > 0 {
		s.timeout = c.idle.announced
		s.sooner = true
		s.wakeUp()
		return
	}
	if s.retired != "" || s.ended {
		return
	}
	now := time.Now()
	// What is queued but not written goes to the next session.
	s.retireLocked(drained, now)
	for q := s.queue.pop(); q != nil; q = s.queue.pop() {
		s.inFlight--
		q.on = nil
		c.waiting.push(q)
	}
	// Where queries are in flight, more will come.
	if (len(c.waiting.items) > 0 || s.inFlight > 0) && !c.attempt.running && !c.closed {
		c.startLocked(now)
	}
}

// rearm reports whether the writer's timer may have to fire sooner than it is set to.
func (s *session) rearm() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	sooner := s.sooner
	s.sooner = false
	return sooner
}

// untilNext returns for how long the writer may sleep if nothing wakes it.
func (s *session) untilNext() time.Duration {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return max(time.Until(s.deadlineLocked()), time.Millisecond)
}

// deadlineLocked returns when the session ends if nothing happens until then.
func (s *session) deadlineLocked() time.Time {
	switch {
	case s.retired == replaced:
		return s.until
	case s.retired != "" && s.inFlight == 0:
		return time.Time{}
	case s.retired != "":
		return s.until
	case s.inFlight > 0:
		return time.Now().Add(s.idleLimitLocked())
	default:
		return s.active.Add(s.idleLimitLocked())
	}
}

// expire ends the session if its time has come, and reports whether it did.
func (s *session) expire() bool {
	c := s.c
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.ended {
		return true
	}
	if now.Before(s.deadlineLocked()) {
		return false
	}
	if s.retired != "" {
		s.leaveLocked(s.retired)
		return true
	}
	if s.timeout == 0 && c.idle.announced == 0 {
		c.idle.closedByUs()
	}
	lasting := s.idleLimitLocked() >= warmWorth
	s.leaveLocked(oursIdle)
	if lasting {
		c.warmLocked(now)
	}
	return true
}

// demand is when queries came. The client's mutex guards it.
type demand struct {
	last, before time.Time
	warm         int // sessions opened without need since the last query
}

func (d *demand) note(now time.Time) {
	d.before, d.last, d.warm = d.last, now, 0
}

// recent reports whether the upstream is in use.
func (d *demand) recent(now time.Time) bool { return now.Sub(d.last) < warmSpan }

// warmLocked opens another session in place of an idle one that closed, if it is
// likely to be used.
func (c *Client) warmLocked(now time.Time) {
	d := &c.demand
	if c.closed || c.current != nil || c.attempt.running || d.warm >= maxWarm ||
		!d.recent(now) || d.last.Sub(d.before) > warmSpan || now.Before(c.attempt.until) {
		return
	}
	d.warm++
	c.stats.Warmed++
	c.startLocked(now)
}

// estimator is the smoothed time of answers (RFC 6298, section 2).
type estimator struct {
	smoothed, deviation time.Duration
}

func (e *estimator) sample(rtt time.Duration) {
	if e.smoothed == 0 {
		e.smoothed, e.deviation = rtt, rtt/2
		return
	}
	e.deviation += ((e.smoothed - rtt).Abs() - e.deviation) / 4
	e.smoothed += (rtt - e.smoothed) / 8
}
