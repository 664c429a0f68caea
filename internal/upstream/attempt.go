package upstream

import (
	"math/rand/v2"
	"time"

	"dnsproxy/internal/dot"
)

// How long an attempt may take before it is looked into. The figures for sessions hold
// where the smoothed answer time says nothing or something shorter.
const (
	minPatience     = 30 * time.Millisecond
	maxPatience     = 200 * time.Millisecond // with a session; but never less than the usual answer time
	connectPatience = 200 * time.Millisecond // without one: RFC 8305, section 8, has 100 ms to 2 s, 250 ms advised
	nextPatience    = 100 * time.Millisecond // the same for all attempts but the first
	crowdPatience   = 100 * time.Millisecond // until silence counts: wireless links and busy machines stall for less
	lonePatience    = 250 * time.Millisecond // the same where few queries wait
	unknownPatience = time.Second            // the same where the answer time is not known yet
	maxForbearance  = time.Second
	ownStall        = 25 * time.Millisecond  // beyond which a timer that fires late tells of ourselves
	lostPatience    = time.Second            // until a query that alone has no answer is sent again
	strictPatience  = time.Second            // until another upstream may learn a name if there is no hedge budget
	maxLook         = 500 * time.Millisecond // between looks
	crowd           = 8                      // queries in flight that make silence telling before lonePatience: more than one page or lookup of a client asks
	firstPause      = 25 * time.Millisecond  // between looks while no candidate is worth an attempt
	pauseDoublings  = 3                      // 25, 50, 100, 200 ms
)

// expected returns the time within which c's session nearly always answers.
func (c *candidate) expected(h dot.Health) time.Duration {
	d := maxPatience
	if h.RTT > 0 {
		d = max(min(h.RTT+4*h.RTTVar, max(maxPatience, h.RTT+h.RTTVar)), minPatience)
	}
	return max(d, time.Duration(c.forbearance.Load()))
}

// choice is a candidate that a query may go to next.
type choice struct {
	k        int // in the query's order
	position int
	class    class
	health   dot.Health
}

// advance sends the query to the best candidate, or waits if none is worth it. It is called
// when no attempt is live.
func (x *exchange) advance(now instant) {
	if x.revive(now) {
		x.arm(now)
		return
	}
	g := x.group
	to, ok := x.best(now)
	switch {
	case !ok:
		x.park(now)
		return
	case to.class <= held:
	case to.class == poor && x.sends == 0:
		g.candidates[to.position].scoutedAt.Store(int64(now))
	case g.mayScout(to.class, now):
		g.candidates[to.position].scoutedAt.Store(int64(now))
	default:
		x.park(now)
		return
	}
	if x.sends == 0 && to.class <= held {
		to = x.lookAround(to, now)
	}
	x.count(to.position, now)
	x.send(to.position, to.health, now)
}

// lookAround looks after the candidates that the first attempt passes over, and explores
// in its place or beside it.
func (x *exchange) lookAround(to choice, now instant) choice {
	g := x.group
	chosen := g.candidates[to.position]
	if to.k > 0 {
		for i := range to.k {
			passed := x.order.at(i)
			g.candidates[passed].report(now, chosen)
			if x.trace != nil {
				x.note(passed, PassedOver, g.candidates[passed].why(), g.candidates[passed].client.Health().Err, now)
			}
		}
		g.lookAfter(x.order, to.k, now)
	}
	c := g.explore(chosen, now)
	if c == nil {
		return to
	}
	position := g.positionOf(c)
	if g.strict() { // instead, as no second upstream may see the name
		to.position, to.health = position, c.client.Health()
		x.home = g.upstreamOf[position]
		c.scoutedAt.Store(int64(now))
	} else if g.budget.take(g.upstreamOf[position] == x.home) {
		c.scoutedAt.Store(int64(now))
		g.pool.tally.explored.Add(1)
		c.sendCopy(x.query)
	}
	return to
}

