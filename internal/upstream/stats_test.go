package upstream_test

import (
	"testing"
	"testing/synctest"
	"time"

	"dnsproxy/internal/upstream"
)

func TestStatsCountAnswersAndFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 0.05})
		defer w.pool.Close()
		g := w.pool.Group()
		w.load(g, 100, 10*time.Second, nil)
		w.load(g, 100, 10*time.Second, func() {
			time.Sleep(5 * time.Millisecond)
			w.server("a").set(gone)
		})
		s := w.pool.Stats()
		if s.Queries != 2000 || s.Failed != 0 {
			t.Errorf("got %d queries, %d failed, want 2000 and 0", s.Queries, s.Failed)
		}
		a, b := s.Clients[0], s.Clients[1]
		if n := a.Answers + b.Answers; n != 2000 {
			t.Errorf("got %d answers, want 2000", n)
		}
		if a.Failures[upstream.Closed] == 0 || a.Failures[upstream.Unreachable] == 0 || a.InUse || !b.InUse {
			t.Errorf("got %+v, want failures by reason, and only b in use", s.Clients)
		}
		for _, p := range []float64{0.5, 0.95, 0.99} {
			if q := b.Times.Quantile(p); q < 15*time.Millisecond || q > 25*time.Millisecond {
				t.Errorf("quantile %v is %v, want 20 ms within a quarter", p, q)
			}
		}
		if n := b.Times.AtMost(30 * time.Millisecond); n < b.Answers-5 {
			t.Errorf("%d of %d answers within 30 ms", n, b.Answers)
		}
		if n := b.Times.AtMost(10 * time.Millisecond); n != 0 {
			t.Errorf("%d answers within 10 ms, want 0", n)
		}
		if mean := b.Times.Sum / time.Duration(b.Answers); mean < 20*time.Millisecond || mean > 21*time.Millisecond {
			t.Errorf("the mean is %v, want 20 ms", mean)
		}
	})
}
