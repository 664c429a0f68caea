package upstream

import (
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/wire"
)

// instant is a time on the pool's monotonic clock, never 0.
type instant = time.Duration

// class is how good a choice a candidate is now. Lower is better.
type class uint8

const (
	good class = iota // a session is up, or nothing speaks against opening one
	held              // it may answer, but it has come and gone lately
	poor              // silent, slow to connect, or due for another attempt after failing
	down              // backing off
)

// How long a candidate that fell again soon after its return has to stay up before it is
// preferred again, so that one that flaps does not cost a detection each time.
const (
	flapWindow  = 10 * time.Second
	minPenalty  = 500 * time.Millisecond
	maxPenalty  = 8 * time.Second
	reportAfter = 500 * time.Millisecond // shorter absences are not worth an operator's attention
)

// candidate is one address of an upstream, its client, and what the queries sent
// to it have taught.
type candidate struct {
	client   client
	endpoint dot.Endpoint
	log      *slog.Logger
	counters counters

	shunnedAt   atomic.Int64 // instant since when it is not a first choice; 0: it is one
	heldUntil   atomic.Int64 // instant
	reported    atomic.Bool  // the log says that it is not used
	scoutedAt   atomic.Int64 // instant of the last attempt or copy meant to find out how it fares
	forbearance atomic.Int64 // time.Duration; see forbear
	exploredRTT atomic.Int64 // Health.RTT when it was last explored

	// mu guards the fields below. Never held across a call of client.
	mu       sync.Mutex
	reason   Reason
	returned instant // the last time it came back
	penalty  time.Duration
	copied   pending // the last copy, cancelled by the next
}

// appraise returns the candidate's class and health, and notices its return.
func (c *candidate) appraise(now instant) (class, dot.Health) {
	h := c.client.Health()
	switch h.State {
	case dot.Ready:
		c.welcome(now)
	case dot.Suspect:
		c.shun(now, Silent)
		return poor, h
	case dot.BackingOff:
		c.shun(now, Unreachable)
		if time.Until(h.Until) > 0 {
			return down, h
		}
		return poor, h
	default: // Idle or Connecting says nothing yet of one that failed before
		if c.shunnedAt.Load() != 0 {
			return poor, h
		}
	}
	if int64(now) < c.heldUntil.Load() {
		return held, h
	}
	return good, h
}

// shun makes c no first choice until its client is Ready.
func (c *candidate) shun(now instant, why Reason) {
	if c.shunnedAt.Load() != 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shunnedAt.CompareAndSwap(0, int64(now)) {
		c.reason = why
		c.worsenLocked(now)
	}
}

// distrust makes c a second choice for a while: its sessions open, but end before they answer.
func (c *candidate) distrust(now instant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int64(now) < c.heldUntil.Load() {
		return
	}
	c.worsenLocked(now)
	c.returned = now
	c.heldUntil.Store(int64(now + max(c.penalty, minPenalty)))
}

// worsenLocked doubles the penalty of a candidate that returned only lately.
func (c *candidate) worsenLocked(now instant) {
	if c.returned != 0 && now-c.returned < flapWindow+c.penalty {
		c.penalty = min(max(2*c.penalty, minPenalty), maxPenalty)
	} else {
		c.penalty = 0
	}
}

// welcome makes c a choice again.
func (c *candidate) welcome(now instant) {
	if c.shunnedAt.Load() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	since := instant(c.shunnedAt.Swap(0))
	if since == 0 {
		return
	}
	c.returned = now
	c.heldUntil.Store(int64(now + c.penalty))
	if c.reported.Swap(false) {
		c.log.Warn("upstream used again", "upstream", c.endpoint.Upstream, "address", c.endpoint.Addr,
			"after", (now - since).Round(time.Millisecond))
	}
}

// report logs once for each absence that others are asked instead of c.
func (c *candidate) report(now instant, instead *candidate) {
	since := instant(c.shunnedAt.Load())
	if since == 0 || now-since < reportAfter || c.reported.Load() || c.reported.Swap(true) {
		return
	}
	c.log.Warn("upstream not used", "upstream", c.endpoint.Upstream, "address", c.endpoint.Addr,
		"reason", c.why().String(), "err", dot.CauseOf(c.client.Health().Err),
		"instead", instead.endpoint.Upstream, "instead_address", instead.endpoint.Addr)
}

// why returns why c was last made no first choice.
func (c *candidate) why() Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// sendCopy sends a copy of q whose answer nobody waits for: what counts is the time that it
// takes. The copy before it is given up.
func (c *candidate) sendCopy(q wire.Query) {
	c.counters.sends.Add(1)
	next := c.client.Send(q, make(chan dot.Result, 1), new(dot.Pending))
	c.mu.Lock()
	last := c.copied
	c.copied = next
	c.mu.Unlock()
	if last != nil {
		last.Cancel()
	}
}

// gate lets one caller through in each interval.
type gate struct{ next atomic.Int64 }

// pass reports whether the caller may go on; the next may after about interval, half to one
// and a half times, so that many daemons do not ask in step.
func (g *gate) pass(now instant, interval time.Duration) bool {
	next := g.next.Load()
	return int64(now) >= next && g.next.CompareAndSwap(next, int64(now+jitter(interval)))
}

// jitter returns half to one and a half times d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }
