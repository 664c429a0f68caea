package upstream_test

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/dottest"
	"dnsproxy/internal/upstream"
)

// The tests of this file run the real client over TLS, to servers in memory, under a fake clock.

// usual is how the servers answer: after 20 ms.
var usual = dottest.After(20*time.Millisecond, dottest.Answer)

// tlsWorld is a pool of real clients. Server i belongs to the i-th letter of names.
type tlsWorld struct {
	world
	servers []*dottest.Server
	holes   []*atomic.Bool // what is written on connections opened before it was set vanishes
	queries int            // seen by all servers when it was last looked at
	dials   atomic.Int64
}

func newTLSWorld(t *testing.T, names string, s upstream.Settings) *tlsWorld {
	w := &tlsWorld{world: world{t: t, log: &journal{}}}
	ca := dottest.NewCA(t)
	for i, r := range names {
		server := dottest.New(t, dottest.InMemory(), dottest.WithCA(ca), dottest.WithAction(usual))
		e := server.Endpoint()
		e.Upstream = string(r)
		e.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 853)
		dial := e.Dial
		flag := new(atomic.Bool)
		w.holes = append(w.holes, flag)
		e.Dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			w.dials.Add(1)
			c, err := dial(ctx, a)
			if err != nil {
				return nil, err
			}
			if flag.Load() { // it is the sessions of before that are half-open
				return c, nil
			}
			return &holeConn{c, flag}, nil
		}
		w.servers = append(w.servers, server)
		if n := len(w.ups); n > 0 && w.ups[n-1].Name == string(r) {
			w.ups[n-1].Endpoints = append(w.ups[n-1].Endpoints, e)
		} else {
			w.ups = append(w.ups, upstream.Upstream{Name: string(r), Endpoints: []dot.Endpoint{e}})
		}
	}
	w.pool = upstream.NewPool(slog.New(slog.NewTextHandler(w.log, nil)))
	w.pool.Update(w.ups, s)
	return w
}

// holeConn is a connection that may become half-open.
type holeConn struct {
	net.Conn
	hole *atomic.Bool
}

func (c *holeConn) Write(b []byte) (int, error) {
	if c.hole.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// seen returns how many queries the servers have seen since it was last asked.
func (w *tlsWorld) seen() int {
	n := -w.queries
	for _, s := range w.servers {
		n += s.Stats().Queries
	}
	w.queries += n
	return n
}

// sessions runs f in a bubble for each policy over a world of two warm upstreams.
func sessions(t *testing.T, names string, f func(t *testing.T, w *tlsWorld, g *upstream.Group)) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTLSWorld(t, names, p.s)
				defer w.pool.Close()
				g := w.pool.Group()
				w.load(g, 200, time.Second, nil).expect(t, "before", 100*time.Millisecond)
				w.seen()
				f(t, w, g)
			})
		})
	}
}

func TestSessionClosedWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTLSWorld(t, "ab", upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 0.05})
		defer w.pool.Close()
		g := w.pool.Group()
		w.servers[0].Do(func(q *dottest.Query) {
			usual(q)
			time.AfterFunc(time.Second, func() { q.Conn.Close() })
		})
		var all outcomes
		for range 20 {
			all = append(all, ask(g))
			time.Sleep(1300 * time.Millisecond)
		}
		all.expect(t, "one query each 1.3 s, closed after 1 s", 100*time.Millisecond)
	})
}

func TestSessionEndsUnderQueries(t *testing.T) {
	ends := map[string]dottest.Action{"FIN": dottest.FIN, "bare FIN": dottest.BareFIN, "RST": dottest.RST}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			sessions(t, "ab", func(t *testing.T, w *tlsWorld, g *upstream.Group) {
				w.servers[0].Do(func(q *dottest.Query) {
					if q.ConnSeq <= 100 {
						usual(q)
					} else {
						end(q)
					}
				})
				all := w.load(g, 500, 4*time.Second, nil)
				all.expect(t, "ended after 100 queries", 100*time.Millisecond)
				t.Logf("%d queries seen for %d asked", w.seen(), len(all))
			})
		})
	}
}

func TestServerFrozen(t *testing.T) {
	sessions(t, "ab", func(t *testing.T, w *tlsWorld, g *upstream.Group) {
		start := time.Now()
		all := w.load(g, 500, 10*time.Second, func() {
			w.servers[0].Freeze()
			time.Sleep(6 * time.Second)
			w.servers[0].Thaw()
			w.expectReturn(t, time.Second)
		})
		w.expectOutage(t, all, start, start.Add(6*time.Second))
	})
}

