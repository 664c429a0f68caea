package wire

import (
	"encoding/binary"
	"errors"
	"strconv"
)

// The header (RFC 1035, section 4.1.1; AD and CD: RFC 4035, section 3):
//
//	                                1  1  1  1  1  1
//	  0  1  2  3  4  5  6  7  8  9  0  1  2  3  4  5
//	+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
//	|                      ID                       |  offID
//	|QR|   OPCODE  |AA|TC|RD|RA| Z|AD|CD|   RCODE   |  offFlags
//	|                    QDCOUNT                    |  offQD
//	|                    ANCOUNT                    |  offAN
//	|                    NSCOUNT                    |  offNS
//	|                    ARCOUNT                    |  offAR
//	+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
const (
	offID     = 0
	offFlags  = 2
	offQD     = 4
	offAN     = 6
	offNS     = 8
	offAR     = 10
	headerLen = 12
)

const (
	flagQR     = 1 << 15
	flagAA     = 1 << 10
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	flagRA     = 1 << 7
	flagAD     = 1 << 5
	flagCD     = 1 << 4
	maskOpcode = 0xf << 11
	maskRCode  = 0xf
)

// Types and classes that the forwarder must know.
const (
	typeCNAME = 5
	typeSOA   = 6
	typeSIG   = 24
	typeOPT   = 41
	typeTSIG  = 250
	typeIXFR  = 251 // the first of the four that ask for more than an RRset (RFC 5936, 1995, 1035)
	typeMAILA = 254
	typeANY   = 255
	classIN   = 1
)

// minUDPSize is what every client takes, and the least that an OPT record may
// announce (RFC 6891, section 6.2.3).
const minUDPSize = 512

// ErrIgnore says that a message must not be answered at all: it is too short
// to have a header, or is itself a response, which could start a loop.
var ErrIgnore = errors.New("not a query")

// RCode is a response code (RFC 1035, section 4.1.1; RFC 6891, section 6.1.3).
// As an error it is the answer that a query deserves.
type RCode uint16

// The response codes that the forwarder gives or looks for.
const (
	NoError  RCode = 0
	FormErr  RCode = 1
	ServFail RCode = 2
	NXDomain RCode = 3
	NotImp   RCode = 4
	Refused  RCode = 5
	BadVers  RCode = 16
)

// Error returns the mnemonic of the response code, such as "SERVFAIL".
func (r RCode) Error() string {
	switch r {
	case NoError:
		return "NOERROR"
	case FormErr:
		return "FORMERR"
	case ServFail:
		return "SERVFAIL"
	case NXDomain:
		return "NXDOMAIN"
	case NotImp:
		return "NOTIMP"
	case Refused:
		return "REFUSED"
	case BadVers:
		return "BADVERS"
	default:
		return "RCODE " + strconv.Itoa(int(r))
	}
}

// Query is a client's query that passed [ParseQuery]. It refers to the bytes
// that it was parsed from.
type Query struct {
	msg       []byte
	end       uint16 // of the question; headerLen if there is none
	udpSize   uint16 // as announced by the OPT record
	keepalive uint16 // what to answer to edns-tcp-keepalive, in units of 100 ms
	bits      uint8
}

const (
	hasEDNS       = 1 << iota // an OPT record
	hasDO                     // DNSSEC OK (RFC 3225)
	hasKeepalive              // an edns-tcp-keepalive option (RFC 7828)
	sendKeepalive             // the answer carries that option
)

// ParseQuery checks a message from a client. The error is [ErrIgnore], or an
// [RCode] to answer with; with an RCode the query holds what could be read, for
// [AppendError].
//
// A query is one question and at most one OPT record. Signed ones (TSIG, SIG(0))
// get NOTIMP, since a forwarder that changes the message cannot keep its
// promise; zone transfers are REFUSED. Octets behind the message are ignored.
func ParseQuery(msg []byte) (Query, error) {
	q := Query{msg: msg, end: headerLen}
	if len(msg) < headerLen {
		return q, ErrIgnore
	}
	flags := q.flags()
	if flags&flagQR != 0 {
		return q, ErrIgnore
	}
	err := q.parseBody()
	if flags&maskOpcode != 0 {
		q.end = headerLen // what follows the header is not ours to understand (RFC 8906, section 3.1.4)
		return q, NotImp
	}
	if err != NoError {
		return q, err
	}
	return q, nil
}

// parseBody reads what follows the header and returns NoError or the RCODE that the query deserves.
func (q *Query) parseBody() RCode {
	msg := q.msg
	if binary.BigEndian.Uint16(msg[offQD:]) != 1 {
		return FormErr // RFC 9619
	}
	off, ok := skipPlainName(msg, headerLen)
	if !ok || off+4 > len(msg) {
		return FormErr
	}
	off += 4
	q.end = uint16(off)
	if off = q.skipSections(off); off == 0 {
		return FormErr
	}
	version, rcode := q.parseAdditional(off)
	switch {
	case rcode != NoError:
		return rcode
	case version != 0:
		return BadVers
	case q.isTransfer():
		return Refused
	default:
		return NoError
	}
}

// skipSections returns the offset of the additional section, or 0. Only a zone
// transfer has records before it (RFC 1995, section 3).
func (q *Query) skipSections(off int) int {
	records := int(binary.BigEndian.Uint16(q.msg[offAN:])) + int(binary.BigEndian.Uint16(q.msg[offNS:]))
	if records > 0 && !q.isTransfer() {
		return 0
	}
	for range records {
		r, ok := parseRecord(q.msg, off)
		if !ok {
			return 0
		}
		off = r.next
	}
	return off
}

