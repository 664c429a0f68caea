package wire

import "encoding/binary"

// AppendUpstream appends q, behind its two-octet length (RFC 1035, section 4.2.2), as it goes to an
// upstream: with id, RD and AD set, CD and DO as the client has them, and an OPT
// record of our own with edns-tcp-keepalive if keepalive is true (RFC 7828), padded to a
// multiple of 128 octets (RFC 8467, section 4.1).
func AppendUpstream(dst []byte, q Query, id uint16, keepalive bool) []byte {
	data := optionLen // of the padding
	if keepalive {
		data += optionLen
	}
	size := int(q.end) + optLen + data
	padding := -size & (paddingBlock - 1)

	flags := uint16(flagRD | flagAD)
	if q.CD() {
		flags |= flagCD
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(size+padding))
	dst = binary.BigEndian.AppendUint16(dst, id)
	dst = binary.BigEndian.AppendUint16(dst, flags)
	dst = append(dst, 0, 1, 0, 0, 0, 0, 0, 1)
	dst = append(dst, q.msg[headerLen:q.end]...)
	dst = appendOPT(dst, NoError, q.DO(), data+padding)
	if keepalive {
		dst = append(dst, 0, optionKeepalive, 0, 0)
	}
	dst = append(dst, 0, optionPadding, 0, byte(padding))
	return append(dst, zeros[:padding]...)
}

var zeros [paddingBlock]byte

// AppendError appends an answer to q that has no records: rcode, the question,
// and an OPT record with ede if the client sent one.
func AppendError(dst []byte, q Query, rcode RCode, ede EDE) []byte {
	dst = appendHeader(dst, q, flagRA|q.flags()&maskOpcode, rcode)
	dst = append(dst, q.msg[headerLen:q.end]...)
	if q.end == headerLen {
		dst[len(dst)-headerLen+offQD+1] = 0
	}
	if q.HasEDNS() {
		dst[len(dst)-int(q.end)+offAR+1] = 1
	}
	return q.appendAnswerOPT(dst, rcode, ede, nil, maxMessage)
}

const maxMessage = 1<<16 - 1

// appendHeader appends the header of an answer to q with one question and no records. RD and CD
// echo the client (RFC 1035, section 4.1.1; RFC 4035, section 3.2.2).
func appendHeader(dst []byte, q Query, flags uint16, rcode RCode) []byte {
	flags |= flagQR | q.flags()&(flagRD|flagCD) | uint16(rcode)&maskRCode
	dst = append(dst, q.msg[offID], q.msg[offID+1], byte(flags>>8), byte(flags))
	return append(dst, 0, 1, 0, 0, 0, 0, 0, 0)
}

// AppendAnswer appends r as the answer to q, aged by age seconds, in at most
// limit octets (RFC 2181, section 9).
func AppendAnswer(dst []byte, q Query, r Response, age uint32, limit int) []byte {
	start := len(dst)
	dst = appendResponse(dst, q, r)
	sections := dst[start+int(q.end):]
	for i := range r.ttls() {
		at := binary.BigEndian.Uint16(r.packed[packLen+2*i:])
		ttl := binary.BigEndian.Uint32(sections[at:])
		binary.BigEndian.PutUint32(sections[at:], ttl-min(ttl, age))
	}
	return finish(dst, start, q, r, EDE{}, limit)
}

// AppendStale appends r as an answer that no upstream gives at present: every TTL is
// ttl seconds, and ede says what happened (RFC 8767, section 4).
func AppendStale(dst []byte, q Query, r Response, ttl uint32, ede EDE, limit int) []byte {
	start := len(dst)
	dst = appendResponse(dst, q, r)
	sections := dst[start+int(q.end):]
	for i := range r.ttls() {
		at := binary.BigEndian.Uint16(r.packed[packLen+2*i:])
		binary.BigEndian.PutUint32(sections[at:], ttl)
	}
	return finish(dst, start, q, r, ede, limit)
}

