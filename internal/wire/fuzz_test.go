package wire_test

import (
	"slices"
	"testing"

	"github.com/miekg/dns"

	"dnsproxy/internal/wire"
)

// Whatever is accepted as a query, miekg/dns accepts and understands alike, and
// what is made of it is a message too.
func FuzzParseQuery(f *testing.F) {
	f.Add(question(f, "example.", dns.TypeA))
	f.Add(question(f, "wWw.example.", 65280, withEDNS(4096, true)))
	f.Add(question(f, "example.", dns.TypeAXFR))
	f.Add(question(f, "example.", dns.TypeA, func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }))
	f.Fuzz(func(t *testing.T, msg []byte) {
		q, err := wire.ParseQuery(msg)
		if err == wire.ErrIgnore {
			return
		}
		if rcode, refused := err.(wire.RCode); refused {
			answer := unpack(t, wire.AppendError(nil, q, rcode, wire.EDE{Code: 1, Text: "x", Set: true}))
			if !answer.Response || answer.Rcode != int(rcode) {
				t.Fatalf("answer to %x: %v", msg, answer)
			}
			return
		}
		m := unpack(t, msg)
		if len(m.Question) != 1 || m.Id != q.ID() || m.RecursionDesired != q.RD() || m.CheckingDisabled != q.CD() || m.AuthenticatedData != q.AD() {
			t.Fatalf("%x: %v", msg, m)
		}
		if m.Question[0].Qtype != q.QType() || m.Question[0].Qclass != q.QClass() {
			t.Fatalf("%x: %v", msg, m)
		}
		if opt := m.IsEdns0(); (opt != nil) != q.HasEDNS() || opt != nil && opt.Do() != q.DO() {
			t.Fatalf("%x: %v", msg, m)
		}
		up := unpack(t, wire.AppendUpstream(nil, q, 1, true)[2:])
		if up.Question[0] != m.Question[0] {
			t.Fatalf("upstream: %v, want %v", up.Question, m.Question)
		}
		if key := q.AppendKey(nil, 1); len(key) > wire.MaxKey {
			t.Fatalf("key of %d octets", len(key))
		}
	})
}

// Whatever is accepted as a response is answered with the same records as
// miekg/dns sees in it, whole and truncated.
func FuzzParseResponse(f *testing.F) {
	raw := question(f, "www.example.", dns.TypeA, withEDNS(1232, true))
	asked := unpack(f, raw)
	add := func(rcode int, edit func(m *dns.Msg)) {
		m := new(dns.Msg)
		m.SetRcode(asked, rcode)
		m.Compress = true
		edit(m)
		f.Add(pack(f, m))
	}
	add(0, func(m *dns.Msg) {
		m.Answer = []dns.RR{rr(f, "www.example. 60 CNAME b.example."), rr(f, "b.example. 5 A 192.0.2.1")}
		m.SetEdns0(1232, true)
		m.Extra = append(m.Extra, rr(f, "x.behind. 7 MX 5 y.behind."))
	})
	add(3, func(m *dns.Msg) { m.Ns = []dns.RR{soa(f, 60, 30)} })
	add(2, func(m *dns.Msg) {})
	f.Fuzz(func(t *testing.T, msg []byte) {
		q := parse(t, raw)
		r, err := wire.ParseResponse(msg, q)
		if err != nil {
			return
		}
		whole := wire.AppendAnswer(nil, q, r, 0, 65535)
		short := wire.AppendAnswer(nil, q, r, 0, 512)
		if len(short) > 512 {
			t.Fatalf("%d octets", len(short))
		}
		if msg[5] == 1 {
			// The client's case is echoed, also by the owners that point at the question.
			msg = append(append(append([]byte(nil), msg[:12]...), q.QName()...), msg[12+len(q.QName()):]...)
		}
		want := new(dns.Msg)
		if want.Unpack(msg) != nil {
			return // RDATA that is opaque to us and malformed to miekg/dns passes as it came (RFC 3597)
		}
		if slices.ContainsFunc(slices.Concat(want.Answer, want.Ns, want.Extra), hasOpaqueName) {
			return
		}
		got, cut := unpack(t, whole), unpack(t, short)
		if len(cut.Answer) > len(got.Answer) {
			t.Fatalf("truncation adds records")
		}
		for i, r := range want.Extra {
			if r.Header().Rrtype == dns.TypeOPT {
				want.Extra = want.Extra[:i]
				break
			}
		}
		compare(t, slices.Concat(want.Answer, want.Ns, want.Extra), slices.Concat(got.Answer, got.Ns, got.Extra))
	})
}

// hasOpaqueName reports whether a record's RDATA has a name that must not be compressed (RFC
// 3597, section 4, and the types' own RFCs), so that we do not look into it. miekg/dns follows compression even
// there, and where it leads to octets that an answer has anew, as the header, it sees another name.
func hasOpaqueName(r dns.RR) bool {
	switch r.(type) {
	case *dns.HIP, *dns.HTTPS, *dns.SVCB, *dns.IPSECKEY, *dns.AMTRELAY, *dns.LP, *dns.NAPTR, *dns.NSAPPTR, *dns.NSEC,
		*dns.NXT, *dns.RRSIG, *dns.SIG, *dns.TALINK, *dns.TKEY, *dns.TSIG:
		return true
	default:
		return false
	}
}

// compare fails unless both have the same records, OPT aside. A TTL with the top
// bit set becomes 0, and with it a name that was laid over the TTL: such records
// only have to be as many.
func compare(t *testing.T, want, got []dns.RR) {
	t.Helper()
	insane := false
	records := func(rrs []dns.RR) (out []string) {
		for _, r := range rrs {
			insane = insane || r.Header().Ttl > 1<<31-1
			if r.Header().Rrtype != dns.TypeOPT {
				out = append(out, r.String())
			}
		}
		return out
	}
	w, g := records(want), records(got)
	if len(w) != len(g) {
		t.Fatalf("got %d records, want %d", len(g), len(w))
	}
	for i := range w {
		if w[i] != g[i] && !insane {
			t.Fatalf("got %s, want %s", g[i], w[i])
		}
	}
}
