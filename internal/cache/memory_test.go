package cache_test

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"dnsproxy/internal/cache"
)

func TestNothingIsAllocated(t *testing.T) {
	c := newOurs(2 << 20)
	i := int32(0)
	for range 200_000 {
		i++
		c.ask(i) // until the cache is full and replaces
	}
	known := name(nil, 0)
	c.Put(known, c.value, 1, time.Hour)
	for _, tt := range []struct {
		name string
		f    func()
	}{
		{"hit", func() {
			e, ok := c.Acquire(known)
			if !ok {
				t.Fatal("not found")
			}
			e.ClaimRefresh()
			e.Release()
		}},
		{"miss and new name", func() { i++; c.ask(i) }},
		{"put over the same", func() { c.Put(known, c.value, 1, time.Hour) }},
		{"put over a smaller one", func() {
			c.Put(known, nil, 1, time.Hour)
			c.Put(known, c.value, 1, time.Hour)
		}},
		{"stats", func() { c.Stats() }},
	} {
		if n := testing.AllocsPerRun(1000, tt.f); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
}

// Each name with an answer costs less than 150 bytes of the cache's own and less than 200 of
// the process's.
func TestBytesForEachName(t *testing.T) {
	const n = 100_000
	before := rss(t)
	c := newOurs(128 << 20)
	if grown := rss(t) - before; grown > 1<<19 {
		t.Errorf("an empty cache takes %d bytes", grown)
	}
	for i := range int32(n) {
		c.ask(i)
	}
	s := c.Stats()
	grown := rss(t) - before
	t.Logf("%d bytes of the process and %d of the cache for each name", grown/n, s.Bytes/n)
	if s.Entries != n || grown/n >= 200 || s.Bytes/n > 150 {
		t.Errorf("grown by %d, cache: %+v", grown, s)
	}
}

func TestMemoryIsBoundedAndGivenBack(t *testing.T) {
	const bound = 32 << 20
	// The spare indices' pages that are shared with what lies beside them, the hidden cost
	// of mapping, and whatever the test itself does.
	const slack = 1 << 20
	before := rss(t)
	c := newOurs(bound)
	for i := range int32(600_000) { // twice what fits
		c.ask(i)
	}
	if grown := rss(t) - before; grown > bound+slack || grown < bound*9/10 {
		t.Errorf("full: grown by %d bytes, bound %d", grown, bound)
	}
	c.Resize(bound / 4)
	if grown := rss(t) - before; grown > bound/4+slack {
		t.Errorf("after Resize: grown by %d bytes, bound %d", grown, bound/4)
	}
	c.Remove(func([]byte) bool { return true })
	if grown := rss(t) - before; grown > slack {
		t.Errorf("emptied: grown by %d bytes", grown)
	}
}

func TestBoundsBeyondTheMachine(t *testing.T) {
	for _, maxBytes := range []int64{1 << 40, 1<<63 - 1} {
		before := rss(t)
		c := cache.New(maxBytes)
		c.Put([]byte("x"), []byte("1"), 1, time.Second)
		if _, ok := get(c, []byte("x")); !ok {
			t.Errorf("bound %d: nothing kept", maxBytes)
		}
		if s := c.Stats(); s.MaxBytes > maxBytes || s.MaxBytes <= 0 {
			t.Errorf("bound %d: got %+v", maxBytes, s)
		}
		if grown := rss(t) - before; grown > 8<<20 {
			t.Errorf("bound %d: takes %d bytes for one entry", maxBytes, grown)
		}
		c.Resize(0)
	}
}

// rss returns the bytes of memory that the process has in RAM.
func rss(tb testing.TB) int64 {
	tb.Helper()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "Rss:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return kb << 10
}
