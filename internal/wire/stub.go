package wire

import "errors"

// ErrIgnore says that a message must not be answered at all: it is too short
// to have a header, or is itself a response (RFC 5625, section 6.3).
var ErrIgnore = errors.New("not a query")

// RCode is a response code (RFC 1035, section 4.1.1; RFC 6891, section 6.1.3).
// As an error it is the answer that a query deserves.
type RCode uint16

// The response codes that the forwarder itself gives.
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
func (r RCode) Error() string { panic("not built yet") }

// EDE is an extended DNS error: an info code and a text (RFC 8914).
// The zero value is none.
type EDE struct {
	Code uint16
	Text string
	Set  bool
}

// Query is a client's query that passed ParseQuery. It refers to the bytes it was
// parsed from.
type Query struct {
	msg []byte
}

// ParseQuery checks a message from a client. The error is ErrIgnore, or an RCode to
// answer with; with an RCode the returned Query holds what could be read, for AppendError.
func ParseQuery(msg []byte) (Query, error) { panic("not built yet") }

// ID returns the message ID.
func (q Query) ID() uint16 { panic("not built yet") }

// QName returns the QNAME in wire form as the client wrote it. It must not be modified.
func (q Query) QName() []byte { panic("not built yet") }

// QType returns the QTYPE.
func (q Query) QType() uint16 { panic("not built yet") }

// QClass returns the QCLASS.
func (q Query) QClass() uint16 { panic("not built yet") }

// RD, CD, AD, DO, HasEDNS and Keepalive say what the client set.
func (q Query) RD() bool        { panic("not built yet") }
func (q Query) CD() bool        { panic("not built yet") }
func (q Query) AD() bool        { panic("not built yet") }
func (q Query) DO() bool        { panic("not built yet") }
func (q Query) HasEDNS() bool   { panic("not built yet") }
func (q Query) Keepalive() bool { panic("not built yet") }

// UDPSize returns the largest UDP answer that the client takes, at least 512 octets.
func (q Query) UDPSize() int { panic("not built yet") }

// Clone returns the query on bytes of its own.
func (q Query) Clone() Query { panic("not built yet") }

// MaxKey is the largest size of a key.
const MaxKey = 255 + 2 + 2 + 1 + 4

// AppendKey appends the key under which answers to q are shared: QNAME in lower case, QTYPE,
// QCLASS, DO and CD, and the scope, which separates routes.
func (q Query) AppendKey(dst []byte, scope uint32) []byte { panic("not built yet") }

// AppendUpstream appends q, behind its two-octet length, as it goes to an upstream: with id, RD and AD set, CD and DO as the
// client has them, an OPT record of our own, edns-tcp-keepalive if keepalive (RFC 7828),
// and padding to a multiple of 128 octets (RFC 8467).
func AppendUpstream(dst []byte, q Query, id uint16, keepalive bool) []byte {
	panic("not built yet")
}

// Response is an upstream's response that passed ParseResponse, packed as the cache stores it.
type Response struct {
	packed []byte
}

// ParseResponse checks msg, the response to q, and packs it: it must have QR set, the same opcode, q's question
// (any ASCII case; none at all with an error RCODE), and sections whose every record is within bounds. It does not look at the ID. It keeps nothing of msg.
func ParseResponse(msg []byte, q Query) (Response, error) { panic("not built yet") }

// Keepalive returns the idle timeout that a response message announces in edns-tcp-keepalive
// (RFC 7828), in units of 100 ms. msg must have passed ParseResponse.
func Keepalive(msg []byte) (timeout uint16, ok bool) { panic("not built yet") }

// RCode returns the response code.
func (r Response) RCode() RCode { panic("not built yet") }

// Packed returns the bytes that FromPacked takes.
func (r Response) Packed() []byte { return r.packed }

// FromPacked is the Response whose Packed these bytes are.
func FromPacked(b []byte) Response { return Response{b} }
