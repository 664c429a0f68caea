package wire_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"dnsproxy/internal/wire"
)

// exchange is a query, and the message that an upstream gives to it.
func exchange(t testing.TB, name string, qtype uint16, compress bool, edit func(m *dns.Msg), asks ...func(*dns.Msg)) (wire.Query, []byte) {
	t.Helper()
	raw := question(t, name, qtype, asks...)
	m := new(dns.Msg)
	m.SetReply(unpack(t, raw))
	m.RecursionAvailable = true
	m.Compress = compress
	edit(m)
	return parse(t, raw), pack(t, m)
}

func respond(t testing.TB, name string, qtype uint16, edit func(m *dns.Msg), asks ...func(*dns.Msg)) (wire.Query, wire.Response) {
	t.Helper()
	q, msg := exchange(t, name, qtype, true, edit, asks...)
	r, err := wire.ParseResponse(msg, q)
	if err != nil {
		t.Fatalf("ParseResponse: %v", err)
	}
	return q, r
}

func soa(t testing.TB, ttl, minimum int) dns.RR {
	return rr(t, fmt.Sprintf("example. %d SOA ns.example. root.example. 1 3600 600 86400 %d", ttl, minimum))
}

func TestAnswerIsTheUpstreamsButForTTLs(t *testing.T) {
	edit := func(m *dns.Msg) {
		m.Authoritative, m.AuthenticatedData = true, true
		m.Answer = []dns.RR{
			rr(t, "www.Example. 300 CNAME Host.example."), rr(t, "host.example. 60 A 192.0.2.1"), rr(t, "host.example. 60 A 192.0.2.2"),
		}
		m.Ns = []dns.RR{rr(t, "example. 900 NS Ns1.example.")}
		m.Extra = []dns.RR{rr(t, "ns1.example. 5 A 192.0.2.53"), rr(t, "_x._tcp.example. 77 SRV 1 2 3 host.example.")}
	}
	for _, compress := range []bool{true, false} {
		q, msg := exchange(t, "www.example.", dns.TypeA, compress, edit, withEDNS(4096, true))
		want := unpack(t, msg)
		r, err := wire.ParseResponse(msg, q)
		if err != nil {
			t.Fatal(err)
		}
		got := unpack(t, wire.AppendAnswer(nil, q, r, 10, 65535))
		opt := got.Extra[len(got.Extra)-1]
		if opt.Header().Rrtype != dns.TypeOPT || !got.IsEdns0().Do() {
			t.Errorf("last record: %v", opt)
		}
		got.Extra = got.Extra[:len(got.Extra)-1]
		for _, section := range [][]dns.RR{want.Answer, want.Ns, want.Extra} {
			for _, rr := range section {
				rr.Header().Ttl -= min(rr.Header().Ttl, 10)
			}
		}
		if got.String() != want.String() {
			t.Errorf("got\n%v\nwant\n%v", got, want)
		}
	}
}

func TestAnswerEchoesTheClientsQuestion(t *testing.T) {
	_, r := respond(t, "www.example.", dns.TypeA, func(m *dns.Msg) { m.Answer = []dns.RR{rr(t, "www.example. 60 A 192.0.2.1")} })
	q := parse(t, question(t, "wWw.eXAMPLE.", dns.TypeA, func(m *dns.Msg) { m.Id, m.RecursionDesired, m.CheckingDisabled = 99, false, true }))
	got := unpack(t, wire.AppendAnswer(nil, q, r, 0, 512))
	if got.Id != 99 || got.RecursionDesired || !got.CheckingDisabled || got.Question[0].Name != "wWw.eXAMPLE." || got.Answer[0].Header().Name != "wWw.eXAMPLE." {
		t.Errorf("got %v", got)
	}
}

// RFC 6840, section 5.8: AD goes to those who set DO or AD.
func TestADIsForThoseWhoUnderstandIt(t *testing.T) {
	_, r := respond(t, "example.", dns.TypeA, func(m *dns.Msg) {
		m.AuthenticatedData = true
		m.Answer = []dns.RR{rr(t, "example. 60 A 192.0.2.1")}
	}, withEDNS(1232, false))
	for _, tt := range []struct {
		ask  func(*dns.Msg)
		want bool
	}{
		{func(*dns.Msg) {}, false},
		{withEDNS(1232, false), false},
		{withEDNS(1232, true), true},
		{func(m *dns.Msg) { m.AuthenticatedData = true }, true},
	} {
		q := parse(t, question(t, "example.", dns.TypeA, tt.ask))
		if got := unpack(t, wire.AppendAnswer(nil, q, r, 0, 512)).AuthenticatedData; got != tt.want {
			t.Errorf("AD: got %v, want %v", got, tt.want)
		}
	}
}

