// Package cache keeps values under keys, within a bound of bytes.
//
// It knows nothing of DNS: keys and values are bytes, whose meaning is the
// caller's. It judges no freshness either: it says when a value was stored and
// for how long it is good. All methods are safe for concurrent use.
package cache

import "time"

// Cache is a bounded map from key to value.
type Cache struct{}

// New returns a cache that takes at most maxBytes of memory, keys, values and
// its own records included; memory is taken as it is needed. With 0 it keeps nothing.
func New(maxBytes int64) *Cache { panic("not built yet") }

// Entry is a value on loan. It holds a lock until Release, which must come
// soon and before any other call to the cache from the same goroutine.
type Entry struct {
	Value    []byte        // must not be modified, nor kept after Release
	Stored   int64         // when it was stored, in seconds of Unix time
	Lifetime time.Duration // how long it is fresh from then on, whole seconds
	Hits     int           // how often it was acquired since it was stored, up to a small bound
}

// Acquire lends the value under key.
func (c *Cache) Acquire(key []byte) (e Entry, ok bool) { panic("not built yet") }

// ClaimRefresh reports true to the first caller since the value was stored: that
// caller is the one to refresh it.
func (e Entry) ClaimRefresh() bool { panic("not built yet") }

// Release ends the loan.
func (e Entry) Release() { panic("not built yet") }

// Put stores value under key, over what was there. Neither slice is kept. A value too large
// for the cache is not stored, and what was there is removed.
func (c *Cache) Put(key, value []byte, stored int64, lifetime time.Duration) { panic("not built yet") }

// Resize changes the bound, dropping what no longer fits.
func (c *Cache) Resize(maxBytes int64) { panic("not built yet") }

// Remove drops every entry whose key match accepts and returns their number.
func (c *Cache) Remove(match func(key []byte) bool) int { panic("not built yet") }

// Stats is a snapshot of the cache's counters.
type Stats struct {
	Entries   int
	Bytes     int64 // memory in use
	MaxBytes  int64
	Evictions uint64
}

// Stats returns the counters.
func (c *Cache) Stats() Stats { panic("not built yet") }
