package upstream_test

import (
	"testing"
	"testing/synctest"
	"time"

	"dnsproxy/internal/upstream"
)

// policies is what each fault is met with: each policy, with and without a hedge budget.
var policies = []struct {
	name string
	s    upstream.Settings
}{
	{"ordered", upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 0.05}},
	{"fastest", upstream.Settings{Policy: upstream.Fastest, HedgeBudget: 0.05}},
	{"spread", upstream.Settings{Policy: upstream.Spread, HedgeBudget: 0.05}},
}

// faults runs f in a bubble for each policy over a world of its own that has warmed up.
func faults(t *testing.T, names string, f func(t *testing.T, w *world, g *upstream.Group)) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, names, p.s)
				defer w.pool.Close()
				g := w.pool.Group()
				w.load(g, 200, time.Second, nil).expect(t, "before", 300*time.Millisecond)
				f(t, w, g)
			})
		})
	}
}

func TestFrozenUpstreamCostsNobodyMoreThan300ms(t *testing.T) {
	faults(t, "ab", func(t *testing.T, w *world, g *upstream.Group) {
		a := w.server("a")
		start := time.Now()
		all := w.load(g, 500, 10*time.Second, func() {
			a.set(frozen)
			time.Sleep(6 * time.Second)
			a.set(serving)
		})
		thaw := start.Add(6 * time.Second)
		all.expect(t, "all", 300*time.Millisecond)
		all.between(start.Add(500*time.Millisecond), thaw).expect(t, "half a second after the freeze", 50*time.Millisecond)
		all.between(thaw, thaw.Add(4*time.Second)).expect(t, "after the thaw", 50*time.Millisecond)
		if n := all.between(thaw.Add(time.Second), thaw.Add(4*time.Second)).from("a"); n < 500 {
			t.Errorf("%d of 1500 queries were answered by the upstream that thawed a second before, want at least a third", n)
		}
		if n := w.log.lines("upstream not used"); n != 1 {
			t.Errorf("%d lines about the frozen upstream, want 1:\n%v", n, w.log)
		}
		if n := w.log.lines("upstream used again"); n != 1 {
			t.Errorf("%d lines about its return, want 1:\n%v", n, w.log)
		}
	})
}

// A frozen upstream sees what was in flight when it froze, and then probes only.
func TestFrozenUpstreamIsNotFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 0.05})
		defer w.pool.Close()
		g := w.pool.Group()
		w.load(g, 200, time.Second, nil)
		a := w.server("a")
		a.set(frozen)
		w.load(g, 1000, 500*time.Millisecond, nil)
		since := time.Now()
		w.load(g, 1000, 5*time.Second, nil)
		if n := a.clients[0].sent(since); n > 4*5+2 {
			t.Errorf("%d sends to a frozen upstream in 5 s, want at most 4 a second", n)
		}
	})
}

func TestUpstreamThatRefusesIsLeftAtOnce(t *testing.T) {
	faults(t, "ab", func(t *testing.T, w *world, g *upstream.Group) {
		a := w.server("a")
		start := time.Now()
		all := w.load(g, 500, 6*time.Second, func() {
			a.set(gone)
			time.Sleep(3 * time.Second)
			a.set(serving)
		})
		all.expect(t, "all", 100*time.Millisecond)
		if n := a.dialled(start); n > 20 {
			t.Errorf("%d connects in 3 s to an upstream that refuses them, want at most 20", n)
		}
		if n := all.between(start.Add(5*time.Second), start.Add(6*time.Second)).from("a"); n < 150 {
			t.Errorf("%d of 500 queries were answered by the upstream that came back 2 s before", n)
		}
	})
}

func TestSessionsClosedUnderQueriesCostNothing(t *testing.T) {
	faults(t, "ab", func(t *testing.T, w *world, g *upstream.Group) {
		w.server("a").configure(func() { w.server("a").closeAfter = 100 })
		w.load(g, 500, 4*time.Second, nil).expect(t, "closing after 100 queries", 100*time.Millisecond)
	})
}

func TestQueryThatAloneHasNoAnswerIsHedged(t *testing.T) {
	faults(t, "ab", func(t *testing.T, w *world, g *upstream.Group) {
		w.server("a").configure(func() { w.server("a").dropEvery = 50 })
		w.load(g, 500, 10*time.Second, nil).expect(t, "1 in 50 never answered", 300*time.Millisecond)
	})
}

// Without anybody else who may be asked, the same one is asked again.
func TestQueryThatAloneHasNoAnswerIsRepeated(t *testing.T) {
	for _, tt := range []struct {
		name, upstreams string
		budget          float64
	}{{"one upstream", "a", 0.05}, {"no hedge budget", "ab", 0}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, tt.upstreams, upstream.Settings{Policy: upstream.Ordered, HedgeBudget: tt.budget})
				defer w.pool.Close()
				w.server("a").configure(func() { w.server("a").dropEvery = 50 })
				start := time.Now()
				all := w.load(w.pool.Group(), 500, 10*time.Second, nil)
				all.expect(t, "1 in 50 never answered", 1500*time.Millisecond) // one in 2500 twice
				late := 0
				for _, o := range all {
					if o.took > 300*time.Millisecond {
						late++
					}
				}
				if late > 5 {
					t.Errorf("%d of %d took over 300 ms, want those alone that were lost twice", late, len(all))
				}
				if n := w.server("a").seen(start); n > 5000+5000/20 {
					t.Errorf("%d queries came for 5000", n)
				}
				if tt.upstreams == "ab" && w.server("b").seen(start) != 0 {
					t.Error("another upstream saw a name")
				}
			})
		})
	}
}

