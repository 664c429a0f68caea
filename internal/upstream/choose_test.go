package upstream_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/upstream"
)

func TestOrderedAsksTheFirstAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "aabb", upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 0.05})
		defer w.pool.Close()
		all := w.load(w.pool.Group(), 200, 5*time.Second, nil)
		all.expect(t, "all", 50*time.Millisecond)
		if n := w.servers["a"][0].seen(time.Time{}); n != len(all) {
			t.Errorf("the first address saw %d of %d queries, want all", n, len(all))
		}
		for _, s := range []*fakeServer{w.servers["a"][1], w.servers["b"][0], w.servers["b"][1]} {
			if n := s.seen(time.Time{}); n != 0 {
				t.Errorf("another address saw %d queries, want 0", n)
			}
		}
	})
}

func TestSpreadAsksAllInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "aabc", upstream.Settings{Policy: upstream.Spread, HedgeBudget: 0.05})
		defer w.pool.Close()
		w.load(w.pool.Group(), 200, 3*time.Second, nil)
		for _, name := range []string{"a", "b", "c"} {
			if n := w.server(name).seen(time.Time{}); n != 200 {
				t.Errorf("%q saw %d of 600 queries, want a third", name, n)
			}
		}
	})
}

func TestFastestFollowsTheAnswerTimes(t *testing.T) {
	for _, budget := range []float64{0.05, 0} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "abc", upstream.Settings{Policy: upstream.Fastest, HedgeBudget: budget})
			defer w.pool.Close()
			g := w.pool.Group()
			w.server("a").configure(func() { w.server("a").delay = 80 * time.Millisecond })
			w.server("c").configure(func() { w.server("c").delay = 5 * time.Millisecond })
			share := func(name string) float64 {
				all := w.load(g, 200, 5*time.Second, nil)
				all.expect(t, "all", 300*time.Millisecond)
				return float64(all.from(name)) / float64(len(all))
			}
			w.load(g, 200, 10*time.Second, nil)
			if s := share("c"); s < 0.98 {
				t.Errorf("budget %v: the fastest answered %.3f, want nearly all", budget, s)
			}
			w.server("c").configure(func() { w.server("c").delay = 200 * time.Millisecond })
			w.load(g, 200, 10*time.Second, nil)
			if s := share("b"); s < 0.95 {
				t.Errorf("budget %v: the fastest after another grew slow answered %.3f, want nearly all", budget, s)
			}
			w.server("c").configure(func() { w.server("c").delay = 5 * time.Millisecond })
			w.load(g, 200, 40*time.Second, nil)
			if s := share("c"); s < 0.95 {
				t.Errorf("budget %v: the one that is fast again answered %.3f, want nearly all", budget, s)
			}
			since := time.Now()
			w.load(g, 200, 30*time.Second, nil)
			if n := w.server("a").seen(since) + w.server("b").seen(since); n > 4*30 {
				t.Errorf("budget %v: %d queries explored in 30 s, want at most 4 a second", budget, n)
			}
		})
	}
}

func TestGroupIsOfTheNamedUpstreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 0.05})
		defer w.pool.Close()
		g := w.pool.Group("c", "b")
		for _, name := range []string{"b", "c"} {
			if o := ask(g); o.from != name {
				t.Errorf("got an answer from %q (%v), want %q", o.from, o.err, name)
			}
			w.server(name).set(gone)
		}
		if o := ask(g); o.err == nil {
			t.Errorf("got an answer from %q, want an error: no other upstream was named", o.from)
		}
		if n := w.server("a").seen(time.Time{}); n != 0 {
			t.Errorf("an upstream that was not named saw %d queries", n)
		}
		var e *upstream.Error
		if _, err := w.pool.Group("none").Exchange(t.Context(), example); !errors.As(err, &e) || !errors.Is(err, upstream.ErrNone) {
			t.Errorf("got %v, want an Error that is ErrNone", err)
		}
	})
}

// With no budget a second upstream learns a name only if the first has failed.
func TestNoBudgetShowsNobodyElseTheName(t *testing.T) {
	tests := []struct {
		name  string
		fault func(a *fakeServer)
	}{
		{"as usual", func(*fakeServer) {}},
		{"some never answered", func(a *fakeServer) { a.dropEvery = 7 }},
		{"slow", func(a *fakeServer) { a.delay = 700 * time.Millisecond }},
		{"sessions closed after 50 queries", func(a *fakeServer) { a.closeAfter = 50 }},
		{"slow to connect", func(a *fakeServer) { a.handshake = 800 * time.Millisecond }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "ab", upstream.Settings{Policy: upstream.Ordered})
				defer w.pool.Close()
				a := w.server("a")
				a.configure(func() { test.fault(a) })
				// One of 343 queries is lost three times, where each seventh is.
				w.load(w.pool.Group(), 100, 5*time.Second, nil).expect(t, "all", 3500*time.Millisecond)
				if n := w.server("b").seen(time.Time{}); n != 0 {
					t.Errorf("the second upstream saw %d queries, want 0", n)
				}
				if n := a.seen(time.Time{}); n > 700 {
					t.Errorf("the first upstream saw %d queries for 500, want few repeats", n)
				}
			})
		})
	}
}