func TestOPTFollowsTheClient(t *testing.T) {
	ede := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}, Option: []dns.EDNS0{
		&dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE, Timeout: 300},
		&dns.EDNS0_EDE{InfoCode: 9, ExtraText: "DNSKEY missing"},
		&dns.EDNS0_PADDING{Padding: make([]byte, 100)},
	}}
	_, r := respond(t, "example.", dns.TypeA, func(m *dns.Msg) {
		m.Answer = []dns.RR{rr(t, "example. 60 A 192.0.2.1")}
		m.Extra = []dns.RR{ede}
	})
	if got := unpack(t, wire.AppendAnswer(nil, parse(t, question(t, "example.", dns.TypeA)), r, 0, 512)); len(got.Extra) != 0 {
		t.Errorf("OPT without OPT in the query: %v", got)
	}
	opt := unpack(t, wire.AppendAnswer(nil, parse(t, question(t, "example.", dns.TypeA, withEDNS(512, false))), r, 0, 512)).IsEdns0()
	if len(opt.Option) != 1 || opt.Option[0].(*dns.EDNS0_EDE).ExtraText != "DNSKEY missing" {
		t.Errorf("the upstream's EDE, and nothing of its hop, is relayed; got %v", opt)
	}
}

func TestKeepalive(t *testing.T) {
	for _, want := range []uint16{0, 1, 1200} {
		q, msg := exchange(t, "example.", dns.TypeA, true, func(m *dns.Msg) {
			o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
			o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: 11, Data: binary.BigEndian.AppendUint16(nil, want)})
			m.Extra = []dns.RR{o}
		})
		if got, ok := wire.Keepalive(msg, q); !ok || got != want {
			t.Errorf("got %d %v, want %d", got, ok, want)
		}
	}
	q, msg := exchange(t, "example.", dns.TypeA, true, func(*dns.Msg) {})
	if _, ok := wire.Keepalive(msg, q); ok {
		t.Error("a timeout that nobody announced")
	}
}

func TestKeepaliveIsAnsweredToThoseWhoAsk(t *testing.T) {
	ask := func(m *dns.Msg) {
		o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: 11})
		m.Extra = []dns.RR{o}
	}
	_, r := respond(t, "example.", dns.TypeA, func(m *dns.Msg) { m.Answer = []dns.RR{rr(t, "example. 60 A 192.0.2.1")} })
	q := parse(t, question(t, "example.", dns.TypeA, ask))
	q.AnswerKeepalive(100)
	opt := unpack(t, wire.AppendAnswer(nil, q, r, 0, 65535)).IsEdns0()
	if len(opt.Option) != 1 || opt.Option[0].(*dns.EDNS0_TCP_KEEPALIVE).Timeout != 100 {
		t.Errorf("got %v", opt)
	}
	q = parse(t, question(t, "example.", dns.TypeA, withEDNS(1232, false)))
	q.AnswerKeepalive(100)
	if opt := unpack(t, wire.AppendAnswer(nil, q, r, 0, 65535)).IsEdns0(); len(opt.Option) != 0 {
		t.Errorf("not asked for: %v", opt)
	}
}

