package upstream_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"dnsproxy/internal/upstream"
)

// deadlineOnly is a context that has a deadline but never ends.
type deadlineOnly struct {
	context.Context
	at time.Time
}

func (c deadlineOnly) Deadline() (time.Time, bool) { return c.at, true }

func TestExchangeWatchesTheDeadlineItself(t *testing.T) {
	for name, m := range map[string]mode{"frozen": frozen, "refused": gone} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "ab", upstream.Settings{Policy: upstream.Ordered})
				defer w.pool.Close()
				w.server("a").set(m)
				w.server("b").set(m)
				const timeout = 4 * time.Second
				began := time.Now()
				_, err := w.pool.Group().Exchange(deadlineOnly{t.Context(), began.Add(timeout)}, example)
				if took := time.Since(began); took != timeout || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}