// best returns the best candidate for the next attempt. Better is: of a better class,
// without an attempt in flight, from the third attempt on of an upstream not yet asked (since the
// addresses of one upstream tend to fall together), earlier in the order; among
// those that nothing speaks for, the one looked at longest ago.
func (x *exchange) best(now instant) (best choice, ok bool) {
	g := x.group
	bestRank := 0
	for k := range g.candidates {
		position := x.order.at(k)
		t, c := &x.tries[position], g.candidates[position]
		if now < t.notBefore || !x.allowed(position, now) {
			continue
		}
		class, h := c.appraise(now)
		if t.flying > 0 && h.State != dot.Ready {
			continue // that one waits for the next session as well as another would
		}
		rank := int(class) << 2
		if t.flying > 0 {
			rank |= 2
		}
		if x.sends >= 2 && x.asked(g.upstreamOf[position]) {
			rank |= 1
		}
		if class >= poor && ok && rank == bestRank && x.sends > 0 &&
			c.scoutedAt.Load() < g.candidates[best.position].scoutedAt.Load() || !ok || rank < bestRank {
			best, bestRank, ok = choice{k, position, class, h}, rank, true
		}
		if rank == 0 {
			break
		}
	}
	return best, ok
}

// asked reports whether the query was sent to upstream u.
func (x *exchange) asked(u int) bool {
	for position := range x.tries {
		if x.tries[position].sends > 0 && x.group.upstreamOf[position] == u {
			return true
		}
	}
	return false
}

// allowed reports whether the candidate may see the query: without a hedge budget not before
// every upstream that it was meant for, or was sent to, has failed.
func (x *exchange) allowed(position int, now instant) bool {
	g := x.group
	if !g.strict() {
		return true
	}
	for u := range g.firsts {
		if u != g.upstreamOf[position] && (u == x.home || x.asked(u)) && !x.gone(u, now) {
			return false
		}
	}
	return true
}

// gone reports whether every address of upstream u has failed for certain: no session could
// be opened, two ended under this query, or there was nothing but silence for strictPatience.
func (x *exchange) gone(u int, now instant) bool {
	for position, c := range x.group.candidates {
		if x.group.upstreamOf[position] != u || x.tries[position].closes > 1 {
			continue
		}
		class, h := c.appraise(now)
		if class <= held || h.State != dot.BackingOff && now-instant(c.shunnedAt.Load()) < strictPatience {
			return false
		}
	}
	return true
}

// count counts what the next attempt is, unless it is the first.
func (x *exchange) count(position int, now instant) {
	event := Asked
	switch {
	case x.sends == 0:
	case x.tries[position].sends > 0:
		event = AskedAgain
		x.group.pool.tally.retries.Add(1)
	default:
		x.group.pool.tally.failovers.Add(1)
	}
	x.note(position, event, NoReason, nil, now)
}

// send sends the query to a candidate.
func (x *exchange) send(position int, h dot.Health, now instant) {
	c, t, a := x.group.candidates[position], &x.tries[position], x.slot()
	if a.spare == nil {
		a.spare = make(chan dot.Result, 1)
	}
	*a = attempt{results: a.spare, position: position, sent: now, due: now + connectPatience}
	if h.State == dot.Ready || h.State == dot.Suspect {
		a.begun, a.due = now, now+c.expected(h)
	}
	if x.sends > 0 {
		a.due = min(a.due, now+nextPatience)
	}
	if t.sends == 0 {
		t.first = now
	}
	x.sends++
	t.sends++
	t.flying++
	t.notBefore = now + pause(t.sends)
	c.counters.sends.Add(1)
	a.pending = c.client.Send(x.query, a.results, &a.keep)
	x.arm(now)
}

// slot returns a free attempt. If there is none it gives up the oldest of those lost, and of
// these rather one that still waits for a session.
func (x *exchange) slot() *attempt {
	oldest := 0
	for i := range x.attempts {
		if x.attempts[i].results == nil {
			return &x.attempts[i]
		}
		if x.attempts[i].before(&x.attempts[oldest]) {
			oldest = i
		}
	}
	x.drop(oldest)
	return &x.attempts[oldest]
}