func TestNoBudgetStillFailsOver(t *testing.T) {
	tests := []struct {
		mode  mode
		limit time.Duration
	}{
		{gone, 100 * time.Millisecond},
		{frozen, 1500 * time.Millisecond},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "ab", upstream.Settings{Policy: upstream.Ordered})
			defer w.pool.Close()
			g := w.pool.Group()
			w.load(g, 100, time.Second, nil)
			start := time.Now()
			w.server("a").set(test.mode)
			all := w.load(g, 100, 4*time.Second, nil)
			all.expect(t, "all", test.limit)
			all.between(start.Add(test.limit), start.Add(4*time.Second)).expect(t, "later", 50*time.Millisecond)
			if test.mode == frozen {
				if n := w.server("b").seen(start) - w.server("b").seen(start.Add(900*time.Millisecond)); n != 0 {
					t.Errorf("the second upstream saw %d queries within 0.9 s, want 0", n)
				}
			}
		})
	}
}

// At twice the budget's share of slow answers, the hedges are the budget and the burst.
func TestHedgesKeepToTheBudget(t *testing.T) {
	for _, budget := range []float64{0.01, 0.05, 0.2} {
		for _, p := range policies {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "ab", upstream.Settings{Policy: p.s.Policy, HedgeBudget: budget})
				defer w.pool.Close()
				for _, name := range []string{"a", "b"} {
					s := w.server(name)
					s.configure(func() { s.slowEvery = int(1 / (2 * budget)) })
				}
				all := w.load(w.pool.Group(), 200, 20*time.Second, nil)
				all.expect(t, "all", 700*time.Millisecond)
				s := w.pool.Stats()
				most := uint64(budget*float64(len(all))) + 10
				t.Logf("%s, budget %v: %d hedges, %d failovers, %d retries, %d explored of %d queries",
					p.name, budget, s.Hedges, s.Failovers, s.Retries, s.Explored, s.Queries)
				if s.Hedges > most || s.Crossed > most {
					t.Errorf("%s: %d hedges of %d queries, want at most %d", p.name, s.Hedges, len(all), most)
				}
				// Where far more are slow than that, slow becomes usual.
				if budget <= 0.05 && s.Hedges < most/2 {
					t.Errorf("%s: %d hedges of %d queries, want about %d", p.name, s.Hedges, len(all), most)
				}
				seen := w.server("a").seen(time.Time{}) + w.server("b").seen(time.Time{})
				if more := seen - len(all); more > int(most)+len(all)/50 {
					t.Errorf("%s: the upstreams saw %d queries more than were asked, want at most %d and 2 %%", p.name, more, most)
				}
			})
		}
	}
}

// A lone query that the resolver has to recurse for is no sign of a frozen session.
func TestLoneSlowAnswersStayWithinTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 0.05})
		defer w.pool.Close()
		g := w.pool.Group()
		w.load(g, 200, time.Second, nil)
		a := w.server("a")
		a.configure(func() { a.slowEvery, a.slow = 5, 220*time.Millisecond })
		since := time.Now()
		w.load(g, 2, 100*time.Second, nil).expect(t, "all", 300*time.Millisecond)
		if n := w.server("b").seen(since); n > 10+10 {
			t.Errorf("the second upstream saw %d of 200 names, want at most 5 %% and a burst of 10", n)
		}
		if n := a.dialled(since); n != 0 {
			t.Errorf("%d more connects to an upstream that is only slow, want 0", n)
		}
	})
}

func TestUpdateKeepsEqualEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 0.05}
		w := newWorld(t, "abc", s)
		a, b := w.server("a"), w.server("b")
		w.pool.Update(w.ups[:2], s)
		old := w.pool.Group()
		ask(old)
		b.clients[0].Send(example, make(chan dot.Result, 1), nil)
		a.configure(func() { a.delay = 3 * time.Second })
		late := make(chan outcome)
		go func() { late <- ask(w.pool.Group("a")) }()
		time.Sleep(time.Second)
		w.pool.Update(w.ups[1:], s) // a goes, b stays, c comes
		if o := ask(w.pool.Group()); o.from != "b" {
			t.Errorf("got an answer from %q (%v), want the first that is left", o.from, o.err)
		}
		if o := <-late; o.err != nil {
			t.Errorf("a query under way at the Update failed: %v", o.err)
		}
		time.Sleep(time.Second)
		if !a.clients[0].isClosed() {
			t.Error("the client that is no longer wanted is not closed a second after it finished")
		}
		if len(b.clients) != 1 || b.dialled(time.Time{}) != 1 {
			t.Errorf("%d clients and %d sessions of the endpoint that stayed, want 1", len(b.clients), b.dialled(time.Time{}))
		}
		if o := ask(old); o.from != "b" {
			t.Errorf("a Group of before the Update: got %q (%v), want its other upstream", o.from, o.err)
		}
		w.pool.Close()
		for _, s := range []*fakeServer{a, b, w.server("c")} {
			for _, c := range s.clients {
				if !c.isClosed() {
					t.Error("Close left a client open")
				}
			}
		}
	})
}

