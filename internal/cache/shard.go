package cache

import (
	"hash/maphash"
	"sync"
	"time"
	"unsafe"
)

// shard is a part of the cache with a lock of its own.
//
// Which entry goes is decided as in S3-FIFO (Yang et al., SOSP 2023). New entries enter a
// small ring. Those that were used by the time they reach its end move on to the main ring;
// the others leave, and are remembered for a while by a few bits of their hash: if they
// come back, they enter the main ring at once. So names that are asked for once, however
// many, never push out names that are asked for again. At the end of the main ring,
// entries that were used since go round once more. Nothing is moved on a hit.
type shard struct {
	mu    sync.Mutex
	mem   []byte // index, spare index, ghost, small ring, main ring
	index index
	ghost ghost
	small ring
	main  ring

	seed      maphash.Seed
	now       uint32 // when the latest entry was stored
	closed    bool   // being emptied into another table
	evictions uint64
}

const (
	// grace is how long past its lifetime an entry may be of use as a stale answer. An
	// entry that is older is not kept for having been used. RFC 8767, section 5, suggests
	// 1 to 3 days at the most.
	grace = 24 * 60 * 60
	// maxSecondChances bounds how many entries go round the main ring for one that has to
	// go, and so the time that takes: about 0.1 ms.
	maxSecondChances = 1024
)

// plan is the layout of a shard's memory.
type plan struct {
	slots       int // of the index at the most
	ghost       int // bytes
	small, main int // bytes
	size        int // of it all
}

// planShard lays out a shard that may use n bytes. The index is made for records of 96
// bytes (an answer with one address): smaller ones may fill it before they fill the rings.
func planShard(n int) plan {
	const perSlot = slotSize + ghostSize
	slots := n / (96*4/5 + perSlot)
	if slots < 8 {
		return plan{}
	}
	rings := n - slots*perSlot
	p := plan{slots: slots, ghost: pad(slots * ghostSize), small: rings / 10 &^ 7}
	p.main = (rings - p.small) &^ 7
	p.size = 2*slots*slotSize + p.ghost + p.small + p.main
	return p
}

func (s *shard) init(seed maphash.Seed, mem []byte, p plan) {
	s.seed, s.mem = seed, mem
	cut := func(n int) []byte {
		b := mem[:n:n]
		mem = mem[n:]
		return b
	}
	s.index = index{slots: cut(p.slots * slotSize), spare: cut(p.slots * slotSize), max: p.slots}
	s.ghost.mem = cut(p.ghost)
	s.small = ring{base: len(s.mem) - len(mem), size: p.small}
	s.main = ring{base: s.small.base + p.small, size: p.main}
}

// find returns where key's record is.
func (s *shard) find(key []byte, hash uint64) (at int, ok bool) {
	if s.index.used == 0 {
		return 0, false
	}
	tag := uint32(hash)
	for i := s.index.home(tag); ; i = s.index.next(i) {
		w := s.index.slot(i)
		if w == 0 {
			return 0, false
		}
		if uint32(w>>32) != tag {
			continue
		}
		if at := int(uint32(w)) * 8; hasKey(s.mem[at:], key) {
			return at, true
		}
	}
}

// acquire makes an entry of key's record, and counts it as used. If there is one, the lock
// stays with the entry.
func (s *shard) acquire(key []byte, hash uint64) (e Entry, ok bool) {
	s.mu.Lock()
	at, ok := s.find(key, hash)
	if !ok {
		s.mu.Unlock()
		return Entry{}, false
	}
	rec := s.mem[at:]
	// Once the counters stand at their bounds, a hit writes nothing.
	if rec[hitsOffset] < maxHits {
		rec[hitsOffset]++
	}
	if rec[flagsOffset]&useMask < useMask {
		rec[flagsOffset]++
	}
	m := readMeta(rec)
	return Entry{
		Value:    recordValue(rec),
		Stored:   int64(m.stored),
		Lifetime: time.Duration(m.lifetime) * time.Second,
		Hits:     int(m.hits),
		shard:    s,
		at:       at,
	}, true
}

// put stores an entry, unless the shard is closed.
func (s *shard) put(key, value []byte, hash uint64, m meta) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.now = m.stored
	size := recordSize(len(key), len(value))
	fits := size <= s.small.size && len(key) <= maxKey
	r := &s.small
	if at, ok := s.find(key, hash); ok {
		// What was used before is likely to be used again.
		m.flags = s.mem[at+flagsOffset] & useMask
		if fits && size <= sizeOf(s.mem[at:]) {
			s.overwriteLocked(at, key, value, m)
			return true
		}
		r = s.ringOf(at)
		s.dropLocked(at, hash)
	} else if fits && s.ghost.take(hash, s.index.n) {
		r = &s.main
	}
	if fits {
		writeRecord(s.addLocked(r, hash, size), key, value, m)
	}
	return true
}

// overwriteLocked puts an entry into the place of one that is no smaller.
func (s *shard) overwriteLocked(at int, key, value []byte, m meta) {
	before := sizeOf(s.mem[at:])
	size := recordSize(len(key), len(value))
	writeRecord(s.mem[at:], key, value, m)
	if size < before {
		kill(s.mem[at+size : at+before])
	}
}

