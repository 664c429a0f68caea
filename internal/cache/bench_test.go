package cache_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dnsproxy/internal/cache"
)

var sizes = []int{10_000, 100_000, 1_000_000}

func filled(n int) *cache.Cache {
	c := cache.New(256 << 20)
	value := make([]byte, 60)
	for i := range n {
		c.Put(name(nil, i), value, 1_700_000_000, time.Hour)
	}
	return c
}

var sink atomic.Int64

func BenchmarkHit(b *testing.B) {
	for _, n := range sizes {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			c := filled(n)
			var key [25]byte
			base := name(key[:0], 0)
			rng := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			for b.Loop() {
				number(base, rng.IntN(n))
				e, ok := c.Acquire(base)
				if !ok {
					b.Fatal("not found")
				}
				sink.Store(int64(e.Value[59]))
				e.Release()
			}
		})
	}
}

// number writes i into a name.
func number(name []byte, i int) {
	for j := 16; j >= 4; j-- {
		name[j] = byte('0' + i%10)
		i /= 10
	}
}

func BenchmarkHitParallel(b *testing.B) {
	c := filled(100_000)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		key := name(nil, 0)
		rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
		for pb.Next() {
			number(key, rng.IntN(100_000))
			if e, ok := c.Acquire(key); ok {
				e.Release()
			}
		}
	})
}

// One name that everybody asks for: one lock.
func BenchmarkHitParallelOneName(b *testing.B) {
	c := filled(1)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		key := name(nil, 0)
		for pb.Next() {
			if e, ok := c.Acquire(key); ok {
				e.Release()
			}
		}
	})
}

func BenchmarkMiss(b *testing.B) {
	c := filled(100_000)
	key := name(nil, 0)
	i := 100_000
	b.ReportAllocs()
	for b.Loop() {
		i++
		number(key, i)
		if _, ok := c.Acquire(key); ok {
			b.Fatal("found")
		}
	}
}

func BenchmarkPutReplace(b *testing.B) {
	c := filled(100_000)
	key, value := name(nil, 0), make([]byte, 60)
	rng := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	for b.Loop() {
		number(key, rng.IntN(100_000))
		c.Put(key, value, 1_700_000_000, time.Hour)
	}
}

func BenchmarkPutNewIntoFull(b *testing.B) {
	for _, mib := range []int64{4, 128} {
		b.Run(fmt.Sprintf("%dMiB", mib), func(b *testing.B) {
			c := cache.New(mib << 20)
			key, value := name(nil, 0), make([]byte, 60)
			i := 0
			for c.Stats().Evictions == 0 {
				for range 1000 {
					i++
					number(key, i)
					c.Put(key, value, 1_700_000_000, time.Hour)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				i++
				number(key, i)
				c.Put(key, value, 1_700_000_000, time.Hour)
			}
		})
	}
}

// BenchmarkMemory reports by how many bytes for each name the process grows, and the
// longest Put on the way, in time of the processor, so that other processes do not count;
// and how long a garbage collection takes then.
func BenchmarkMemory(b *testing.B) {
	for _, n := range sizes {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for b.Loop() {
				key, value := name(nil, 0), make([]byte, 60)
				before := rss(b)
				c := cache.New(256 << 20)
				var longest time.Duration
				for i := range n {
					number(key, i)
					start := threadTime(b)
					c.Put(key, value, 1_700_000_000, time.Hour)
					longest = max(longest, threadTime(b)-start)
				}
				s := c.Stats()
				if s.Entries != n {
					b.Fatalf("%d entries", s.Entries)
				}
				b.ReportMetric(float64(rss(b)-before)/float64(n), "rss-B/name")
				b.ReportMetric(float64(s.Bytes)/float64(n), "B/name")
				b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
				start := time.Now()
				runtime.GC()
				b.ReportMetric(float64(time.Since(start).Microseconds()), "gc-µs")
				c.Resize(0)
			}
		})
	}
}

// threadTime returns how long the thread has run.
func threadTime(tb testing.TB) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