// A client with queries that are never answered is closed after some time, and Close does not wait for that.
func TestRetiringIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := upstream.Settings{Policy: upstream.Ordered}
		w := newWorld(t, "a", s)
		a := w.server("a")
		ask(w.pool.Group())
		a.set(frozen)
		a.clients[0].Send(example, make(chan dot.Result, 1), nil)
		w.pool.Update(nil, s)
		time.Sleep(5 * time.Second)
		if a.clients[0].isClosed() {
			t.Error("closed while a query was in flight")
		}
		time.Sleep(6 * time.Second)
		if !a.clients[0].isClosed() {
			t.Error("not closed after 11 s")
		}
		w.pool.Update(w.ups, s)
		start := time.Now()
		w.pool.Update(nil, s)
		w.pool.Close()
		if d := time.Since(start); d > 0 {
			t.Errorf("Close took %v", d)
		}
		a.set(serving)
	})
}

func TestEndOfContextReleasesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "aab", upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 0.05})
		g := w.pool.Group()
		for _, servers := range w.servers {
			for _, s := range servers {
				s.set(frozen)
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(700*time.Millisecond, func() { cancel(nil) })
		start := time.Now()
		_, err := g.Exchange(ctx, example)
		if d := time.Since(start); d != 700*time.Millisecond || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v after %v, want the end with the context", err, d)
		}
		for _, servers := range w.servers {
			for _, s := range servers {
				for _, c := range s.clients {
					if n := c.Health().Pending; n != 0 {
						t.Errorf("%d attempts are still in flight", n)
					}
					s.set(serving)
				}
			}
		}
		w.pool.Close()
	})
}

// A late response to a query that was given up must not answer another.
func TestLateResponsesAnswerNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 1})
		defer w.pool.Close()
		g := w.pool.Group()
		w.server("a").configure(func() { w.server("a").slowEvery = 3 })
		w.load(g, 500, 5*time.Second, nil).expect(t, "all", 300*time.Millisecond)
		if n := w.server("a").clients[0].lateResponses(); n == 0 {
			t.Error("no response was late: the test shows nothing")
		}
	})
}

func TestErrorTellsOfEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 0.05})
		defer w.pool.Close()
		g := w.pool.Group()
		for _, name := range []string{"a", "b"} {
			w.server(name).set(gone)
		}
		var e *upstream.Error
		if err := ask(g).err; !errors.As(err, &e) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want an Error that is the deadline", err)
		}
		if code, text := e.EDE(); code != 22 || !strings.Contains(text, "a 192.0.2.10:853: no session") {
			t.Errorf("got EDE %d %q, want 22 (nothing could be reached) and each address", code, text)
		}
		for _, name := range []string{"a", "b"} {
			w.server(name).set(serving)
		}
		time.Sleep(3 * time.Second)
		ask(g)
		w.server("a").set(frozen)
		w.server("b").set(frozen)
		if err := ask(g).err; !errors.As(err, &e) {
			t.Fatalf("got %v, want an Error", err)
		}
		if code, text := e.EDE(); code != 23 || !strings.Contains(text, "a 192.0.2.10:853: silent") {
			t.Errorf("got EDE %d %q, want 23 (a session was up)", code, text)
		}
		w.server("a").set(serving)
		w.server("b").set(serving)
	})
}

func TestErrorIsOneLine(t *testing.T) {
	e := &upstream.Error{
		Took:  4 * time.Second,
		Cause: context.DeadlineExceeded,
		Attempts: []upstream.Attempt{
			{Upstream: "a", Addr: netip.MustParseAddrPort("192.0.2.1:853"), Reason: upstream.Silent, Sends: 2, After: 60 * time.Millisecond},
			{Upstream: "b", Addr: netip.MustParseAddrPort("[2001:db8::1]:853"), Reason: upstream.Unreachable, Err: errors.New("network is\nunreachable")},
		},
	}
	want := `asking upstreams for 4s: context deadline exceeded: "a" (192.0.2.1:853): silent after 60ms, asked 2 times; ` +
		`"b" ([2001:db8::1]:853): no session (network is unreachable)`
	if got := e.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for range 10 {
		e.Attempts = append(e.Attempts, e.Attempts[0])
	}
	if _, text := e.EDE(); len(text) > 160 {
		t.Errorf("an EDE text of %d octets, want at most 160", len(text))
	}
}