// adopt takes a record over from a shard that is being emptied, unless it has a newer one.
func (s *shard) adopt(rec []byte, hash uint64, main bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.find(recordKey(rec), hash); ok {
		return
	}
	if len(rec) > s.small.size {
		s.evictions++
		return
	}
	r := &s.small
	if main {
		r = &s.main
	}
	copy(s.addLocked(r, hash, len(rec)), rec)
}

// addLocked makes room for a record of size bytes in r and enters it into the index. The
// caller writes it.
func (s *shard) addLocked(r *ring, hash uint64, size int) []byte {
	for chances := maxSecondChances; !s.index.room() && !s.index.grow(); chances-- {
		// A tenth is for the newcomers. Usually the sizes of the rings see to it.
		if s.small.live > s.index.used/10 {
			s.evictSmallLocked(false)
		} else {
			s.evictMainLocked(chances > 0)
		}
	}
	at := s.allocLocked(r, size)
	s.index.insert(hash, at)
	r.live++
	return s.mem[at : at+size]
}

// allocLocked takes size bytes from r, and drops from it what is in the way. It may move
// any record.
func (s *shard) allocLocked(r *ring, size int) (at int) {
	for chances := maxSecondChances; ; chances-- {
		if at, ok := r.take(s.mem, size); ok {
			return at
		}
		if r == &s.small {
			s.evictSmallLocked(true)
		} else {
			s.evictMainLocked(chances > 0)
		}
	}
}

// evictSmallLocked takes the oldest record out of the small ring: to the main ring if it
// was used, or if there is room and fill says to use it; or else out of the cache.
func (s *shard) evictSmallLocked(fill bool) {
	at, size := s.small.pop(s.mem)
	rec := s.mem[at : at+size]
	if isDead(rec) {
		return
	}
	s.small.live--
	hash := maphash.Bytes(s.seed, recordKey(rec))
	used := rec[flagsOffset]&useMask > 0
	if s.expired(rec) || !used && !(fill && s.main.fits(size)) {
		s.ghost.add(hash, s.index.n)
		s.evictLocked(at, hash)
		return
	}
	rec[flagsOffset] &^= useMask
	to := s.allocLocked(&s.main, size)
	copy(s.mem[to:], rec)
	s.main.live++
	s.index.set(s.index.locate(hash, at), slotFor(hash, to))
}

// evictMainLocked takes the oldest record out of the main ring. If spare is true and it was
// used since it got there, it goes round again.
func (s *shard) evictMainLocked(spare bool) {
	at, size := s.main.pop(s.mem)
	rec := s.mem[at : at+size]
	if isDead(rec) {
		return
	}
	hash := maphash.Bytes(s.seed, recordKey(rec))
	if !spare || rec[flagsOffset]&useMask == 0 || s.expired(rec) {
		s.main.live--
		s.evictLocked(at, hash)
		return
	}
	rec[flagsOffset]--
	// The place it left is free, so there is one for it; if they overlap, copy copes.
	to, ok := s.main.take(s.mem, size)
	if !ok {
		panic("cache: internal error: no room for what was there")
	}
	copy(s.mem[to:], rec)
	s.index.set(s.index.locate(hash, at), slotFor(hash, to))
}

// evictLocked forgets a record that was taken out of its ring.
func (s *shard) evictLocked(at int, hash uint64) {
	s.index.remove(s.index.locate(hash, at))
	s.evictions++
}

// expired reports whether a record is past all use. The cache has no clock, so it takes
// the time of the latest Put.
func (s *shard) expired(rec []byte) bool {
	m := readMeta(rec)
	return uint64(m.stored)+uint64(m.lifetime)+grace < uint64(s.now)
}

func (s *shard) ringOf(at int) *ring {
	if at < s.main.base {
		return &s.small
	}
	return &s.main
}

// dropLocked forgets the record at `at`. Its place is free when it leaves the ring.
func (s *shard) dropLocked(at int, hash uint64) {
	s.index.remove(s.index.locate(hash, at))
	s.ringOf(at).live--
	kill(s.mem[at : at+sizeOf(s.mem[at:])])
}

// remove drops key's entry if there is one.
func (s *shard) remove(key []byte, hash uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.find(key, hash); ok {
		s.dropLocked(at, hash)
	}
}

// removeAll drops every entry whose key match accepts.
func (s *shard) removeAll(match func(key []byte) bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	drop := func(at int, rec []byte) {
		if isDead(rec) {
			return
		}
		if key := recordKey(rec); match(key) {
			s.dropLocked(at, maphash.Bytes(s.seed, key))
			n++
		}
	}
	s.small.each(s.mem, drop)
	s.main.each(s.mem, drop)
	if s.index.used == 0 {
		s.index.reset()
		s.small.reset(s.mem)
		s.main.reset(s.mem)
	}
	return n
}

// freeLocked gives the memory of an empty shard back.
func (s *shard) freeLocked() {
	discard(s.mem)
	s.mem, s.index, s.ghost, s.small, s.main = nil, index{}, ghost{}, ring{}, ring{}
}

func (s *shard) addStats(sum *Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum.Entries += s.index.used
	sum.Evictions += s.evictions
	if s.mem == nil {
		return
	}
	sum.Bytes += int64(unsafe.Sizeof(*s)) + int64(s.index.n*slotSize+s.ghost.bytes(s.index.n)+
		s.small.touched+s.main.touched)
}
