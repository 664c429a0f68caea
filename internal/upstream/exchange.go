package upstream

import (
	"context"
	"errors"
	"math"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/wire"
)

// ErrNone says that a group has no upstream.
var ErrNone = errors.New("no upstream configured")

// maxAttempts is how many attempts of one query may be in flight.
const maxAttempts = 4

// exchange is one query's way through the candidates. It is used again for
// another query once it has ended.
type exchange struct {
	group    *Group
	query    wire.Query
	begun    instant
	deadline instant
	order    order
	home     int // the upstream that the query was meant for
	attempts [maxAttempts]attempt
	tries    []try // by position
	timer    *time.Timer
	sends    int
	pauses   int  // taken while no candidate was worth an attempt
	hedged   bool // it had its hedge
	trace    *Trace
}

// attempt is a query in flight.
type attempt struct {
	results  chan dot.Result // with room for one; nil while free, so that select passes it over
	spare    chan dot.Result // empty and nobody's: the next results
	pending  pending
	keep     dot.Pending // for pending
	position int
	sent     instant
	due      instant // when to look whether it has failed
	begun    instant // when it went out on a session, as far as known; 0: it waits for one
	excused  bool    // it was not judged once, since we had stalled
	lost     bool    // held to have failed, though a response would still do
	why      Reason  // the reason why it was lost last
}

// try is what became of an exchange at one candidate.
type try struct {
	sends     int
	closes    int // sessions that ended
	flying    int // attempts in flight
	alarms    int // times that a session was found silent
	reason    Reason
	err       error
	first     instant // of the sends
	failed    instant
	notBefore instant // of the next send
}

// Exchange asks until there is a response, or ctx ends or its deadline passes: a context that
// has a deadline needs no timer to end it. The error, an *Error, tells of each attempt.
// q's bytes must not change before Exchange returns.
func (g *Group) Exchange(ctx context.Context, q wire.Query) (wire.Response, error) {
	p := g.pool
	if len(g.candidates) == 0 {
		return wire.Response{}, &Error{Cause: ErrNone}
	}
	x := p.begin(g, q)
	defer p.end(x)
	x.trace = traceOf(ctx)
	x.limit(ctx)
	x.advance(x.begun)
	for {
		var r dot.Result
		var i int
		select {
		case r = <-x.attempts[0].results:
			i = 0
		case r = <-x.attempts[1].results:
			i = 1
		case r = <-x.attempts[2].results:
			i = 2
		case r = <-x.attempts[3].results:
			i = 3
		case <-x.timer.C:
			now := p.now()
			if now >= x.deadline {
				return wire.Response{}, x.giveUp(context.DeadlineExceeded, now)
			}
			x.late(now)
			continue
		case <-ctx.Done():
			return wire.Response{}, x.giveUp(ctx.Err(), p.now())
		}
		now := p.now()
		if x.settle(i, r, now) {
			g.answered(now)
			return r.Response, nil
		}
	}
}

// limit notes by when ctx wants the exchange to end.
func (x *exchange) limit(ctx context.Context) {
	x.deadline = math.MaxInt64
	if deadline, ok := ctx.Deadline(); ok {
		x.deadline = x.begun + time.Until(deadline)
	}
}

// giveUp returns the error of an exchange that ends without a response. That nobody waits
// any more says nothing about upstreams.
func (x *exchange) giveUp(cause error, now instant) error {
	err := x.failure(cause, now)
	if !errors.Is(cause, context.Canceled) {
		x.group.failed(err, now)
	}
	return err
}

// begin returns an exchange for q.
func (p *Pool) begin(g *Group, q wire.Query) *exchange {
	x, _ := p.exchanges.Get().(*exchange)
	if x == nil {
		x = &exchange{timer: time.NewTimer(time.Hour)}
	}
	p.tally.queries.Add(1)
	g.budget.earn()
	now := p.now()
	x.group, x.query, x.begun, x.order = g, q, now, g.order(now)
	x.home = g.upstreamOf[x.order.at(0)]
	if n := len(g.candidates); cap(x.tries) < n {
		x.tries = make([]try, n)
	} else {
		x.tries = x.tries[:n]
	}
	return x
}

// end gives up what is still in flight and releases x.
func (p *Pool) end(x *exchange) {
	x.timer.Stop()
	for i := range x.attempts {
		x.drop(i)
	}
	clear(x.tries)
	x.group, x.query, x.order, x.trace = nil, wire.Query{}, order{}, nil
	x.sends, x.pauses, x.hedged = 0, 0, false
	p.exchanges.Put(x)
}

// drop gives up an attempt. If its channel has received the result, or is about to, it is
// not used again: another query must not find that there.
func (x *exchange) drop(i int) {
	a := &x.attempts[i]
	spare := a.spare
	if a.results != nil {
		if a.pending.Cancel() {
			spare = a.results
		}
		x.tries[a.position].flying--
	}
	*a = attempt{spare: spare}
}

// settle takes the result of attempt i and reports whether it is a response.
func (x *exchange) settle(i int, r dot.Result, now instant) bool {
	a := &x.attempts[i]
	c := x.group.candidates[a.position]
	t := &x.tries[a.position]
	t.flying--
	sent, lost, why := a.sent, a.lost, a.why
	position := a.position
	*a = attempt{spare: a.results} // its one result was taken: it is empty
	if r.Err == nil {
		x.note(position, Answered, NoReason, nil, now)
		c.counters.times.Add(now-sent, 1)
		c.forbear(now-sent, why == Silent)
		return true
	}
	t.err = r.Err
	why = x.blame(c, t, now)
	x.note(position, Failed, why, r.Err, now)
	if !lost { // else it was counted then
		t.fail(why, now)
		c.counters.failures[why].Add(1)
	}
	if !x.live() {
		x.advance(now)
	}
	return false
}

// blame returns why an attempt at c ended with t.err, and decides when c may be asked again.
func (x *exchange) blame(c *candidate, t *try, now instant) Reason {
	class, h := c.appraise(now)
	fault := dot.ReasonOf(t.err)
	switch {
	case h.State == dot.BackingOff || fault == dot.Shutdown:
		t.notBefore = now + pause(t.sends)
		return Unreachable
	case fault == dot.Busy:
		t.notBefore = now + pause(t.sends)
		return Busy
	case fault != dot.Protocol && t.closes == 0: // as any idle close may do: again at once
		t.closes, t.notBefore = 1, now
		return Closed
	default: // the session opened in the first one's place ended as well, or talks nonsense
		t.closes = max(t.closes+1, 2)
		t.notBefore = now + pause(t.closes)
		if class <= held {
			c.distrust(now)
		}
		return Closed
	}
}

// fail notes why an attempt failed.
func (t *try) fail(why Reason, now instant) { t.reason, t.failed = why, now }

// pause returns how long the n-th failure at one candidate keeps a query away from it.
func pause(n int) time.Duration { return 50 * time.Millisecond << min(n, 4) }

// live reports whether an attempt is in flight that may be waited for.
func (x *exchange) live() bool {
	for i := range x.attempts {
		if x.attempts[i].results != nil && !x.attempts[i].lost {
			return true
		}
	}
	return false
}
