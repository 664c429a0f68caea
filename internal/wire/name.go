package wire

// Lengths of RFC 1035, section 2.3.4, in octets.
const (
	maxName  = 255
	maxLabel = 63
)

// A label's two top bits: RFC 1035, section 4.1.4.
const (
	labelMask    = 0xc0
	labelPointer = 0xc0
)

// skipPlainName returns the offset behind the name at off, which must not be
// compressed: in a question there is nothing before it to point to.
func skipPlainName(msg []byte, off int) (next int, ok bool) {
	start := off
	for off < len(msg) {
		n := int(msg[off])
		off++
		if n == 0 {
			return off, off-start <= maxName
		}
		if n > maxLabel {
			return 0, false
		}
		off += n
	}
	return 0, false
}

// skipName returns the offset behind the name at off, after following its
// compression to the end: each pointer must lead to labels that stand wholly before
// those that it was reached from, so that there is no loop (RFC 1035, section 4.1.4).
func skipName(msg []byte, off int) (next int, ok bool) {
	chunk, end := off, len(msg) // where the present run of labels began, and must end
	length := 0                 // octets of the name so far
	for off < end {
		n := int(msg[off])
		switch n & labelMask {
		case 0:
			length += n + 1
			off += n + 1
			if length > maxName || off > end {
				return 0, false
			}
			if n > 0 {
				continue
			}
			if next == 0 {
				next = off
			}
			return next, true
		case labelPointer:
			if off+2 > end {
				return 0, false
			}
			if next == 0 {
				next = off + 2
			}
			target := (n&^labelMask)<<8 | int(msg[off+1])
			if target >= chunk || target < headerLen {
				return 0, false
			}
			off, chunk, end = target, target, chunk
		default:
			return 0, false // 01 and 10 are not in use (RFC 6891, section 5)
		}
	}
	return 0, false
}

// sameName reports whether the names at a and b of a checked message are
// equal, ASCII case aside (RFC 4343).
func sameName(msg []byte, a, b int) bool {
	for {
		a, b = follow(msg, a), follow(msg, b)
		if a == b {
			return true
		}
		n := int(msg[a])
		if n != int(msg[b]) || !equalFold(msg[a+1:a+1+n], msg[b+1:b+1+n]) {
			return false
		}
		if n == 0 {
			return true
		}
		a, b = a+1+n, b+1+n
	}
}

// follow returns the offset of the label that off, or the pointers there, lead to.
func follow(msg []byte, off int) int {
	for msg[off]&labelMask == labelPointer {
		off = int(msg[off]&^labelMask)<<8 | int(msg[off+1])
	}
	return off
}

func equalFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// lower folds ASCII letters only (RFC 4343, section 3). Lengths of labels are
// below 'A', so that it may be applied to a name in wire form.
func lower(c byte) byte {
	if c-'A' < 26 {
		c += 'a' - 'A'
	}
	return c
}
