// Package histogram counts durations in fixed buckets: four for each doubling, from 1 µs
// to 8.6 s, so that a quantile is right within a quarter, and the ends of all that are a
// power of two are exact.
//
// It judges nothing and keeps no time. A Live is safe for concurrent use; a
// Histogram is a value.
package histogram

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	unitBits = 10 // the finest bucket is 1<<unitBits ns wide
	buckets  = 89 // the last one has no end
)

// Live is a histogram that is being written. The zero value is empty.
type Live struct {
	counts [buckets]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// Add counts n times d.
func (l *Live) Add(d time.Duration, n int) {
	l.counts[bucketOf(d)].Add(uint64(n))
	l.sum.Add(int64(d) * int64(n))
}

// Snapshot returns what has been counted.
func (l *Live) Snapshot() (h Histogram) {
	for i := range l.counts {
		h.counts[i] = l.counts[i].Load()
	}
	h.Sum = time.Duration(l.sum.Load())
	return h
}

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

// Histogram is what was counted up to some moment.
type Histogram struct {
	Sum    time.Duration
	counts [buckets]uint64
}

// Plus returns what h and o count together.
func (h Histogram) Plus(o Histogram) Histogram {
	h.Sum += o.Sum
	for i := range h.counts {
		h.counts[i] += o.counts[i]
	}
	return h
}

// Since returns what was counted after o, an earlier snapshot of the same.
func (h Histogram) Since(o Histogram) Histogram {
	h.Sum -= o.Sum
	for i := range h.counts {
		h.counts[i] -= o.counts[i]
	}
	return h
}

// Count returns how many durations were counted.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h.counts {
		n += c
	}
	return n
}

// AtMost returns how many of them were no longer than d, to the precision of a
// bucket; exactly, if d is a power of two of nanoseconds.
func (h *Histogram) AtMost(d time.Duration) (n uint64) {
	for i, c := range h.counts[:buckets-1] {
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
