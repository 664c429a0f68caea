package main

import (
	"context"
	"sync"
	"time"

	"dnsproxy/internal/control"
	"dnsproxy/internal/histogram"
)

// The history has a point for each minute of the last hour.
const (
	historyStep = time.Minute
	historySize = 60
)

// sample is the counters that the history is made of, at one moment.
type sample struct {
	at      time.Time
	queries uint64
	hits    uint64
	misses  uint64
	times   histogram.Histogram
}

// point is what happened between two samples.
type point struct {
	rate, hitRatio float64
	p95            time.Duration
}

func (s sample) since(o sample) (p point) {
	if took := s.at.Sub(o.at).Seconds(); took > 0 {
		p.rate = float64(s.queries-o.queries) / took
	}
	p.hitRatio = ratio(s.hits-o.hits, s.misses-o.misses)
	times := s.times.Since(o.times)
	p.p95 = times.Quantile(0.95)
	return p
}

// ratio returns the share of hits, 0 if there is nothing.
func ratio(hits, misses uint64) float64 {
	if hits+misses == 0 {
		return 0
	}
	return float64(hits) / float64(hits+misses)
}

// history remembers the last hour.
type history struct {
	mu     sync.Mutex // guards the fields below
	last   sample
	points []point // oldest first
}

// keep takes a sample each minute until ctx ends.
func (h *history) keep(ctx context.Context, take func() sample) {
	h.note(take())
	tick := time.NewTicker(historyStep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.note(take())
		case <-ctx.Done():
			return
		}
	}
}

func (h *history) note(s sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.last.at.IsZero() {
		h.points = append(h.points, s.since(h.last))
		h.points = h.points[max(0, len(h.points)-historySize):]
	}
	h.last = s
}

// tell returns the history up to now.
func (h *history) tell(now sample) control.History {
	h.mu.Lock()
	defer h.mu.Unlock()
	told := control.History{Step: control.SecondsOf(historyStep), Rate: []float64{}, HitRatio: []float64{}, P95: []control.Seconds{}}
	add := func(p point) {
		told.Rate = append(told.Rate, p.rate)
		told.HitRatio = append(told.HitRatio, p.hitRatio)
		told.P95 = append(told.P95, control.SecondsOf(p.p95))
	}
	for _, p := range h.points {
		add(p)
	}
	if !h.last.at.IsZero() {
		add(now.since(h.last))
	}
	return told
}

// sample reads the counters for the history.
func (d *daemon) sample() sample {
	front, forward := d.front.Stats(), d.forward.Stats()
	return sample{
		at:      time.Now(),
		queries: front.UDPQueries + front.TCPQueries,
		hits:    forward.Hits,
		misses:  forward.Misses,
		times:   front.KnownTimes.Plus(front.WaitedTimes),
	}
}