func TestServerUnreachable(t *testing.T) {
	sessions(t, "ab", func(t *testing.T, w *tlsWorld, g *upstream.Group) {
		start := time.Now()
		all := w.load(g, 500, 14*time.Second, func() {
			w.servers[0].Drop(true)
			time.Sleep(6 * time.Second)
			w.servers[0].Drop(false)
			// A connect that was under way, and the back-off after it, may have to end first.
			w.expectReturn(t, 6*time.Second)
		})
		w.expectOutage(t, all, start, start.Add(6*time.Second))
	})
}

// expectReturn waits until server 0, which has just come back, has answered 20 queries, at most for soon.
func (w *tlsWorld) expectReturn(t *testing.T, soon time.Duration) {
	back := time.Now()
	before := w.pool.Stats().Clients[0].Answers
	for w.pool.Stats().Clients[0].Answers < before+20 {
		if time.Since(back) > soon {
			t.Errorf("the server is not in use again after %v", soon)
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("in use again after %v", time.Since(back))
}

// expectOutage checks what an outage of server 0 from start to end cost.
func (w *tlsWorld) expectOutage(t *testing.T, all outcomes, start, end time.Time) {
	t.Helper()
	all.expect(t, "all", 300*time.Millisecond)
	all.between(start.Add(500*time.Millisecond), end).expect(t, "half a second into the outage", 50*time.Millisecond)
	all.between(end, end.Add(time.Minute)).expect(t, "after it", 50*time.Millisecond)
	s := w.pool.Stats()
	t.Logf("%d queries, %d hedges, %d failovers, %d retries; first server: %d connections; %d seen for %d asked",
		s.Queries, s.Hedges, s.Failovers, s.Retries, w.servers[0].Stats().Connections, w.seen(), len(all))
	for _, line := range []string{"upstream not used", "upstream used again"} {
		if n := w.log.lines(line); n != 1 {
			t.Errorf("%d lines %q, want 1:\n%v", n, line, w.log)
		}
	}
}

func TestAllServersGoneThenBack(t *testing.T) {
	outages := map[string][2]func(*dottest.Server){
		"refusing": {(*dottest.Server).Stop, (*dottest.Server).Start},
		"frozen":   {(*dottest.Server).Freeze, (*dottest.Server).Thaw},
		"dropped": {
			func(s *dottest.Server) { s.Drop(true) },
			func(s *dottest.Server) { s.Drop(false) },
		},
	}
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			sessions(t, "aab", func(t *testing.T, w *tlsWorld, g *upstream.Group) {
				start := time.Now()
				back := start.Add(30 * time.Second)
				before := w.dials.Load()
				all := w.load(g, 50, 34*time.Second, func() {
					for _, s := range w.servers {
						outage[0](s)
					}
					time.Sleep(29 * time.Second)
					if !g.Down() {
						t.Error("the group is not down")
					}
					time.Sleep(time.Second)
					dials := w.dials.Load() - before
					t.Logf("%d connects in 30 s", dials)
					if dials > 30*4*3 {
						t.Errorf("%d connects in 30 s to 3 servers, want at most 4 a second each", dials)
					}
					for _, s := range w.servers {
						outage[1](s)
					}
				})
				all.between(back.Add(-2*time.Second), back).expect(t, "waiting when they came back", 4*time.Second)
				all.between(back.Add(time.Second), back.Add(4*time.Second)).expect(t, "a second after", 100*time.Millisecond)
			})
		})
	}
}

func TestCertificateReplaced(t *testing.T) {
	sessions(t, "ab", func(t *testing.T, w *tlsWorld, g *upstream.Group) {
		all := w.load(g, 500, 5*time.Second, func() {
			time.Sleep(100 * time.Millisecond)
			w.servers[0].Present(dottest.NewCA(t).Issue(dottest.Leaf{}))
			w.servers[0].ResetAll()
		})
		all.expect(t, "all", 100*time.Millisecond)
		if n := w.log.lines("reason=authentication"); n != 1 {
			t.Errorf("%d lines that tell the reason, want 1:\n%v", n, w.log)
		}
	})
}

// Every session is half-open, as after a suspension.
func TestSessionsHalfOpen(t *testing.T) {
	for _, names := range []string{"a", "ab"} {
		sessions(t, names, func(t *testing.T, w *tlsWorld, g *upstream.Group) {
			for _, hole := range w.holes {
				hole.Store(true)
			}
			w.load(g, 200, 3*time.Second, nil).expect(t, "half-open", 300*time.Millisecond)
		})
	}
}