// Only the daemon stood still: its timers all fire at once, and its sessions are half-open.
func TestAllSessionsHalfOpen(t *testing.T) {
	faults(t, "ab", func(t *testing.T, w *world, g *upstream.Group) {
		for _, name := range []string{"a", "b"} {
			s := w.server(name)
			c := s.clients[0]
			c.mu.Lock()
			if f := c.session; f != nil { // what is sent on it vanishes
				f.void = true
			}
			c.mu.Unlock()
		}
		w.load(g, 200, 2*time.Second, nil).expect(t, "half-open", 300*time.Millisecond)
	})
}

func TestSingleUpstreamHalfOpen(t *testing.T) {
	faults(t, "a", func(t *testing.T, w *world, g *upstream.Group) {
		c := w.server("a").clients[0]
		c.mu.Lock()
		c.session.void = true
		c.mu.Unlock()
		w.load(g, 200, 2*time.Second, nil).expect(t, "half-open", 300*time.Millisecond)
	})
}

// The second address of the first upstream may be an IPv6 one without a route.
func TestBlackHoledAddressIsNoticedOnce(t *testing.T) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "aabb", p.s)
				defer w.pool.Close()
				w.servers["a"][0].set(frozen)
				g := w.pool.Group()
				first := outcomes{ask(g), ask(g)} // two, as Spread begins anywhere
				first.expect(t, "the first query", 300*time.Millisecond)
				w.load(g, 200, 5*time.Second, nil).expect(t, "those that follow", 100*time.Millisecond)
			})
		})
	}
}

func TestAllDownThenBack(t *testing.T) {
	for _, m := range []mode{gone, frozen} {
		t.Run([]string{gone: "gone", frozen: "frozen"}[m], func(t *testing.T) {
			faults(t, "aab", func(t *testing.T, w *world, g *upstream.Group) {
				every := func(m mode) {
					for _, servers := range w.servers {
						for _, s := range servers {
							s.set(m)
						}
					}
				}
				start := time.Now()
				back := start.Add(20 * time.Second)
				var down bool
				all := w.load(g, 100, 23*time.Second, func() {
					every(m)
					time.Sleep(10 * time.Second)
					down = g.Down()
					time.Sleep(10 * time.Second)
					every(serving)
				})
				if !down {
					t.Error("the group is not down while no upstream answers")
				}
				if g.Down() {
					t.Error("the group is down though all answer")
				}
				all.between(back.Add(-2500*time.Millisecond), back).expect(t, "waiting when they came back", 3500*time.Millisecond)
				all.between(back, back.Add(time.Second)).expect(t, "in the first second", time.Second)
				all.between(back.Add(time.Second), back.Add(3*time.Second)).expect(t, "after it", 50*time.Millisecond)
				w.expectNoStorm(t, start.Add(5*time.Second), back, 100)
				if n := w.log.lines("no upstream answers"); n != 1 {
					t.Errorf("%d lines that nobody answers, want 1:\n%v", n, w.log)
				}
			})
		})
	}
}

// expectNoStorm bounds the sends and connects of a time when all are down.
func (w *world) expectNoStorm(t *testing.T, from, to time.Time, rate int) {
	t.Helper()
	var sends, dials int
	for _, servers := range w.servers {
		for _, s := range servers {
			dials += s.dialled(from) - s.dialled(to)
			for _, c := range s.clients {
				sends += c.sent(from) - c.sent(to)
			}
		}
	}
	seconds := to.Sub(from).Seconds()
	t.Logf("all down: %.1f sends and %.1f connects a second at %d queries a second", float64(sends)/seconds, float64(dials)/seconds, rate)
	if float64(sends)/seconds > 2*float64(rate)+20 {
		t.Errorf("%d sends in %.0f s, want at most 2 for each query and 20 a second", sends, seconds)
	}
	if float64(dials)/seconds > 6*float64(len(w.servers)) {
		t.Errorf("%d connects in %.0f s, want at most 6 a second for each upstream", dials, seconds)
	}
}

func TestFlappingUpstream(t *testing.T) {
	faults(t, "ab", func(t *testing.T, w *world, g *upstream.Group) {
		a := w.server("a")
		all := w.load(g, 200, 30*time.Second, func() {
			for range 15 {
				a.set(frozen)
				time.Sleep(time.Second)
				a.set(serving)
				time.Sleep(time.Second)
			}
		})
		all.expect(t, "flapping", 300*time.Millisecond)
		slow := 0
		for _, o := range all {
			if o.took > 50*time.Millisecond {
				slow++
			}
		}
		t.Logf("%d of %d queries took over 50 ms", slow, len(all))
		if n := w.log.lines("upstream not used"); n > 15 {
			t.Errorf("%d lines, want no more than the upstream fell", n)
		}
	})
}
