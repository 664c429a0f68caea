package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Kind is what a response says, as far as caching is concerned.
type Kind uint8

// The kinds of response.
const (
	Failure  Kind = iota // any other RCODE: nothing is known about the name
	Positive             // the answer section has what was asked for
	NoData               // the name exists, the type does not (RFC 2308, section 2.2)
	NoName               // NXDOMAIN
	Unsound              // as NODATA or NXDOMAIN but without an SOA, or truncated: true for this client only
)

// Response is an upstream's response that passed [ParseResponse], packed as the
// cache stores it: TTL offsets noted, the question and the OPT record left out.
//
//	offset  octets
//	 0      2       header flags
//	 2      2       RCODE, extended
//	 4      6       ANCOUNT, NSCOUNT, ARCOUNT, without OPT
//	10      2       number of TTLs
//	12      2       size of the EDE options
//	14      1       Kind
//	15      4       lifetime in seconds
//	19      2 each  offsets of the TTLs in the sections
//	                EDE options as the upstream sent them
//	                the sections
type Response struct {
	packed []byte
}

const (
	packRCode    = 2
	packCounts   = 4
	packTTLs     = 10
	packEDE      = 12
	packKind     = 14
	packLifetime = 15
	packLen      = 19
)

// errResponse is what all faults of a response have in common.
var errResponse = errors.New("malformed response")

func malformed(what string) error { return fmt.Errorf("%w: %s", errResponse, what) }

var (
	errShort    = malformed("shorter than a header")
	errNoQR     = malformed("QR is not set")
	errOpcode   = malformed("another opcode")
	errQuestion = malformed("another question")
	errRecord   = malformed("a record exceeds its bounds")
	errOPT      = malformed("more than one OPT record, or a malformed one")
)

// ParseResponse checks msg as the response to q, and packs it. It must have QR
// set, the same opcode, q's question (in any ASCII case; none at all is accepted with an
// error RCODE, and nothing else then), and every record within its bounds. The ID is the caller's to check.
// Nothing of msg is kept.
func ParseResponse(msg []byte, q Query) (Response, error) {
	if len(msg) < headerLen {
		return Response{}, errShort
	}
	flags := binary.BigEndian.Uint16(msg[offFlags:])
	if flags&flagQR == 0 {
		return Response{}, errNoQR
	}
	if flags&maskOpcode != 0 {
		return Response{}, errOpcode
	}
	if err := checkQuestion(msg, q); err != nil {
		return Response{}, err
	}
	return pack(msg, q)
}

func checkQuestion(msg []byte, q Query) error {
	switch binary.BigEndian.Uint16(msg[offQD:]) {
	case 1:
		end := int(q.end)
		if len(msg) < end || !equalFold(msg[headerLen:end-4], q.QName()) || string(msg[end-4:end]) != string(q.msg[end-4:end]) {
			return errQuestion
		}
		return nil
	case 0:
		empty := binary.BigEndian.Uint16(msg[offAN:])|binary.BigEndian.Uint16(msg[offNS:]) == 0
		if msg[offFlags+1]&maskRCode != 0 && empty {
			return nil
		}
	}
	return errQuestion
}

// survey is what a walk over the records of a response finds.
type survey struct {
	records  int // that are kept
	end      int // of those
	dropped  int // records from the OPT record on
	opt      record
	hasOPT   bool
	minTTL   uint32
	hasSOA   bool
	answered bool // a record of the QTYPE stands in the answer section
}

// walk checks the records from start on. Those that stand behind the OPT record are not kept: to
// close the gap would mean to mend compression in RDATA that we do not know, they
// are additional (RFC 2181, section 9), and hardly a server has any there.
func walk(msg []byte, q Query, start int) (s survey, err error) {
	s.minTTL = 1<<31 - 1
	s.end = start
	off := start
	for section := offAN; section <= offAR; section += 2 {
		for range binary.BigEndian.Uint16(msg[section:]) {
			r, ok := parseRecord(msg, off)
			if !ok || !r.validData(msg) {
				return s, errRecord
			}
			switch {
			case r.typ == typeOPT:
				if section != offAR || s.hasOPT || r.data-off != optLen || !validOptions(msg[r.data:r.next]) {
					return s, errOPT
				}
				s.opt, s.hasOPT = r, true
				s.dropped++
			case s.hasOPT:
				s.dropped++
			default:
				s.note(msg, q, r, section)
			}
			off = r.next
		}
	}
	return s, nil
}