func TestServerAnswersNotEveryQuery(t *testing.T) {
	sessions(t, "ab", func(t *testing.T, w *tlsWorld, g *upstream.Group) {
		w.servers[0].Do(dottest.Every(50, dottest.Never, usual))
		all := w.load(g, 500, 10*time.Second, nil)
		all.expect(t, "1 in 50 never", 300*time.Millisecond)
		seen := w.seen()
		t.Logf("%d queries seen for %d asked", seen, len(all))
		if more := seen - len(all); more > len(all)*5/100+10 {
			t.Errorf("%d queries more than were asked, want at most 5 %%", more)
		}
	})
}

func TestServerAnnouncesIdleTimeouts(t *testing.T) {
	tests := []struct {
		units uint16 // of 100 ms
		most  int    // handshakes
	}{
		{0, 2 * 400 / 4}, // the session takes no more queries when the response comes, after four
		{1, 3},           // in constant use it is never idle
		{1200, 3},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			w := newTLSWorld(t, "ab", upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 0.05})
			defer w.pool.Close()
			w.servers[0].Do(dottest.After(20*time.Millisecond, func(q *dottest.Query) {
				m := q.Reply()
				if dottest.AsksKeepalive(q.Msg) { // miekg/dns would write a timeout of 0 as none
					option := &dns.EDNS0_LOCAL{Code: dns.EDNS0TCPKEEPALIVE, Data: binary.BigEndian.AppendUint16(nil, test.units)}
					m.IsEdns0().Option = append(m.IsEdns0().Option, option)
				}
				q.Send(m)
			}))
			w.load(w.pool.Group(), 200, 2*time.Second, nil).expect(t, "all", 100*time.Millisecond)
			n := w.servers[0].Stats().Handshakes
			t.Logf("edns-tcp-keepalive of %d00 ms: %d handshakes for 400 queries", test.units, n)
			if n > test.most {
				t.Errorf("%d handshakes, want at most %d", n, test.most)
			}
		})
	}
}

func TestOneAddressOfFourIsBlackHoled(t *testing.T) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTLSWorld(t, "aabb", p.s)
				defer w.pool.Close()
				w.servers[0].Drop(true)
				g := w.pool.Group()
				outcomes{ask(g), ask(g)}.expect(t, "the first queries", 300*time.Millisecond)
				w.load(g, 200, 5*time.Second, nil).expect(t, "the others", 50*time.Millisecond)
			})
		})
	}
}

// Whatever the first upstream sends, the other one's answer comes in time.
func TestServerTalksNonsense(t *testing.T) {
	nonsense := map[string]dottest.Action{
		"wrong ID": dottest.WrongID, "wrong question": dottest.WrongQuestion, "no question": dottest.NoQuestion,
		"garbage": dottest.Garbage, "truncated": dottest.Truncate, "echo": dottest.Echo, "nothing": dottest.Never,
		"twice": dottest.Twice,
	}
	for name, a := range nonsense {
		t.Run(name, func(t *testing.T) {
			sessions(t, "ab", func(t *testing.T, w *tlsWorld, g *upstream.Group) {
				w.servers[0].Do(a)
				w.load(g, 200, 4*time.Second, nil).expect(t, name, 300*time.Millisecond)
			})
		})
	}
}

// A name that takes the upstreams seconds to resolve is answered all the same, alone or beside
// others: suspicion must not end the session that the response is due on.
func TestSlowNameIsAnswered(t *testing.T) {
	for _, names := range []string{"a", "ab"} {
		for _, budget := range []float64{0, 0.05} {
			for _, d := range []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 3 * time.Second, 3900 * time.Millisecond} {
				synctest.Test(t, func(t *testing.T) {
					w := newTLSWorld(t, names, upstream.Settings{Policy: upstream.Ordered, HedgeBudget: budget})
					defer w.pool.Close()
					g := w.pool.Group()
					w.load(g, 50, time.Second, nil)
					w.seen()
					for _, s := range w.servers {
						// As a resolver does: one resolution for all who ask meanwhile.
						known := sync.OnceValue(func() time.Time { return time.Now().Add(d) })
						s.Do(func(q *dottest.Query) { dottest.After(time.Until(known()), dottest.Answer)(q) })
					}
					o := ask(g)
					if o.err != nil {
						t.Errorf("%q, budget %v, %v: %v", names, budget, d, o.err)
					}
					t.Logf("%q, budget %v: resolved in %v, answered in %v, seen %d times", names, budget, d, o.took, w.seen())
				})
			}
		}
	}
}