// before reports whether a is to be given up rather than b.
func (a *attempt) before(b *attempt) bool {
	if a.lost != b.lost {
		return a.lost
	}
	if (a.begun == 0) != (b.begun == 0) {
		return a.begun == 0
	}
	return a.sent < b.sent
}

// arm sets the timer to the first attempt that is due.
func (x *exchange) arm(now instant) {
	due := now + maxLook
	for i := range x.attempts {
		if a := &x.attempts[i]; a.results != nil && !a.lost {
			due = min(due, a.due)
		}
	}
	x.timer.Reset(min(max(due-now, time.Millisecond), x.deadline-now))
}

// park sets the timer to the next look for a candidate that is worth an attempt.
func (x *exchange) park(now instant) {
	d := firstPause << min(x.pauses, pauseDoublings)
	x.pauses++
	x.timer.Reset(min(d+rand.N(d), x.deadline-now))
}

// late looks into the attempts that are due.
func (x *exchange) late(now instant) {
	for i := range x.attempts {
		a := &x.attempts[i]
		switch {
		case a.results == nil || a.lost || a.due > now:
		case now-a.due > ownStall && !a.excused:
			// It was we who did not run: for want of CPU, stopped, or suspended. What has
			// arrived meanwhile gets to be read first.
			a.due, a.excused = now+ownStall, true
		default:
			x.judge(a, now)
		}
	}
	if x.live() {
		x.arm(now)
	} else {
		x.advance(now)
	}
}

// judge decides whether an attempt that is due has failed, and hedges it if not.
func (x *exchange) judge(a *attempt, now instant) {
	c, t := x.group.candidates[a.position], &x.tries[a.position]
	class, h := c.appraise(now)
	waited := now - a.begun
	switch {
	case h.State == dot.Suspect:
		x.lose(a, Silent, now)
	case h.State == dot.BackingOff:
		x.lose(a, Unreachable, now)
	case h.State != dot.Ready:
		c.shun(now, Connecting)
		x.lose(a, Connecting, now)
	case a.begun == 0:
		a.begun, a.due = now, now+c.expected(h)
	case c.telling(h, waited, t.alarms) && a.pending.Silent():
		t.alarms++
		c.appraise(now) // it is suspect now, unless a younger session is well
		x.lose(a, Silent, now)
	case waited >= max(lostPatience, 3*h.RTT):
		x.loseAllAt(a.position, now)
	default:
		a.due = now + min(max(waited, minPatience), maxLook)
		for _, look := range [...]instant{a.begun + c.crowded(h), a.begun + c.alone(h)} {
			if look > now {
				a.due = min(a.due, look)
			}
		}
		if class <= held {
			x.hedge(a, now)
		}
	}
}

// alone returns the time after which silence counts though few queries wait for an answer:
// then a resolver that has to recurse is likelier than a frozen one. A session that has
// just been opened, by an upstream whose time is not known, is alive for certain.
func (c *candidate) alone(h dot.Health) time.Duration {
	if h.RTT == 0 {
		return unknownPatience
	}
	return max(lonePatience, h.RTT+4*h.RTTVar, time.Duration(c.forbearance.Load()))
}

// crowded returns the time after which silence counts where many queries wait.
func (c *candidate) crowded(h dot.Health) time.Duration { return max(c.expected(h), crowdPatience) }

// telling reports whether silence for so long would say that the session is stuck. A session
// that was opened since the same query met silence is alive, and the query itself is likely to be
// slow: so each alarm makes the next come four times as late.
func (c *candidate) telling(h dot.Health, waited time.Duration, alarms int) bool {
	crowded := alarms == 0 && h.RTT > 0 && h.Pending >= crowd
	return waited >= c.alone(h)<<(2*alarms) || crowded && waited >= c.crowded(h)
}