func TestKindAndLifetime(t *testing.T) {
	a := rr(t, "example. 60 A 192.0.2.1")
	for _, tt := range []struct {
		name     string
		qtype    uint16
		edit     func(m *dns.Msg)
		kind     wire.Kind
		lifetime uint32
	}{
		{"positive, the lowest TTL of all", dns.TypeA, func(m *dns.Msg) {
			m.Answer, m.Ns = []dns.RR{a}, []dns.RR{rr(t, "example. 30 NS ns.example.")}
		}, wire.Positive, 30},
		{"TTL 0", dns.TypeA, func(m *dns.Msg) { m.Answer = []dns.RR{rr(t, "example. 0 A 192.0.2.1")} }, wire.Positive, 0},
		{"TTL with the top bit set is 0 (RFC 2181, section 8)", dns.TypeA, func(m *dns.Msg) {
			m.Answer = []dns.RR{rr(t, "example. 2147483648 A 192.0.2.1")}
		}, wire.Positive, 0},
		{"ANY", dns.TypeANY, func(m *dns.Msg) { m.Answer = []dns.RR{a} }, wire.Positive, 60},
		{"NODATA, bounded by the SOA's TTL", dns.TypeMX, func(m *dns.Msg) { m.Ns = []dns.RR{soa(t, 20, 900)} }, wire.NoData, 20},
		{"NODATA, bounded by MINIMUM", dns.TypeMX, func(m *dns.Msg) { m.Ns = []dns.RR{soa(t, 900, 21)} }, wire.NoData, 21},
		{"NXDOMAIN", dns.TypeA, func(m *dns.Msg) { m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{soa(t, 900, 22)} }, wire.NoName, 22},
		{"NODATA behind a CNAME", dns.TypeA, func(m *dns.Msg) {
			m.Answer, m.Ns = []dns.RR{rr(t, "example. 5 CNAME b.example.")}, []dns.RR{soa(t, 900, 22)}
		}, wire.NoData, 5},
		{"NODATA without SOA", dns.TypeMX, func(m *dns.Msg) {}, wire.Unsound, 0},
		{"NXDOMAIN without SOA", dns.TypeMX, func(m *dns.Msg) { m.Rcode = dns.RcodeNameError }, wire.Unsound, 0},
		{"truncated", dns.TypeA, func(m *dns.Msg) { m.Truncated, m.Answer = true, []dns.RR{a} }, wire.Unsound, 0},
		{"SERVFAIL", dns.TypeA, func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }, wire.Failure, 0},
		{"REFUSED", dns.TypeA, func(m *dns.Msg) { m.Rcode = dns.RcodeRefused }, wire.Failure, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, r := respond(t, "example.", tt.qtype, tt.edit)
			if r.Kind() != tt.kind || r.Lifetime() != tt.lifetime {
				t.Errorf("got kind %d, lifetime %d; want %d, %d", r.Kind(), r.Lifetime(), tt.kind, tt.lifetime)
			}
		})
	}
}

func TestParseResponseRefuses(t *testing.T) {
	good := func(m *dns.Msg) { m.Answer = []dns.RR{rr(t, "example. 60 A 192.0.2.1")} }
	q, msg := exchange(t, "example.", dns.TypeA, true, good)
	end := len(question(t, "example.", dns.TypeA))
	edited := func(edit func(b []byte)) []byte {
		b := bytes.Clone(msg)
		edit(b)
		return b
	}
	for name, bad := range map[string][]byte{
		"nothing":                      nil,
		"a header cut short":           msg[:11],
		"a query":                      edited(func(b []byte) { b[2] &^= 0x80 }),
		"another opcode":               edited(func(b []byte) { b[2] |= 5 << 3 }),
		"another name":                 edited(func(b []byte) { b[13] = 'f' }),
		"another type":                 edited(func(b []byte) { b[end-3]++ }),
		"another class":                edited(func(b []byte) { b[end-1]++ }),
		"no question and no error":     edited(func(b []byte) { b[5], b[7] = 0, 0 })[:12],
		"two questions":                edited(func(b []byte) { b[5] = 2 }),
		"a record that is missing":     edited(func(b []byte) { b[9] = 1 }),
		"a record cut short":           msg[:len(msg)-1],
		"an owner that points forward": edited(func(b []byte) { b[end], b[end+1] = 0xc0, byte(end+1) }),
		"an owner that points at itself": edited(func(b []byte) {
			b[end], b[end+1] = 0xc0, byte(end)
		}),
		"an owner that points into the header": edited(func(b []byte) { b[end], b[end+1] = 0xc0, 5 }),
		"an address of five octets":            append(edited(func(b []byte) { b[end+11] = 5 }), 0),
		"garbage":                              []byte("this is not a DNS message at all"),
	} {
		if _, err := wire.ParseResponse(bad, q); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := wire.ParseResponse(msg, q); err != nil {
		t.Errorf("the message that they were made of: %v", err)
	}
	if _, err := wire.ParseResponse(edited(func(b []byte) { b[13] = 'E' }), q); err != nil {
		t.Errorf("another case: %v", err)
	}
	failure := edited(func(b []byte) { b[3], b[5], b[7] = 1, 0, 0 })[:12]
	if r, err := wire.ParseResponse(failure, q); err != nil || r.RCode() != wire.FormErr {
		t.Errorf("FORMERR without question (RFC 9619): %v", err)
	}
}

// The OPT record may stand anywhere in the additional section (RFC 6891, section 6.1.1).
// What stands behind it is optional, and not kept.
func TestOPTAmongOtherRecords(t *testing.T) {
	q, msg := exchange(t, "example.", dns.TypeMX, true, func(m *dns.Msg) {
		m.Answer = []dns.RR{rr(t, "example. 60 MX 10 mail.example.")}
		opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}, Option: []dns.EDNS0{&dns.EDNS0_PADDING{Padding: make([]byte, 37)}}}
		m.Extra = []dns.RR{
			rr(t, "first.other. 60 A 192.0.2.1"), opt, rr(t, "long.name.behind. 60 A 192.0.2.2"),
			rr(t, "host.name.behind. 60 MX 1 long.name.behind."), rr(t, "x.first.other. 60 NS name.behind."),
			rr(t, "x.first.other. 60 SOA a.name.behind. b.a.name.behind. 1 2 3 4 5"),
		}
	})
	r, err := wire.ParseResponse(msg, q)
	if err != nil {
		t.Fatal(err)
	}
	want := unpack(t, msg)
	want.Extra = want.Extra[:1]
	if got := unpack(t, wire.AppendAnswer(nil, q, r, 0, 65535)); got.String() != want.String() {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
}

