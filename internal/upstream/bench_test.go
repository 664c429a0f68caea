package upstream_test

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/dottest"
	"dnsproxy/internal/upstream"
	"dnsproxy/internal/wire"
)

// instantClient answers before Send returns, so that what is left is the chooser's own cost.
type instantClient struct{ health dot.Health }

func (c *instantClient) Send(_ wire.Query, results chan<- dot.Result, _ *dot.Pending) upstream.Pending {
	results <- dot.Result{}
	return c
}

func (c *instantClient) Cancel() bool       { return false }
func (c *instantClient) Open()              {}
func (c *instantClient) Stats() dot.Stats   { return dot.Stats{} }
func (c *instantClient) Silent() bool       { return false }
func (c *instantClient) Health() dot.Health { return c.health }
func (c *instantClient) Close()             {}

func newInstantGroup(p upstream.Policy) (*upstream.Pool, *upstream.Group) {
	pool := upstream.NewPoolOf(slog.New(slog.DiscardHandler), func(dot.Endpoint, *slog.Logger) upstream.Client {
		return &instantClient{dot.Health{State: dot.Ready, RTT: 20 * time.Millisecond, RTTVar: time.Millisecond}}
	})
	var ups []upstream.Upstream
	for u := range 3 {
		name := string(rune('a' + u))
		up := upstream.Upstream{Name: name}
		for a := range 4 {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(10*u + a)}), 853)
			up.Endpoints = append(up.Endpoints, dot.Endpoint{Upstream: name, Addr: addr})
		}
		ups = append(ups, up)
	}
	pool.Update(ups, upstream.Settings{Policy: p, HedgeBudget: 0.05})
	return pool, pool.Group()
}

func BenchmarkExchange(b *testing.B) {
	for _, p := range policies {
		b.Run(p.name, func(b *testing.B) {
			pool, g := newInstantGroup(p.s.Policy)
			defer pool.Close()
			ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
			defer cancel()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := g.Exchange(ctx, example); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkExchangeTLS asks a real server on loopback, with as many queries in flight as make
// both sides busy. On a machine with two cores the server's cost is most of it.
func BenchmarkExchangeTLS(b *testing.B) {
	server := dottest.New(b)
	pool := upstream.NewPool(slog.New(slog.DiscardHandler))
	defer pool.Close()
	e := server.Endpoint()
	pool.Update([]upstream.Upstream{{Name: e.Upstream, Endpoints: []dot.Endpoint{e}}}, upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 0.05})
	g := pool.Group()
	b.ReportAllocs()
	b.SetParallelism(100)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if o := ask(g); o.err != nil {
				b.Error(o.err)
				return
			}
		}
	})
	s := pool.Stats()
	b.ReportMetric(float64(s.Hedges+s.Failovers+s.Retries)/float64(s.Queries), "extra/op")
	b.ReportMetric(float64(s.Clients[0].Dot.Suspected), "suspected")
}

// A query that its first upstream answers costs no allocation.
func TestExchangeAllocatesNothing(t *testing.T) {
	pool, g := newInstantGroup(upstream.Ordered)
	defer pool.Close()
	n := testing.AllocsPerRun(1000, func() {
		if _, err := g.Exchange(t.Context(), example); err != nil {
			t.Fatal(err)
		}
	})
	most := 0.0
	if poolLeaks {
		most = 2
	}
	if n > most {
		t.Errorf("%v allocations, want %v", n, most)
	}
}
