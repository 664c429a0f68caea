// Package cache keeps values under keys, within a bound of bytes.
//
// It knows nothing of DNS: keys and values are bytes, whose meaning is the
// caller's. It judges no freshness either: it says when a value was stored and
// for how long it is good. All methods are safe for concurrent use.
//
// The entries lie one behind the other in memory mapped from the kernel, which
// the garbage collector neither scans nor counts: an entry costs its own bytes,
// 16 for its header and about 12 for its place in the index. The cache is split
// into shards of 2 MiB and more, each with a lock, an index and two rings of
// its own (shard.go says which entry goes when a ring is full).
package cache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// Cache is a bounded map from key to value.
type Cache struct {
	// seed is this cache's own, so that nobody outside can aim at one shard or slot.
	seed  maphash.Seed
	table atomic.Pointer[table]

	// mu makes Resize, Remove and Stats wait for each other. It is taken before a shard's lock.
	mu       sync.Mutex
	maxBytes int64
	evicted  uint64 // by tables that Resize has replaced
}

// New returns a cache that takes at most maxBytes of memory, keys, values and
// its own records included; memory is taken as it is needed. With 0 it keeps nothing.
//
// Address space is taken at once. Where the system does not give as much, half
// of it is tried, and so on: Stats.MaxBytes tells what the cache got.
func New(maxBytes int64) *Cache {
	c := &Cache{seed: maphash.MakeSeed()}
	t := newTable(c.seed, maxBytes)
	c.maxBytes = t.maxBytes
	c.table.Store(t)
	return c
}

// Entry is a value on loan. It holds a lock until Release, which must come
// soon and before any other call to the cache from the same goroutine.
type Entry struct {
	Value    []byte        // must not be modified, nor kept after Release
	Stored   int64         // when it was stored, in seconds of Unix time
	Lifetime time.Duration // how long it is fresh from then on, whole seconds
	Hits     int           // how often it was acquired since it was stored, this time included, up to 255

	shard *shard // locked
	at    int    // of the record, in shard.mem
}

// Acquire lends the value under key.
func (c *Cache) Acquire(key []byte) (e Entry, ok bool) {
	hash := maphash.Bytes(c.seed, key)
	for {
		t := c.table.Load()
		older := t.older.Load()
		if e, ok = t.shard(hash).acquire(key, hash); ok {
			return e, true
		}
		if older != nil {
			if e, ok = older.shard(hash).acquire(key, hash); ok {
				return e, true
			}
			// It may have moved between the two looks.
			if e, ok = t.shard(hash).acquire(key, hash); ok {
				return e, true
			}
		}
		if c.table.Load() == t {
			return Entry{}, false
		}
	}
}

// ClaimRefresh reports true to the first caller since the value was stored: that
// caller is the one to refresh it. It must come before Release.
func (e Entry) ClaimRefresh() bool {
	flags := &e.shard.mem[e.at+flagsOffset]
	if *flags&claimed != 0 {
		return false
	}
	*flags |= claimed
	return true
}

// Release ends the loan.
func (e Entry) Release() { e.shard.mu.Unlock() }

// Put stores value under key, over what was there. Neither slice is kept. A value too large
// for the cache is not stored, and what was there is removed: an entry has to fit into the
// smaller ring of a shard, which takes 65,535 bytes and more in caches of 1 MiB and more.
//
// stored counts seconds of Unix time, from 0 to 2^32-1 (the year 2106); lifetime is kept in
// whole seconds up to 2^32-1. What lies beyond is kept as the nearest bound.
func (c *Cache) Put(key, value []byte, stored int64, lifetime time.Duration) {
	hash := maphash.Bytes(c.seed, key)
	m := meta{stored: clamp(stored), lifetime: clamp(int64(lifetime / time.Second))}
	for {
		t := c.table.Load()
		if older := t.older.Load(); older != nil {
			older.shard(hash).remove(key, hash)
		}
		if t.shard(hash).put(key, value, hash, m) {
			return
		}
		// Resize has begun to empty the shard: there is a newer table.
	}
}

// Remove drops every entry whose key match accepts and returns their number. match must
// neither keep nor modify the key, nor call the cache.
func (c *Cache) Remove(match func(key []byte) bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	t := c.table.Load()
	for i := range t.shards {
		n += t.shards[i].removeAll(match)
	}
	return n
}

// Stats is a snapshot of the cache's counters.
type Stats struct {
	Entries   int
	Bytes     int64 // memory in use
	MaxBytes  int64
	Evictions uint64 // entries dropped to make room
}

// Stats returns the counters. It waits for a Resize under way.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := c.table.Load().stats()
	sum.MaxBytes = c.maxBytes
	sum.Evictions += c.evicted
	return sum
}

// clamp returns n, or the bound of uint32 that is nearest to it.
func clamp(n int64) uint32 {
	return uint32(max(0, min(n, 1<<32-1)))
}