func TestClampTTL(t *testing.T) {
	q, r := respond(t, "example.", dns.TypeA, func(m *dns.Msg) {
		m.Answer = []dns.RR{rr(t, "example. 5 A 192.0.2.1")}
		m.Ns = []dns.RR{rr(t, "example. 900000 NS ns.example.")}
	})
	r.ClampTTL(60, 86400)
	got := unpack(t, wire.AppendAnswer(nil, q, r, 0, 512))
	if got.Answer[0].Header().Ttl != 60 || got.Ns[0].Header().Ttl != 86400 || r.Lifetime() != 60 {
		t.Errorf("got %v, lifetime %d", got, r.Lifetime())
	}
}

func TestAppendStale(t *testing.T) {
	q, r := respond(t, "example.", dns.TypeA, func(m *dns.Msg) { m.Answer = []dns.RR{rr(t, "example. 5 A 192.0.2.1")} }, withEDNS(512, false))
	got := unpack(t, wire.AppendStale(nil, q, r, 30, wire.EDE{Code: wire.EDEStale, Set: true}, 512))
	if got.Answer[0].Header().Ttl != 30 || got.IsEdns0().Option[0].(*dns.EDNS0_EDE).InfoCode != dns.ExtendedErrorCodeStaleAnswer {
		t.Errorf("got %v", got)
	}
}

// An RCODE beyond 15 needs an OPT record (RFC 6891, section 6.1.3).
func TestExtendedRCodeWithoutEDNS(t *testing.T) {
	_, r := respond(t, "example.", dns.TypeA, func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		m.Rcode = dns.RcodeBadCookie
	})
	if got := unpack(t, wire.AppendAnswer(nil, parse(t, question(t, "example.", dns.TypeA)), r, 0, 512)); got.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %v", got)
	}
	if got := unpack(t, wire.AppendAnswer(nil, parse(t, question(t, "example.", dns.TypeA, withEDNS(512, false))), r, 0, 512)); got.Rcode != dns.RcodeBadCookie {
		t.Errorf("got %v", got)
	}
}

// RFC 2181, section 9, and RFC 8906, section 3.2.5: whole RRsets go; TC is set
// unless it was additional data alone; OPT stays.
func TestTruncation(t *testing.T) {
	text := func(name string, n int) (rrs []dns.RR) {
		for i := range n {
			rrs = append(rrs, rr(t, fmt.Sprintf("%s 60 TXT %q", name, strings.Repeat(string(rune('a'+i)), 100))))
		}
		return rrs
	}
	for _, tt := range []struct {
		name                   string
		answer, ns, extra      []dns.RR
		limit                  int
		wantAn, wantNs, wantAr int
		tc                     bool
	}{
		{"fits", text("example.", 3), nil, nil, 512, 3, 0, 0, false},
		{"an RRset goes whole", text("example.", 5), nil, nil, 512, 0, 0, 0, true},
		{"the first RRset stays", append([]dns.RR{rr(t, "example. 60 CNAME x.example.")}, text("x.example.", 5)...), nil, nil, 512, 1, 0, 0, true},
		{"additional data goes unnoticed", text("example.", 3), nil, text("extra.", 3), 512, 3, 0, 0, false},
		{"additional RRsets stay while they fit", text("example.", 1), nil, append(text("one.", 1), text("two.", 9)...), 512, 1, 0, 1, false},
		{"authority data is missed", text("example.", 3), text("ns.", 3), nil, 512, 3, 0, 0, true},
		{"TCP takes all", text("example.", 20), text("ns.", 20), text("ar.", 20), 65535, 20, 20, 20, false},
		{"1232 octets", text("example.", 10), text("ns.", 3), nil, 1232, 10, 0, 0, true},
	} {
		for _, edns := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, EDNS %v", tt.name, edns), func(t *testing.T) {
				asks := []func(*dns.Msg){}
				if edns {
					asks = append(asks, withEDNS(4096, true))
				}
				q, r := respond(t, "example.", dns.TypeTXT, func(m *dns.Msg) { m.Answer, m.Ns, m.Extra = tt.answer, tt.ns, tt.extra }, asks...)
				b := wire.AppendAnswer([]byte("kept"), q, r, 0, tt.limit)
				if string(b[:4]) != "kept" || len(b)-4 > tt.limit {
					t.Fatalf("%d octets, limit %d", len(b)-4, tt.limit)
				}
				got := unpack(t, b[4:])
				if (got.IsEdns0() != nil) != edns {
					t.Errorf("OPT: %v", got.IsEdns0())
				}
				ar := len(got.Extra)
				if edns {
					ar--
				}
				if len(got.Answer) != tt.wantAn || len(got.Ns) != tt.wantNs || ar != tt.wantAr || got.Truncated != tt.tc {
					t.Errorf("got %d, %d, %d records, TC %v; want %d, %d, %d, %v", len(got.Answer), len(got.Ns), ar, got.Truncated, tt.wantAn, tt.wantNs, tt.wantAr, tt.tc)
				}
			})
		}
	}
}

