package cache

// ring is a queue of records in a fixed piece of a shard's memory. Records are appended at
// the head and leave at the tail; none is split by the end of the piece.
type ring struct {
	base, size int // the piece
	head, tail int // offsets from base, multiples of 8, below size
	used       int // bytes from tail to head, dead records included
	touched    int // bytes from base that were ever written to
	live       int // records that are not dead
}

// take appends n bytes and returns where they are in mem, unless that needs records to
// leave first.
func (r *ring) take(mem []byte, n int) (at int, ok bool) {
	if r.used == 0 {
		r.head, r.tail = 0, 0
	}
	if !r.fits(n) {
		return 0, false
	}
	if rest := r.size - r.head; n > rest {
		if rest > 0 {
			kill(mem[r.base+r.head:][:rest])
		}
		r.used += rest
		r.touched = r.size
		r.head = 0
	}
	at = r.base + r.head
	r.head += n
	r.used += n
	r.touched = max(r.touched, r.head)
	return at, true
}

// pop takes the oldest record out of the ring, which must not be empty. Its bytes stay as
// they are until the next take.
func (r *ring) pop(mem []byte) (at, size int) {
	if r.tail == r.size {
		r.tail = 0
	}
	at = r.base + r.tail
	size = sizeOf(mem[at:])
	r.tail += size
	r.used -= size
	return at, size
}

// fits reports whether n bytes can be taken with no record leaving. If they do not fit
// before the end of the piece, they begin at its start, and the rest of it is given up.
func (r *ring) fits(n int) bool {
	rest := r.size - r.head
	return r.used+n <= r.size && (n <= rest || r.used+rest+n <= r.size)
}

// reset gives up all records and the memory they took.
func (r *ring) reset(mem []byte) {
	discard(mem[r.base : r.base+r.touched])
	*r = ring{base: r.base, size: r.size}
}

// each calls f with every record from the oldest on. f may kill it.
func (r *ring) each(mem []byte, f func(at int, record []byte)) {
	tail := r.tail
	for left := r.used; left > 0; {
		if tail == r.size {
			tail = 0
		}
		at := r.base + tail
		size := sizeOf(mem[at:])
		f(at, mem[at:at+size])
		tail += size
		left -= size
	}
}
