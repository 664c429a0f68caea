package upstream

import (
	"math/bits"
	"sync/atomic"
	"time"

	"dnsproxy/internal/dot"
)

// Stats is what a pool has counted since it was made.
type Stats struct {
	Queries   uint64 // exchanges begun
	Failed    uint64 // exchanges that ended without a response
	Retries   uint64 // repeated on the same address: its session ended, fell silent, or lost the query
	Failovers uint64 // sent to another address since the first had failed
	Hedges    uint64 // sent to another address while the first might still answer
	Crossed   uint64 // those of Hedges that another upstream saw
	Explored  uint64 // copies sent so that an address's answer time becomes known
	Clients   []ClientStats
}

// ClientStats is what one address did since it came into use.
type ClientStats struct {
	Endpoint dot.Endpoint
	Health   dot.Health
	Dot      dot.Stats
	InUse    bool // a first choice for queries, as far as its health goes
	Sends    uint64
	Answers  uint64
	Failures map[Reason]uint64
	Times    Histogram // of answers, from the send that was answered
}

// tally is a pool's counters.
type tally struct {
	queries, failed, retries, failovers, hedges, crossed, explored atomic.Uint64
}

// counters is a candidate's counters.
type counters struct {
	sends    atomic.Uint64
	failures [reasons]atomic.Uint64
	times    [buckets]atomic.Uint64
	sum      atomic.Int64 // nanoseconds
}

func (c *counters) answered(took time.Duration) {
	c.times[bucketOf(took)].Add(1)
	c.sum.Add(int64(took))
}

// stats returns what the candidate has counted.
func (c *candidate) stats() ClientStats {
	s := ClientStats{
		Endpoint: c.endpoint,
		Health:   c.client.Health(),
		Dot:      c.client.Stats(),
		InUse:    c.shunnedAt.Load() == 0,
		Sends:    c.counters.sends.Load(),
		Failures: map[Reason]uint64{},
	}
	for r := range c.counters.failures {
		if n := c.counters.failures[r].Load(); n > 0 {
			s.Failures[Reason(r)] = n
		}
	}
	for i := range s.Times.counts {
		s.Times.counts[i] = c.counters.times[i].Load()
		s.Answers += s.Times.counts[i]
	}
	s.Times.Sum = time.Duration(c.counters.sum.Load())
	return s
}

// A histogram has four buckets for each doubling, from 33 µs to 8.6 s: a
// quantile is right within a quarter, and a candidate's cost half a kilobyte.
const (
	unitBits = 15 // the finest bucket is 1<<unitBits ns wide
	buckets  = 68
)

// bucketOf returns the bucket that d falls in.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0)) >> unitBits
	if v < 4 {
		return int(v)
	}
	shift := bits.Len64(v) - 3
	return min(4*shift+int(v>>shift), buckets-1)
}

// bucketEnd returns the end of bucket i, which does not belong to it.
func bucketEnd(i int) time.Duration {
	if i < 4 {
		return time.Duration(i+1) << unitBits
	}
	return time.Duration(4+i%4+1) << (i/4 - 1 + unitBits)
}

// Histogram counts durations in fixed buckets.
type Histogram struct {
	Sum    time.Duration
	counts [buckets]uint64
}

// Count returns how many durations were counted.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h.counts {
		n += c
	}
	return n
}

// AtMost returns how many of them were no longer than d, to the precision of a bucket.
func (h *Histogram) AtMost(d time.Duration) (n uint64) {
	for i, c := range h.counts {
		if bucketEnd(i) > d {
			break
		}
		n += c
	}
	return n
}

// Quantile returns the duration that the share p of them did not exceed, 0 if there are none.
func (h *Histogram) Quantile(p float64) time.Duration {
	rank := p * float64(h.Count())
	var begin time.Duration
	for i, c := range h.counts {
		end := bucketEnd(i)
		if c > 0 && rank <= float64(c) {
			return begin + time.Duration(rank/float64(c)*float64(end-begin))
		}
		rank -= float64(c)
		begin = end
	}
	return 0
}