// note takes account of a record other than OPT.
func (s *survey) note(msg []byte, q Query, r record, section int) {
	s.records++
	s.end = r.next
	s.minTTL = min(s.minTTL, saneTTL(r.ttl))
	switch {
	case section == offAN && (r.typ == q.QType() || q.QType() == typeANY):
		s.answered = true
	case section == offNS && r.typ == typeSOA:
		s.hasSOA = true
		// The SOA's TTL and its MINIMUM both bound negative caching (RFC 2308, section 5).
		if !s.answered {
			s.minTTL = min(s.minTTL, saneTTL(binary.BigEndian.Uint32(msg[r.next-4:])))
		}
	}
}

// saneTTL takes a TTL with the top bit set for 0 (RFC 2181, section 8).
func saneTTL(ttl uint32) uint32 {
	if ttl > 1<<31-1 {
		return 0
	}
	return ttl
}

func validOptions(data []byte) bool {
	for len(data) > 0 {
		_, _, rest, ok := parseOption(data)
		if !ok {
			return false
		}
		data = rest
	}
	return true
}

// kind classifies a response by RFC 2308, section 2.
func (s survey) kind(flags uint16, rcode RCode) Kind {
	switch {
	case rcode != NoError && rcode != NXDomain:
		return Failure
	case flags&flagTC != 0:
		return Unsound
	case rcode == NoError && s.answered:
		return Positive
	case !s.hasSOA:
		return Unsound
	case rcode == NXDomain:
		return NoName
	default:
		return NoData
	}
}

func pack(msg []byte, q Query) (Response, error) {
	start := headerLen
	if binary.BigEndian.Uint16(msg[offQD:]) == 1 {
		start = int(q.end)
	}
	s, err := walk(msg, q, start)
	if err != nil {
		return Response{}, err
	}
	flags := binary.BigEndian.Uint16(msg[offFlags:])
	rcode := RCode(flags & maskRCode)
	var options []byte
	if s.hasOPT {
		rcode |= RCode(s.opt.ttl>>24) << 4
		options = msg[s.opt.data:s.opt.next]
	}
	kind := s.kind(flags, rcode)
	lifetime := s.minTTL
	if kind == Failure || kind == Unsound {
		lifetime = 0
	}

	ede := edeLen(options)
	p := make([]byte, packLen+2*s.records, packLen+2*s.records+ede+s.end-start)
	binary.BigEndian.PutUint16(p, flags)
	binary.BigEndian.PutUint16(p[packRCode:], uint16(rcode))
	copy(p[packCounts:], msg[offAN:headerLen])
	binary.BigEndian.PutUint16(p[packCounts+4:], binary.BigEndian.Uint16(msg[offAR:])-uint16(s.dropped))
	binary.BigEndian.PutUint16(p[packTTLs:], uint16(s.records))
	binary.BigEndian.PutUint16(p[packEDE:], uint16(ede))
	p[packKind] = byte(kind)
	binary.BigEndian.PutUint32(p[packLifetime:], lifetime)
	p = appendEDE(p, options)
	p = append(p, msg[start:s.end]...)
	r := Response{p}
	r.settle()
	return r, nil
}

// settle notes where the TTLs of the packed sections stand.
func (r Response) settle() {
	sections := r.sections()
	off := 0
	for i := range r.ttls() {
		rec, nameEnd := skipRecord(sections, off)
		if rec.ttl != saneTTL(rec.ttl) {
			binary.BigEndian.PutUint32(sections[nameEnd+4:], 0)
		}
		binary.BigEndian.PutUint16(r.packed[packLen+2*i:], uint16(nameEnd+4))
		off = rec.next
	}
}

