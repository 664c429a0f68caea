package forwarder

import (
	"fmt"
	"strings"

	"dnsproxy/internal/wire"
)

const (
	typeA    = 1
	typeNS   = 2
	typeSOA  = 6
	typeAAAA = 28
	typeDS   = 43
	classIN  = 1
)

// special is what is answered for the names at and under a special-use domain.
type special uint8

const (
	loopback special = iota + 1 // localhost: the loopback addresses
	empty                       // an empty zone: SOA and NS at its apex, nothing below (RFC 6303, section 3)
	absent                      // no such name, apex included
	dataless                    // the names exist, and have no records
)

type specialDomain struct {
	kind special
	ede  wire.EDE
}

// specialDomains are the domains that are answered here, in wire form. A
// variable since Go has no constant maps; nothing writes it.
var specialDomains = func() map[string]specialDomain {
	m := make(map[string]specialDomain)
	add := func(kind special, source string, domains ...string) {
		for _, d := range domains {
			m[wireName(d)] = specialDomain{kind, wire.EDE{Code: wire.EDESynthesized, Text: fmt.Sprintf("%s is answered by the forwarder (%s)", d, source), Set: true}}
		}
	}
	add(loopback, "RFC 6761", "localhost")
	add(absent, "RFC 6761", "invalid")
	add(absent, "RFC 7686", "onion")
	add(absent, "RFC 9476", "alt")
	add(absent, "RFC 6762", "local")
	add(absent, "canary domain", "use-application-dns.net")
	add(dataless, "RFC 9462", "resolver.arpa")
	add(empty, "RFC 8375", "home.arpa")
	add(empty, "RFC 6303", "0.in-addr.arpa", "10.in-addr.arpa", "127.in-addr.arpa", "254.169.in-addr.arpa", "168.192.in-addr.arpa",
		"2.0.192.in-addr.arpa", "100.51.198.in-addr.arpa", "113.0.203.in-addr.arpa", "255.255.255.255.in-addr.arpa",
		strings.Repeat("0.", 32)+"ip6.arpa", "1."+strings.Repeat("0.", 31)+"ip6.arpa",
		"d.f.ip6.arpa", "8.e.f.ip6.arpa", "9.e.f.ip6.arpa", "a.e.f.ip6.arpa", "b.e.f.ip6.arpa", "8.b.d.0.1.0.0.2.ip6.arpa")
	for i := 16; i <= 31; i++ {
		add(empty, "RFC 6303", fmt.Sprintf("%d.172.in-addr.arpa", i))
	}
	for i := 64; i <= 127; i++ {
		add(empty, "RFC 7793", fmt.Sprintf("%d.100.in-addr.arpa", i))
	}
	return m
}()

// mayBeSpecial rules out nearly all names by their last label.
func mayBeSpecial(name []byte) bool {
	last := name
	for next := name; len(next) > 1; next = next[1+next[0]:] {
		last = next
	}
	switch string(last[:len(last)-1]) {
	case "\x04arpa", "\x09localhost", "\x07invalid", "\x05onion", "\x03alt", "\x05local":
		return true
	case "\x03net":
		return strings.HasSuffix(string(name), "\x13use-application-dns\x03net\x00")
	default:
		return false
	}
}

// appendSpecial answers q if its name, in wire form and lower case, is at or under a special-use
// domain. Names for which a route was made go that way: depth is the length of the route's domain.
func appendSpecial(dst []byte, q wire.Query, name []byte, depth int) ([]byte, bool) {
	if q.QClass() != classIN || !mayBeSpecial(name) {
		return dst, false
	}
	for at := 0; len(name)-at > max(depth, 1); at += 1 + int(name[at]) {
		d, ok := specialDomains[string(name[at:])]
		if !ok {
			continue
		}
		if at == 0 && q.QType() == typeDS && d.kind == empty {
			return dst, false // the parent's to answer (RFC 8375, section 4)
		}
		return d.append(dst, q, at), true
	}
	return dst, false
}

// append appends the answer to q, whose name is at or, if apex is not 0, under d.
func (d specialDomain) append(dst []byte, q wire.Query, apex int) []byte {
	var data [40]byte
	soa := wire.Record{Owner: apex, Type: typeSOA, TTL: specialTTL, Data: appendSOA(data[:0], apex)}
	switch d.kind {
	case loopback:
		switch q.QType() {
		case typeA:
			return wire.AppendLocal(dst, q, wire.NoError, &wire.Record{Type: typeA, TTL: specialTTL, Data: loopback4[:]}, nil, d.ede)
		case typeAAAA:
			return wire.AppendLocal(dst, q, wire.NoError, &wire.Record{Type: typeAAAA, TTL: specialTTL, Data: loopback6[:]}, nil, d.ede)
		}
		return wire.AppendLocal(dst, q, wire.NoError, nil, &soa, d.ede)
	case dataless:
		return wire.AppendLocal(dst, q, wire.NoError, nil, &soa, d.ede)
	case absent:
		return wire.AppendLocal(dst, q, wire.NXDomain, nil, &soa, d.ede)
	default:
		return d.appendEmpty(dst, q, apex, &soa)
	}
}

// appendEmpty answers from an empty zone.
func (d specialDomain) appendEmpty(dst []byte, q wire.Query, apex int, soa *wire.Record) []byte {
	switch {
	case apex != 0:
		return wire.AppendLocal(dst, q, wire.NXDomain, nil, soa, d.ede)
	case q.QType() == typeSOA:
		return wire.AppendLocal(dst, q, wire.NoError, soa, nil, d.ede)
	case q.QType() == typeNS:
		ns := wire.Record{Type: typeNS, TTL: specialTTL, Data: soa.Data[:2]}
		return wire.AppendLocal(dst, q, wire.NoError, &ns, nil, d.ede)
	default:
		return wire.AppendLocal(dst, q, wire.NoError, nil, soa, d.ede)
	}
}

// specialTTL is the TTL of local answers, in seconds (RFC 6303, section 3).
const specialTTL = 10800

var (
	loopback4 = [4]byte{127, 0, 0, 1}
	loopback6 = [16]byte{15: 1}
)

// appendSOA appends the RDATA "@ nobody.invalid. 1 3600 1200 604800 10800" (RFC 6303,
// section 3), where @ is the QNAME from an offset on.
func appendSOA(dst []byte, apex int) []byte {
	const questionName = 12 // where the QNAME stands in every message
	dst = append(dst, 0xc0|byte((questionName+apex)>>8), byte(questionName+apex))
	dst = append(dst, "\x06nobody\x07invalid\x00"...)
	return append(dst, 0, 0, 0, 1, 0, 0, 0x0e, 0x10, 0, 0, 0x04, 0xb0, 0, 0x09, 0x3a, 0x80, 0, 0, 0x2a, 0x30)
}
