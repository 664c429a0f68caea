package upstream

import (
	"slices"
	"sync/atomic"
	"time"

	"dnsproxy/internal/dot"
)

// How often a group looks after candidates that it does not use. Each interval is
// stretched or shortened by up to a half at random.
const (
	openEvery    = 500 * time.Millisecond // word to those that stand before the one in use
	scoutEvery   = 100 * time.Millisecond // attempts at one that is poor while none is better
	forceEvery   = 250 * time.Millisecond // attempts at one that is backing off while none is better
	exploreEvery = 500 * time.Millisecond // copies to one that is not the fastest; see explore
	exploreAgain = 10 * time.Second       // the same, to one whose time is known
	rankEvery    = 100 * time.Millisecond
	fasterBy     = 0.8 // of the fastest one's time: nearly equal ones do not take turns
)

// Group is an ordered choice of upstreams. Its candidates are flattened in the order of
// the configuration and known by their position.
type Group struct {
	pool       *Pool
	settings   Settings
	budget     budget
	candidates []*candidate
	upstreamOf []int // by position: which upstream it is an address of
	firsts     []int // by upstream: its first position
	inOrder    []int // 0, 1, 2 ...

	turn    atomic.Uint64 // Spread: queries so far
	fastest atomic.Pointer[[]int]
	failing atomic.Bool  // the log says that nobody answers
	backAt  atomic.Int64 // instant when it last said that they answer again

	ranking, opening, scouting, forcing, exploring gate
}

// order is the positions of a group's candidates, best first, as far as their policy goes.
type order struct {
	positions []int
	offset    int
}

func (o order) at(k int) int { return o.positions[(o.offset+k)%len(o.positions)] }

// order returns the order for the next query.
func (g *Group) order(now instant) order {
	switch g.settings.Policy {
	case Spread:
		u := g.turn.Add(1) % uint64(len(g.firsts))
		return order{g.inOrder, g.firsts[u]}
	case Fastest:
		return order{g.rank(now), 0}
	default:
		return order{g.inOrder, 0}
	}
}

// rank returns the positions by smoothed answer time, those unknown last.
func (g *Group) rank(now instant) []int {
	last := g.fastest.Load()
	if last != nil && !g.ranking.pass(now, rankEvery) {
		return *last
	}
	times := make([]time.Duration, len(g.candidates))
	for i, c := range g.candidates {
		times[i] = c.client.Health().RTT
		if times[i] == 0 {
			times[i] = time.Hour
		}
	}
	if last != nil {
		first := (*last)[0]
		times[first] = time.Duration(float64(times[first]) * fasterBy)
	}
	next := slices.Clone(g.inOrder)
	slices.SortStableFunc(next, func(a, b int) int { return int(times[a] - times[b]) })
	g.fastest.Store(&next)
	return next
}

// positionOf returns c's position.
func (g *Group) positionOf(c *candidate) int { return slices.Index(g.candidates, c) }

// Stats returns what each address of the group has counted, in the order of the configuration.
func (g *Group) Stats() (all []ClientStats) {
	for _, c := range g.candidates {
		all = append(all, c.stats())
	}
	return all
}

// Down reports whether no upstream of the group is likely to answer now: all are backing off or suspect.
func (g *Group) Down() bool {
	now := g.pool.now()
	for _, c := range g.candidates {
		if class, _ := c.appraise(now); class <= held {
			return false
		}
	}
	return true
}

// strict reports whether a second upstream may see a name only if the first has failed.
func (g *Group) strict() bool { return g.budget.cross.share == 0 }

// lookAfter tells the candidates that stand before the k-th of o, and failed, that they are
// still wanted: so their clients go on opening sessions, and a return is noticed, though
// no query depends on it, and no further party learns a name.
func (g *Group) lookAfter(o order, k int, now instant) {
	if !g.opening.pass(now, openEvery) {
		return
	}
	for i := range k {
		c := g.candidates[o.at(i)]
		if class, _ := c.appraise(now); class >= poor {
			c.client.Open()
		}
	}
}

// explore returns a candidate other than best that the next query may go to so that its answer time
// becomes known: one never measured, or measured exploreAgain ago, or sooner while its time
// falls. It finds one at most every exploreEvery, so a fast one that was slow is
// noticed within seconds, at a cost of at most four queries a second.
func (g *Group) explore(best *candidate, now instant) *candidate {
	if g.settings.Policy != Fastest || !g.exploring.pass(now, exploreEvery) {
		return nil
	}
	var least *candidate
	for _, c := range g.candidates {
		if c == best {
			continue
		}
		class, h := c.appraise(now)
		if class > poor || class == poor && g.strict() || !c.due(h, now) {
			continue
		}
		if least == nil || c.scoutedAt.Load() < least.scoutedAt.Load() {
			least = c
		}
	}
	if least != nil {
		least.exploredRTT.Store(int64(least.client.Health().RTT))
	}
	return least
}

// due reports whether c's answer time should be measured anew.
func (c *candidate) due(h dot.Health, now instant) bool {
	last := c.exploredRTT.Load()
	falling := h.RTT > 0 && float64(h.RTT) < 0.95*float64(last)
	return h.RTT == 0 || falling || now-instant(c.scoutedAt.Load()) >= exploreAgain
}

// mayScout reports whether a query may now be sent to a candidate of that class though
// nothing says that it will answer. So the sends while all are down are bounded for the group,
// however many queries wait.
func (g *Group) mayScout(class class, now instant) bool {
	if class == down {
		return g.forcing.pass(now, forceEvery)
	}
	return g.scouting.pass(now, scoutEvery)
}

// answered notes that an exchange succeeded.
func (g *Group) answered(now instant) {
	if g.failing.Load() && g.failing.Swap(false) {
		g.backAt.Store(int64(now))
		g.pool.log.Warn("upstreams answer again")
	}
}

// failed notes that an exchange failed for its deadline. Those that end while others are already
// answered again are not worth a line.
func (g *Group) failed(err *Error, now instant) {
	g.pool.tally.failed.Add(1)
	back := instant(g.backAt.Load())
	if back != 0 && now-back < reportAfter || g.failing.Load() || !g.Down() || g.failing.Swap(true) {
		return
	}
	g.pool.log.Warn("no upstream answers", "err", err)
}
