package wire

import "encoding/binary"

// recordLen is the size of a record's fixed part behind its owner (RFC 1035, section
// 4.1.3): TYPE, CLASS, TTL, RDLENGTH.
const recordLen = 2 + 2 + 4 + 2

// record is where the parts of a record stand in its message.
type record struct {
	typ, class uint16
	ttl        uint32
	data, next int // offset of RDATA and of what follows
}

// parseRecord reads the record at off, whose owner and RDATA must be within msg.
func parseRecord(msg []byte, off int) (r record, ok bool) {
	off, ok = skipName(msg, off)
	if !ok || off+recordLen > len(msg) {
		return r, false
	}
	r = record{
		typ:   binary.BigEndian.Uint16(msg[off:]),
		class: binary.BigEndian.Uint16(msg[off+2:]),
		ttl:   binary.BigEndian.Uint32(msg[off+4:]),
		data:  off + recordLen,
	}
	r.next = r.data + int(binary.BigEndian.Uint16(msg[off+8:]))
	return r, r.next <= len(msg)
}

// dataLayout is the shape of RDATA that has domain names in it: octets before
// them, how many names, octets behind.
type dataLayout struct {
	before, names, after int
}

// layoutOf returns the layout of the types whose names may be compressed (RFC 1035, section 3.3, and RFC
// 3597, section 4). All other RDATA is opaque.
func layoutOf(typ uint16) (l dataLayout, ok bool) {
	switch typ {
	case 2, 3, 4, typeCNAME, 7, 8, 9, 12, 39: // NS MD MF CNAME MB MG MR PTR DNAME
		return dataLayout{0, 1, 0}, true
	case typeSOA:
		return dataLayout{0, 2, 20}, true
	case 14, 17: // MINFO RP
		return dataLayout{0, 2, 0}, true
	case 15, 18, 21, 36: // MX AFSDB RT KX
		return dataLayout{2, 1, 0}, true
	case 26: // PX
		return dataLayout{2, 2, 0}, true
	case 33: // SRV
		return dataLayout{6, 1, 0}, true
	default:
		return dataLayout{}, false
	}
}

// validData reports whether the RDATA of a record has the length and the names that
// its type asks for. Types with neither pass as they are (RFC 3597).
func (r record) validData(msg []byte) bool {
	size := r.next - r.data
	switch {
	case r.typ == 1 && r.class == classIN:
		return size == 4
	case r.typ == 28 && r.class == classIN:
		return size == 16
	}
	l, ok := layoutOf(r.typ)
	if !ok {
		return true
	}
	off := r.data + l.before
	for range l.names {
		if off >= r.next {
			return false
		}
		if off, ok = skipName(msg, off); !ok {
			return false
		}
	}
	return off+l.after == r.next
}