// isTransfer reports whether the QTYPE asks for more than RRsets of one name.
func (q Query) isTransfer() bool {
	return q.QType() >= typeIXFR && q.QType() <= typeMAILA
}

// parseAdditional reads the additional section at off, and returns the version of EDNS.
func (q *Query) parseAdditional(off int) (version byte, rcode RCode) {
	for range binary.BigEndian.Uint16(q.msg[offAR:]) {
		h, ok := parseRecord(q.msg, off)
		if !ok {
			return 0, FormErr
		}
		switch h.typ {
		case typeOPT:
			if q.bits&hasEDNS != 0 || h.data-off != 1+recordLen {
				return 0, FormErr // a second OPT, or one not at the root (RFC 6891, section 6.1.1)
			}
			q.bits |= hasEDNS
			q.udpSize = h.class
			version = byte(h.ttl >> 16)
			if h.ttl&optDO != 0 {
				q.bits |= hasDO
			}
			if !q.parseOptions(q.msg[h.data:h.next]) {
				return 0, FormErr
			}
		case typeTSIG, typeSIG:
			return 0, NotImp
		default:
			return 0, FormErr
		}
		off = h.next
	}
	return version, NoError
}

func (q *Query) parseOptions(data []byte) bool {
	for len(data) > 0 {
		code, value, rest, ok := parseOption(data)
		if !ok || code == optionKeepalive && len(value) != 0 {
			return false
		}
		if code == optionKeepalive {
			q.bits |= hasKeepalive
		}
		data = rest
	}
	return true
}

func (q Query) flags() uint16 { return binary.BigEndian.Uint16(q.msg[offFlags:]) }

// ID returns the message ID.
func (q Query) ID() uint16 { return binary.BigEndian.Uint16(q.msg[offID:]) }

// QName returns the QNAME in wire form as the client wrote it. It must not be
// modified.
func (q Query) QName() []byte { return q.msg[headerLen : q.end-4] }

// QType returns the QTYPE.
func (q Query) QType() uint16 { return binary.BigEndian.Uint16(q.msg[q.end-4:]) }

// QClass returns the QCLASS.
func (q Query) QClass() uint16 { return binary.BigEndian.Uint16(q.msg[q.end-2:]) }

// RD reports whether the client wants recursion.
func (q Query) RD() bool { return q.flags()&flagRD != 0 }

// CD reports whether the client checks signatures itself (RFC 4035, section 3.2.2).
func (q Query) CD() bool { return q.flags()&flagCD != 0 }

// AD reports whether the client understands the AD bit (RFC 6840, section 5.7).
func (q Query) AD() bool { return q.flags()&flagAD != 0 }

// DO reports whether the client wants DNSSEC records (RFC 3225).
func (q Query) DO() bool { return q.bits&hasDO != 0 }

// HasEDNS reports whether the client sent an OPT record.
func (q Query) HasEDNS() bool { return q.bits&hasEDNS != 0 }

// UDPSize returns the largest UDP answer that the client takes, in octets.
func (q Query) UDPSize() int { return max(minUDPSize, int(q.udpSize)) }

// AnswerKeepalive makes answers to q announce an idle timeout, in units of
// 100 ms, if the client asked for it. It is for queries that came over TCP (RFC
// 7828, section 3.3).
func (q *Query) AnswerKeepalive(timeout uint16) {
	if q.bits&hasKeepalive != 0 {
		q.bits |= sendKeepalive
		q.keepalive = timeout
	}
}

// Clone returns the query on bytes of its own.
func (q Query) Clone() Query {
	q.msg = append([]byte(nil), q.msg[:q.end]...)
	return q
}

// MaxKey is the largest size of a key, in octets.
const MaxKey = maxName + keyTail

// keyTail is what a key has behind the name: QTYPE, QCLASS, flags, scope.
const keyTail = 2 + 2 + 1 + 4

const (
	keyCD      = 1 << 0
	keyDO      = hasDO
	keyFailure = 1 << 7
)

// AppendKey appends the key under which answers to q are shared: QNAME in lower
// case, QTYPE, QCLASS, DO and CD, and the scope, which separates routes.
func (q Query) AppendKey(dst []byte, scope uint32) []byte {
	for _, c := range q.QName() {
		dst = append(dst, lower(c))
	}
	dst = append(dst, q.msg[q.end-4:q.end]...)
	flags := q.bits & keyDO
	if q.CD() {
		flags |= keyCD
	}
	dst = append(dst, flags)
	return binary.BigEndian.AppendUint32(dst, scope)
}

// KeyName returns the QNAME, in lower case and wire form, of a key.
func KeyName(key []byte) []byte { return key[:len(key)-keyTail] }

// SetKeyScope changes the scope of a key.
func SetKeyScope(key []byte, scope uint32) {
	binary.BigEndian.PutUint32(key[len(key)-4:], scope)
}

// SetKeyFailure says whether what is kept under a key is a failure (RFC 9520), which must not displace an answer.
func SetKeyFailure(key []byte, failure bool) {
	flags := &key[len(key)-5]
	*flags &^= keyFailure
	if failure {
		*flags |= keyFailure
	}
}
