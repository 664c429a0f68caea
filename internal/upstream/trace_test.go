package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dnsproxy/internal/upstream"
)

// way renders the steps of an exchange, times aside.
func way(trace *upstream.Trace) string {
	var b strings.Builder
	for _, s := range trace.Steps() {
		fmt.Fprintf(&b, "%s %s", s.Upstream, s.Event)
		if s.Reason != upstream.NoReason {
			fmt.Fprintf(&b, " (%v)", s.Reason)
		}
		b.WriteString("; ")
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func TestTraceTellsTheWay(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(w *world) // behind a first query
		later  bool           // the fault has been noticed by then
		budget float64
		want   string
	}{
		{"well", func(*world) {}, false, 0.05, "a asked; a answered"},
		{"closed under it", func(w *world) {
			w.server("a").configure(func() { w.server("a").closeAfter = 1 })
		}, false, 0.05, "a asked; a failed (session closed); a asked again; a answered"},
		{"gone", func(w *world) { w.server("a").set(gone) }, true, 0.05, "a passed over (no session); b asked; b answered"},
		{"frozen", func(w *world) { w.server("a").set(frozen) }, false, 0, "a asked; a given up (silent); b asked; b answered"},
		{"slow", func(w *world) {
			w.server("a").configure(func() { w.server("a").delay = 225 * time.Millisecond })
		}, false, 1, "a asked; b asked as well; b answered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "ab", upstream.Settings{Policy: upstream.Ordered, HedgeBudget: tt.budget})
				defer w.pool.Close()
				g := w.pool.Group()
				w.load(g, 10, time.Second, nil)
				tt.before(w)
				if tt.later {
					w.load(g, 10, time.Second, nil)
				}
				trace := new(upstream.Trace)
				ctx, cancel := context.WithTimeout(upstream.WithTrace(t.Context(), trace), 4*time.Second)
				defer cancel()
				if _, err := g.Exchange(ctx, example); err != nil {
					t.Error(err)
				}
				if got := way(trace); got != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
				last := time.Duration(0)
				for _, s := range trace.Steps() {
					if s.After < last {
						t.Errorf("steps out of order: %v", trace.Steps())
					}
					last = s.After
				}
			})
		})
	}
}

// That nobody waits any more, as when the daemon stops, is no fault of the upstreams'.
func TestCancelledExchangeBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", upstream.Settings{Policy: upstream.Ordered})
		defer w.pool.Close()
		w.server("a").set(gone)
		w.server("b").set(gone)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		time.AfterFunc(2*time.Second, cancel)
		if _, err := w.pool.Group().Exchange(ctx, example); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if n := w.log.lines("no upstream answers"); n != 0 || w.pool.Stats().Failed != 0 {
			t.Errorf("%d lines, %d counted; want none", n, w.pool.Stats().Failed)
		}
	})
}