func TestAppendLocal(t *testing.T) {
	q := parse(t, question(t, "a.localhost.", dns.TypeA, withEDNS(1232, false)))
	answer := wire.Record{Type: dns.TypeA, TTL: 10, Data: []byte{127, 0, 0, 1}}
	authority := wire.Record{Owner: 2, Type: dns.TypeNS, TTL: 11, Data: []byte{0}}
	got := unpack(t, wire.AppendLocal(nil, q, wire.NoError, &answer, &authority, wire.EDE{Code: wire.EDESynthesized, Text: "here", Set: true}))
	if len(got.Answer) != 1 || got.Answer[0].String() != rr(t, "a.localhost. 10 A 127.0.0.1").String() {
		t.Errorf("answer: %v", got.Answer)
	}
	if len(got.Ns) != 1 || got.Ns[0].String() != rr(t, "localhost. 11 NS .").String() {
		t.Errorf("authority: %v", got.Ns)
	}
	if got.IsEdns0().Option[0].(*dns.EDNS0_EDE).InfoCode != 29 {
		t.Errorf("OPT: %v", got.IsEdns0())
	}
}

// The way of a hit allocates nothing.
func TestHitAllocatesNothing(t *testing.T) {
	raw := question(t, "www.example.", dns.TypeA, withEDNS(1232, true))
	q, r := respond(t, "www.example.", dns.TypeA, func(m *dns.Msg) { m.Answer = []dns.RR{rr(t, "www.example. 60 A 192.0.2.1")} })
	dst, key := make([]byte, 0, 512), make([]byte, 0, wire.MaxKey)
	if n := testing.AllocsPerRun(100, func() {
		q, _ = wire.ParseQuery(raw)
		key = q.AppendKey(key[:0], 0)
		dst = wire.AppendAnswer(dst[:0], q, r, 1, 1232)
		dst = wire.AppendUpstream(dst[:0], q, 1, true)
		dst = wire.AppendError(dst[:0], q, wire.Refused, wire.EDE{Code: 18, Set: true})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHit(b *testing.B) {
	raw := question(b, "www.example.com.", dns.TypeA, withEDNS(1232, false))
	_, r := respond(b, "www.example.com.", dns.TypeA, func(m *dns.Msg) { m.Answer = []dns.RR{rr(b, "www.example.com. 60 A 192.0.2.1")} })
	dst, key := make([]byte, 0, 512), make([]byte, 0, wire.MaxKey)
	b.Run("ParseQuery", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			wire.ParseQuery(raw)
		}
	})
	q := parse(b, raw)
	b.Run("AppendKey", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			key = q.AppendKey(key[:0], 0)
		}
	})
	b.Run("AppendAnswer", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			dst = wire.AppendAnswer(dst[:0], q, r, 1, 1232)
		}
	})
}

func BenchmarkMiss(b *testing.B) {
	q, msg := exchange(b, "www.example.com.", dns.TypeA, true, func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		m.Answer = []dns.RR{rr(b, "www.example.com. 60 A 192.0.2.1")}
	})
	dst := make([]byte, 0, 512)
	b.Run("AppendUpstream", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			dst = wire.AppendUpstream(dst[:0], q, 1, false)
		}
	})
	b.Run("ParseResponse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := wire.ParseResponse(msg, q); err != nil {
				b.Fatal(err)
			}
		}
	})
}
