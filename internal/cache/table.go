package cache

import (
	"hash/maphash"
	"math"
	"math/bits"
	"runtime"
	"sync/atomic"
	"unsafe"
)

const (
	// Shards of this size take the largest DNS message in their smaller ring,
	// and grow their index in well under a millisecond; with more of them, the
	// first page of each would weigh in caches that hold little.
	shardBytes = 2 << 20
	maxShards  = 4096
	// An index addresses 32 GiB, and a shard has its spare index besides.
	maxShardBytes = 16 << 30
	// Below this a cache keeps nothing.
	minBytes = 2 << 10
)

// table is the cache at one size. Resize replaces it by another.
type table struct {
	shards   []shard
	shift    int // of a hash, to leave the number of its shard
	maxBytes int64
	memory   []byte // all shards'
	cleanup  runtime.Cleanup

	// older is the table that is being emptied into this one, nil when that is done.
	older atomic.Pointer[table]
}

// newTable returns a table for maxBytes, or for as much as the system grants.
func newTable(seed maphash.Seed, maxBytes int64) *table {
	// A mapping cannot be longer than an int tells, which matters on 32-bit machines.
	for n := min(maxBytes, math.MaxInt/2, maxShards*maxShardBytes); n >= minBytes; n /= 2 {
		if t, err := mapTable(seed, n); err == nil {
			return t
		}
	}
	return &table{shards: make([]shard, 1), shift: 64}
}

func mapTable(seed maphash.Seed, maxBytes int64) (*table, error) {
	shardBits := bits.Len64(uint64(max(1, min(maxBytes/shardBytes, maxShards)))) - 1
	n := 1 << shardBits
	share := (maxBytes - int64(unsafe.Sizeof(Cache{})+unsafe.Sizeof(table{}))) / int64(n)
	p := planShard(int(share) - int(unsafe.Sizeof(shard{})))
	memory, err := mapMemory(n * p.size)
	if err != nil {
		return nil, err
	}
	t := &table{shards: make([]shard, n), shift: 64 - shardBits, maxBytes: maxBytes, memory: memory}
	for i := range t.shards {
		t.shards[i].init(seed, memory[i*p.size:][:p.size:p.size], p)
	}
	// The entries on loan point into shards, so the memory outlives them.
	t.cleanup = runtime.AddCleanup(&t.shards[0], unmapMemory, memory)
	return t, nil
}

// shard returns the shard for hash. It judges by the upper bits: the index uses the lower ones.
func (t *table) shard(hash uint64) *shard { return &t.shards[hash>>t.shift] }

// free returns the memory to the system. All shards must be empty.
func (t *table) free() {
	if t.memory == nil {
		return
	}
	t.cleanup.Stop()
	unmapMemory(t.memory)
}

func (t *table) stats() Stats {
	var sum Stats
	if t.memory != nil {
		sum.Bytes = int64(unsafe.Sizeof(Cache{}) + unsafe.Sizeof(*t))
	}
	for i := range t.shards {
		t.shards[i].addStats(&sum)
	}
	return sum
}

// Resize changes the bound, dropping what no longer fits. It moves every entry, shard by
// shard; meanwhile the cache serves from where each entry is, and takes the memory of both
// sizes at most.
func (c *Cache) Resize(maxBytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.table.Load()
	if max(0, maxBytes) == c.maxBytes {
		return
	}
	t := newTable(c.seed, maxBytes)
	t.older.Store(old)
	c.maxBytes = t.maxBytes
	c.table.Store(t)
	for i := range old.shards {
		for old.shards[i].moveSome(t) {
		}
	}
	t.older.Store(nil)
	c.evicted += old.stats().Evictions
	old.free()
}

// moveSome moves some entries of s into t, the oldest first, and reports whether there are
// more. It lets go of the lock in between, so that nobody waits long.
func (s *shard) moveSome(t *table) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// From now on Put goes to the new table: what it put here could meet an older value there.
	s.closed = true
	for range 128 {
		r := &s.main
		if r.used == 0 {
			r = &s.small
		}
		if r.used == 0 {
			s.freeLocked()
			return false
		}
		at, size := r.pop(s.mem)
		if isDead(s.mem[at:]) {
			continue
		}
		rec := s.mem[at : at+size]
		hash := maphash.Bytes(s.seed, recordKey(rec))
		// Whatever was not used has to pass the small ring again, so that it goes first
		// where not everything fits.
		t.shard(hash).adopt(rec, hash, r == &s.main && rec[flagsOffset]&useMask > 0)
		r.live--
		s.index.remove(s.index.locate(hash, at))
	}
	return true
}