// skipRecord reads a record of checked sections without following its compression.
func skipRecord(msg []byte, off int) (r record, nameEnd int) {
	for msg[off] != 0 && msg[off]&labelMask == 0 {
		off += 1 + int(msg[off])
	}
	if msg[off] != 0 {
		off++
	}
	off++
	r = record{
		typ:   binary.BigEndian.Uint16(msg[off:]),
		class: binary.BigEndian.Uint16(msg[off+2:]),
		ttl:   binary.BigEndian.Uint32(msg[off+4:]),
		data:  off + recordLen,
	}
	r.next = r.data + int(binary.BigEndian.Uint16(msg[off+8:]))
	return r, off
}

// edeLen returns how many octets the EDE options among options take.
func edeLen(options []byte) (n int) {
	for len(options) > 0 {
		code, value, rest, _ := parseOption(options)
		if code == optionEDE && len(value) >= 2 {
			n += optionLen + len(value)
		}
		options = rest
	}
	return n
}

func appendEDE(dst, options []byte) []byte {
	for len(options) > 0 {
		code, value, rest, _ := parseOption(options)
		if code == optionEDE && len(value) >= 2 {
			dst = append(dst, options[:optionLen+len(value)]...)
		}
		options = rest
	}
	return dst
}

// Keepalive returns the idle timeout that a response announces by
// edns-tcp-keepalive (RFC 7828), in units of 100 ms. msg must have passed
// [ParseResponse] as the response to q.
func Keepalive(msg []byte, q Query) (timeout uint16, ok bool) {
	start := headerLen
	if binary.BigEndian.Uint16(msg[offQD:]) == 1 {
		start = int(q.end)
	}
	s, err := walk(msg, q, start)
	if err != nil || !s.hasOPT {
		return 0, false
	}
	options := msg[s.opt.data:s.opt.next]
	for len(options) > 0 {
		code, value, rest, _ := parseOption(options)
		if code == optionKeepalive && len(value) == 2 {
			return binary.BigEndian.Uint16(value), true
		}
		options = rest
	}
	return 0, false
}

// NewFailure returns a SERVFAIL of our own that says why.
func NewFailure(ede EDE) Response {
	p := make([]byte, packLen, packLen+ede.len())
	binary.BigEndian.PutUint16(p, flagRA)
	binary.BigEndian.PutUint16(p[packRCode:], uint16(ServFail))
	binary.BigEndian.PutUint16(p[packEDE:], uint16(ede.len()))
	return Response{ede.append(p)}
}

// Packed returns the bytes that [FromPacked] takes. They must not be modified.
func (r Response) Packed() []byte { return r.packed }

// FromPacked returns the response whose Packed these bytes are.
func FromPacked(b []byte) Response { return Response{b} }

func (r Response) flags() uint16 { return binary.BigEndian.Uint16(r.packed) }

// RCode returns the response code.
func (r Response) RCode() RCode { return RCode(binary.BigEndian.Uint16(r.packed[packRCode:])) }

// Kind returns what the response says.
func (r Response) Kind() Kind { return Kind(r.packed[packKind]) }

// Lifetime returns for how many seconds the response may be cached.
func (r Response) Lifetime() uint32 { return binary.BigEndian.Uint32(r.packed[packLifetime:]) }

func (r Response) ttls() int { return int(binary.BigEndian.Uint16(r.packed[packTTLs:])) }

func (r Response) ede() []byte {
	start := packLen + 2*r.ttls()
	return r.packed[start : start+int(binary.BigEndian.Uint16(r.packed[packEDE:]))]
}

func (r Response) sections() []byte {
	return r.packed[packLen+2*r.ttls()+int(binary.BigEndian.Uint16(r.packed[packEDE:])):]
}

// ClampTTL brings every TTL, and with them the lifetime of a response that may
// be cached, within bounds, in seconds. The response must not be shared yet.
func (r Response) ClampTTL(low, high uint32) {
	sections := r.sections()
	for i := range r.ttls() {
		at := binary.BigEndian.Uint16(r.packed[packLen+2*i:])
		ttl := binary.BigEndian.Uint32(sections[at:])
		binary.BigEndian.PutUint32(sections[at:], min(max(ttl, low), high))
	}
	if k := r.Kind(); k != Failure && k != Unsound {
		binary.BigEndian.PutUint32(r.packed[packLifetime:], min(max(r.Lifetime(), low), high))
	}
}