// forbear makes c's silence count later after it was no sign of a fault, and sooner
// again with each answer in time. The client measures no time of queries that it sent twice, so
// one that grew slow all at once would be taken for a silent one again and again.
func (c *candidate) forbear(took time.Duration, falseAlarm bool) {
	now := c.forbearance.Load()
	if falseAlarm {
		c.forbearance.Store(int64(min(took, maxForbearance)))
	} else if now > 0 {
		c.forbearance.Store(now - now/8 - 1)
	}
}

// lose gives an attempt up as failed, though its response is taken if it comes.
func (x *exchange) lose(a *attempt, why Reason, now instant) {
	a.lost, a.why = true, why
	x.note(a.position, Lost, why, nil, now)
	x.tries[a.position].fail(why, now)
	x.group.candidates[a.position].counters.failures[why].Add(1)
}

// loseAllAt gives all attempts at one candidate up: the repeated one has waited for long enough, too.
func (x *exchange) loseAllAt(position int, now instant) {
	for i := range x.attempts {
		if a := &x.attempts[i]; a.results != nil && !a.lost && a.position == position {
			x.lose(a, Unanswered, now)
		}
	}
}

// revive goes on with attempts whose session has come up since they were lost: the client
// has just sent them on it.
func (x *exchange) revive(now instant) (revived bool) {
	for i := range x.attempts {
		a := &x.attempts[i]
		if a.results == nil || !a.lost || a.why == Unanswered {
			continue
		}
		c := x.group.candidates[a.position]
		if _, h := c.appraise(now); h.State == dot.Ready {
			a.lost, a.begun, a.due = false, now, now+c.expected(h)
			revived = true
		}
	}
	return revived
}

// hedge sends the query to one more candidate while the first may still answer, once, within the budget. Where nobody
// else may be asked, the same one is asked again, once it is late even for a slow one: it may have lost the query.
func (x *exchange) hedge(a *attempt, now instant) {
	g := x.group
	if x.hedged || !g.budget.all.has() {
		return
	}
	for k := range g.candidates {
		position := x.order.at(k)
		if x.tries[position].sends > 0 {
			continue
		}
		class, h := g.candidates[position].appraise(now)
		same := x.asked(g.upstreamOf[position])
		if class != good || !g.budget.take(same) {
			continue
		}
		if !same {
			g.pool.tally.crossed.Add(1)
		}
		x.sendHedge(position, h, now)
		return
	}
	if !g.strict() && len(g.firsts) > 1 {
		return
	}
	c := g.candidates[a.position]
	if h := c.client.Health(); h.State == dot.Ready && now-a.begun >= c.alone(h) && g.budget.take(true) {
		x.sendHedge(a.position, h, now)
	}
}

func (x *exchange) sendHedge(position int, h dot.Health, now instant) {
	x.hedged = true
	x.note(position, Hedged, NoReason, nil, now)
	x.group.pool.tally.hedges.Add(1)
	x.send(position, h, now)
}

// failure returns the error that says what each candidate did.
func (x *exchange) failure(cause error, now instant) *Error {
	e := &Error{Took: now - x.begun, Cause: cause}
	for position, c := range x.group.candidates {
		t := &x.tries[position]
		class, h := c.appraise(now)
		if t.sends == 0 && class <= held {
			continue // neither asked nor to blame
		}
		a := Attempt{Upstream: c.endpoint.Upstream, Addr: c.endpoint.Addr, Reason: t.reason, Err: t.err, Sends: t.sends}
		if t.sends > 0 {
			a.After = now - t.first
		}
		if a.Reason == NoReason {
			a.Reason = presumed(h.State)
		}
		if a.Err == nil && !a.reached() {
			a.Err = h.Err
		}
		e.Attempts = append(e.Attempts, a)
	}
	return e
}

// presumed returns why a query is not answered by a client in that state.
func presumed(s dot.State) Reason {
	switch s {
	case dot.Ready:
		return Unanswered
	case dot.Suspect:
		return Silent
	case dot.BackingOff:
		return Unreachable
	default:
		return Connecting
	}
}
