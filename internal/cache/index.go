package cache

import "encoding/binary"

const (
	slotSize   = 8
	firstSlots = 512 // a page
)

// index finds records by hash. It is a hash table with linear probing of 8-byte slots: the
// upper half is the lower half of the key's hash, the lower half is the record's place in
// the shard's memory, in units of 8 bytes. A slot of 0 is free: no record lies at 0.
//
// The home of a hash is its fraction of the table, so that tables may have any number of
// slots, and copying one into a larger one reads and writes both in order.
type index struct {
	slots []byte // the table in use
	spare []byte // as much memory for the next one, all zero
	n     int    // slots in use
	max   int    // slots at the most
	used  int
}

// room reports whether one more record can be inserted. At 4/5 a successful search looks
// at 3 slots on average and a vain one at 13 (Knuth, volume 3, section 6.4).
func (x *index) room() bool { return x.used < x.n*4/5 }

func (x *index) home(tag uint32) int { return int(uint64(tag) * uint64(x.n) >> 32) }

func (x *index) slot(i int) uint64 { return binary.LittleEndian.Uint64(x.slots[i*slotSize:]) }

func (x *index) set(i int, w uint64) { binary.LittleEndian.PutUint64(x.slots[i*slotSize:], w) }

func (x *index) next(i int) int {
	if i++; i == x.n {
		return 0
	}
	return i
}

// distance returns the steps from slot i on to slot j.
func (x *index) distance(i, j int) int {
	if j < i {
		return j - i + x.n
	}
	return j - i
}

func slotFor(hash uint64, at int) uint64 { return hash<<32 | uint64(at/8) }

// insert adds the record at `at`. There must be room.
func (x *index) insert(hash uint64, at int) {
	x.insertSlot(slotFor(hash, at))
	x.used++
}

func (x *index) insertSlot(w uint64) {
	i := x.home(uint32(w >> 32))
	for x.slot(i) != 0 {
		i = x.next(i)
	}
	x.set(i, w)
}

// locate returns the slot of the record at `at`, which must be in the index.
func (x *index) locate(hash uint64, at int) int {
	w := slotFor(hash, at)
	i := x.home(uint32(hash))
	for x.slot(i) != w {
		if x.slot(i) == 0 {
			panic("cache: internal error: record is not in the index")
		}
		i = x.next(i)
	}
	return i
}

// remove frees slot i and moves up what was pushed behind it (Knuth, algorithm 6.4R).
func (x *index) remove(i int) {
	x.used--
	for j := x.next(i); ; j = x.next(j) {
		w := x.slot(j)
		if w == 0 {
			break
		}
		// w may fill the hole unless its home lies behind the hole.
		if home := x.home(uint32(w >> 32)); x.distance(home, j) >= x.distance(i, j) {
			x.set(i, w)
			i = j
		}
	}
	x.set(i, 0)
}

// grow makes the table half as large again, and reports whether it could.
func (x *index) grow() bool {
	if x.n >= x.max {
		return false
	}
	old, n := x.slots, x.n
	x.slots, x.spare = x.spare, old
	x.n = min(x.max, max(firstSlots, n*3/2))
	for i := range n {
		if w := binary.LittleEndian.Uint64(old[i*slotSize:]); w != 0 {
			x.insertSlot(w)
		}
	}
	discard(old[:n*slotSize])
	return true
}

// reset empties the index and gives its memory back.
func (x *index) reset() {
	discard(x.slots[:x.n*slotSize])
	x.n, x.used = 0, 0
}
