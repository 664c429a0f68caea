package wire

import "encoding/binary"

// The OPT record (RFC 6891, section 6.1): the root's name, the type, the size of UDP
// payloads in place of the class, and extended RCODE, version and flags in place
// of the TTL.
const (
	optDO     = 1 << 15
	optLen    = 1 + recordLen
	optionLen = 4 // of an option's code and length
)

// udpSize is what our OPT records announce: what passes everywhere unfragmented.
const udpSize = 1232

// Codes of options.
const (
	optionKeepalive = 11 // RFC 7828
	optionPadding   = 12 // RFC 7830
	optionEDE       = 15 // RFC 8914
)

// paddingBlock is the size in octets to a multiple of which queries are padded
// (RFC 8467, section 4.1).
const paddingBlock = 128

// parseOption splits the first option off data.
func parseOption(data []byte) (code uint16, value, rest []byte, ok bool) {
	if len(data) < optionLen {
		return 0, nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(data[2:]))
	if len(data) < optionLen+n {
		return 0, nil, nil, false
	}
	return binary.BigEndian.Uint16(data), data[optionLen : optionLen+n], data[optionLen+n:], true
}

// EDE is an extended DNS error (RFC 8914). The zero value is none.
type EDE struct {
	Code uint16
	Text string
	Set  bool
}

// Info codes (RFC 8914, section 5.2, and IANA's registry).
const (
	EDEStale         = 3
	EDECachedError   = 13
	EDENotReady      = 14
	EDEProhibited    = 18
	EDEStaleNXDomain = 19
	EDENotAuth       = 20
	EDENotSupported  = 21
	EDENoReachable   = 22
	EDENetworkError  = 23
	EDESynthesized   = 29
)

// maxEDEText bounds the text that we send, in octets: it is for people, and must leave the
// answer room.
const maxEDEText = 200

func (e EDE) text() string {
	if len(e.Text) > maxEDEText {
		return e.Text[:maxEDEText]
	}
	return e.Text
}

// len returns how many octets the option takes.
func (e EDE) len() int {
	if !e.Set {
		return 0
	}
	return optionLen + 2 + len(e.text())
}

func (e EDE) append(dst []byte) []byte {
	if !e.Set {
		return dst
	}
	text := e.text()
	dst = binary.BigEndian.AppendUint16(dst, optionEDE)
	dst = binary.BigEndian.AppendUint16(dst, uint16(2+len(text)))
	dst = binary.BigEndian.AppendUint16(dst, e.Code)
	return append(dst, text...)
}

// appendOPT appends the fixed part of an OPT record whose options take
// dataLen octets.
func appendOPT(dst []byte, rcode RCode, do bool, dataLen int) []byte {
	ttl := uint32(rcode>>4) << 24
	if do {
		ttl |= optDO
	}
	dst = append(dst, 0, 0, typeOPT)
	dst = binary.BigEndian.AppendUint16(dst, udpSize)
	dst = binary.BigEndian.AppendUint32(dst, ttl)
	return binary.BigEndian.AppendUint16(dst, uint16(dataLen))
}

// keepaliveLen returns how many octets the answer's edns-tcp-keepalive takes.
func (q Query) keepaliveLen() int {
	if q.bits&sendKeepalive == 0 {
		return 0
	}
	return optionLen + 2
}

// appendAnswerOPT appends the OPT record of the answer to q, if q had one (RFC
// 6891, section 7), with at most limit octets; the extended errors are what gives
// way. relayed are EDE options as an upstream sent them.
func (q Query) appendAnswerOPT(dst []byte, rcode RCode, ede EDE, relayed []byte, limit int) []byte {
	if !q.HasEDNS() {
		return dst
	}
	fixed := optLen + q.keepaliveLen()
	if fixed+ede.len()+len(relayed) > limit {
		relayed = nil
	}
	if fixed+ede.len() > limit {
		ede = EDE{}
	}
	dst = appendOPT(dst, rcode, q.DO(), fixed-optLen+ede.len()+len(relayed))
	if q.keepaliveLen() > 0 {
		dst = binary.BigEndian.AppendUint16(dst, optionKeepalive)
		dst = binary.BigEndian.AppendUint16(dst, 2)
		dst = binary.BigEndian.AppendUint16(dst, q.keepalive)
	}
	return append(ede.append(dst), relayed...)
}

// minOPT returns how many octets the answer to q keeps for its OPT record, without extended errors.
func (q Query) minOPT() int {
	if !q.HasEDNS() {
		return 0
	}
	return optLen + q.keepaliveLen()
}