// appendResponse appends header, question and sections.
func appendResponse(dst []byte, q Query, r Response) []byte {
	flags := r.flags() & (flagAA | flagTC | flagRA | flagAD)
	if !q.DO() && !q.AD() {
		flags &^= flagAD // RFC 6840, section 5.8
	}
	rcode := r.RCode()
	if rcode > maskRCode && !q.HasEDNS() {
		rcode = ServFail // the client has no room for the extended part
	}
	dst = appendHeader(dst, q, flags, rcode)
	copy(dst[len(dst)-6:], r.packed[packCounts:packCounts+6])
	dst = append(dst, q.msg[headerLen:q.end]...)
	return append(dst, r.sections()...)
}

// finish truncates the answer that starts at start, if need be, and adds the OPT record.
func finish(dst []byte, start int, q Query, r Response, ede EDE, limit int) []byte {
	room := limit - q.minOPT()
	if len(dst)-start > room {
		dst = truncate(dst, start, int(q.end), room)
	}
	if q.HasEDNS() {
		at := start + offAR
		binary.BigEndian.PutUint16(dst[at:], binary.BigEndian.Uint16(dst[at:])+1)
	}
	return q.appendAnswerOPT(dst, r.RCode(), ede, r.ede(), limit-(len(dst)-start))
}

// truncate drops whole RRsets from the end of the message that starts at start until it
// takes at most room octets. Losing what stands in the answer or the authority
// section sets TC, losing additional records does not (RFC 2181, section 9).
func truncate(dst []byte, start, questionEnd, room int) []byte {
	msg := dst[start:]
	counts := [3]uint16{}
	keep := questionEnd // where the last RRset that fits ends
	off, rrset := questionEnd, questionEnd
	var kept, seen [3]uint16
	var first record
	lost := false
	for i := range counts {
		counts[i] = binary.BigEndian.Uint16(msg[offAN+2*i:])
	}
sections:
	for i, n := range counts {
		for k := range n {
			r, _ := skipRecord(msg, off)
			if k == 0 || r.typ != first.typ || r.class != first.class || !sameName(msg, rrset, off) {
				keep, kept = off, seen // the RRset before ended here
				first, rrset = r, off
			}
			if r.next > room {
				lost = i < 2
				break sections
			}
			seen[i]++
			off = r.next
			if k == n-1 {
				keep, kept = off, seen
			}
		}
	}
	for i, n := range kept {
		binary.BigEndian.PutUint16(msg[offAN+2*i:], n)
	}
	if lost {
		msg[offFlags] |= flagTC >> 8
	}
	return dst[:start+keep]
}

// Record is a record of a local answer. Its owner is the QNAME from an offset on,
// so that it may be any name that the QNAME is at or below.
type Record struct {
	Owner int // offset into the QNAME of a label's length
	Type  uint16
	TTL   uint32 // seconds
	Data  []byte
}

// AppendLocal appends an answer to q that is made here: rcode, and at most one record in the
// answer and the authority section each, where those are not nil.
func AppendLocal(dst []byte, q Query, rcode RCode, answer, authority *Record, ede EDE) []byte {
	start := len(dst)
	dst = appendHeader(dst, q, flagRA, rcode)
	dst = append(dst, q.msg[headerLen:q.end]...)
	if answer != nil {
		dst = answer.append(dst, q)
		dst[start+offAN+1] = 1
	}
	if authority != nil {
		dst = authority.append(dst, q)
		dst[start+offNS+1] = 1
	}
	if q.HasEDNS() {
		dst[start+offAR+1] = 1
	}
	return q.appendAnswerOPT(dst, rcode, ede, nil, minUDPSize-(len(dst)-start))
}

func (r *Record) append(dst []byte, q Query) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(labelPointer<<8|(headerLen+r.Owner)))
	dst = binary.BigEndian.AppendUint16(dst, r.Type)
	dst = binary.BigEndian.AppendUint16(dst, q.QClass())
	dst = binary.BigEndian.AppendUint32(dst, r.TTL)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(r.Data)))
	return append(dst, r.Data...)
}
