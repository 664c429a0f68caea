package cache_test

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dnsproxy/internal/cache"
)

func TestResizeUpKeepsEverything(t *testing.T) {
	c := cache.New(2 << 20)
	for i := range 10_000 {
		c.Put(name(nil, i), name(nil, -i), int64(i), time.Duration(i)*time.Second)
	}
	e, _ := c.Acquire(name(nil, 7))
	e.ClaimRefresh()
	e.Release()
	before := c.Stats()
	for _, size := range []int64{3 << 20, 64 << 20, 64 << 20, 16 << 20} {
		c.Resize(size)
		after := c.Stats()
		if after.Entries != before.Entries || after.Evictions != before.Evictions || after.MaxBytes != size {
			t.Errorf("to %d: got %+v, want %+v", size, after, before)
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10_000 {
		e, ok := c.Acquire(name(nil, i))
		if !ok {
			t.Fatalf("key %d is gone", i)
		}
		if !bytes.Equal(e.Value, name(nil, -i)) || e.Stored != int64(i) || e.Lifetime != time.Duration(i)*time.Second {
			t.Errorf("key %d: %+v", i, e)
		}
		if i == 7 && (e.Hits != 2 || e.ClaimRefresh()) {
			t.Errorf("key 7 lost its hits or claim: %+v", e)
		}
		e.Release()
	}
}

func TestResizeDownKeepsTheUsed(t *testing.T) {
	c := cache.New(16 << 20)
	for i := range 100_000 {
		c.Put(name(nil, i), make([]byte, 60), 1, time.Hour)
	}
	const used = 2000 // 10 % of what will fit
	for range 3 {
		for i := range used {
			get(c, name(nil, i))
		}
	}
	c.Resize(2 << 20)
	s := c.Stats()
	if s.Bytes > 2<<20 || s.MaxBytes != 2<<20 || s.Evictions != uint64(100_000-s.Entries) {
		t.Errorf("got %+v", s)
	}
	if s.Entries < 15_000 {
		t.Errorf("only %d entries kept", s.Entries)
	}
	kept := 0
	for i := range used {
		if _, ok := get(c, name(nil, i)); ok {
			kept++
		}
	}
	if kept < used*99/100 {
		t.Errorf("%d of %d used entries kept", kept, used)
	}
	c.Resize(0)
	if s := c.Stats(); s.Entries != 0 || s.Bytes != 0 || s.Evictions != 100_000 {
		t.Errorf("after Resize(0): %+v", s)
	}
	c.Resize(1 << 20)
	c.Put([]byte("x"), nil, 1, time.Second)
	if _, ok := get(c, []byte("x")); !ok {
		t.Error("nothing kept after Resize from 0")
	}
}

// While the size changes, every entry stays visible, and no Put is lost or undone.
func TestConcurrentUse(t *testing.T) {
	const keys, writers = 4000, 4
	c := cache.New(8 << 20)
	for i := range keys {
		c.Put(name(nil, i), []byte{0, 0, 0, 0}, 0, time.Hour)
	}
	var wg sync.WaitGroup
	var stop atomic.Bool
	for w := range writers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			last := map[int]byte{}
			var key, other [64]byte
			for !stop.Load() {
				i := rng.IntN(keys/writers)*writers + w // nobody else puts these
				k := name(key[:0], i)
				e, ok := c.Acquire(k)
				if ok {
					if got := e.Value[0]; got != last[i] {
						t.Errorf("key %d: got version %d, want %d", i, got, last[i])
						stop.Store(true)
					}
					e.ClaimRefresh()
					e.Release()
				}
				get(c, name(other[:0], rng.IntN(2*keys)))
				if rng.IntN(4) == 0 {
					last[i]++
					c.Put(k, bytes.Repeat([]byte{last[i]}, 1+rng.IntN(100)), int64(i), time.Second)
				}
			}
		})
	}
	for round := range 30 {
		c.Resize([]int64{4 << 20, 1 << 20, 32 << 20}[round%3])
		c.Remove(func(key []byte) bool { return key[16] == byte('0'+round%10) })
		c.Stats()
		if err := c.Check(); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}

// Resize moves entries while others ask for them: at most a few of the millions of lookups
// may fall between two tables.
func TestLookupsDuringResize(t *testing.T) {
	const keys = 20_000
	c := cache.New(16 << 20)
	for i := range keys {
		c.Put(name(nil, i), []byte("x"), 0, time.Hour)
	}
	var wg sync.WaitGroup
	var stop atomic.Bool
	var lookups, missed atomic.Int64
	wg.Go(func() {
		for i := 0; !stop.Load(); i++ {
			if _, ok := get(c, name(nil, i%keys)); !ok {
				missed.Add(1)
			}
			lookups.Add(1)
		}
	})
	for round := range 40 {
		c.Resize([]int64{8 << 20, 32 << 20}[round%2])
	}
	stop.Store(true)
	wg.Wait()
	if n, of := missed.Load(), lookups.Load(); n > max(10, of/1000) {
		t.Errorf("%d of %d lookups failed during Resize", n, of)
	}
}
