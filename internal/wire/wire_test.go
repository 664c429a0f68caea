package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"dnsproxy/internal/wire"
)

// pack is the message in wire form.
func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// question is a query in wire form, changed by edit.
func question(t testing.TB, name string, qtype uint16, edit ...func(*dns.Msg)) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Id = 0x1234
	for _, e := range edit {
		e(m)
	}
	return pack(t, m)
}

func withEDNS(size uint16, do bool) func(*dns.Msg) {
	return func(m *dns.Msg) { m.SetEdns0(size, do) }
}

func parse(t testing.TB, msg []byte) wire.Query {
	t.Helper()
	q, err := wire.ParseQuery(msg)
	if err != nil {
		t.Fatalf("ParseQuery: %v", err)
	}
	return q
}

func unpack(t testing.TB, b []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("miekg/dns refuses %x: %v", b, err)
	}
	return m
}

func rr(t testing.TB, s string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseQueryGivesWhatTheClientSet(t *testing.T) {
	q := parse(t, question(t, "wWw.Example.", dns.TypeAAAA, withEDNS(4096, true), func(m *dns.Msg) {
		m.CheckingDisabled = true
		m.AuthenticatedData = true
	}))
	got := fmt.Sprint(q.ID(), q.QType(), q.QClass(), q.RD(), q.CD(), q.AD(), q.DO(), q.HasEDNS(), q.UDPSize())
	want := fmt.Sprint(0x1234, dns.TypeAAAA, dns.ClassINET, true, true, true, true, true, 4096)
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if want := "\x03wWw\x07Example\x00"; string(q.QName()) != want {
		t.Errorf("QName: got %q, want %q", q.QName(), want)
	}
}

// RFC 6891, section 6.2.3: values lower than 512 are treated as 512; so is no OPT at all (RFC 1035).
func TestUDPSizeIsAtLeast512(t *testing.T) {
	for _, tt := range []struct {
		edit []func(*dns.Msg)
		want int
	}{
		{nil, 512},
		{[]func(*dns.Msg){withEDNS(0, false)}, 512},
		{[]func(*dns.Msg){withEDNS(100, false)}, 512},
		{[]func(*dns.Msg){withEDNS(1232, false)}, 1232},
		{[]func(*dns.Msg){withEDNS(65535, false)}, 65535},
	} {
		if got := parse(t, question(t, "example.", dns.TypeA, tt.edit...)).UDPSize(); got != tt.want {
			t.Errorf("got %d, want %d", got, tt.want)
		}
	}
}

func TestParseQueryRefuses(t *testing.T) {
	plain := question(t, "example.", dns.TypeA)
	edited := func(edit func(b []byte)) []byte {
		b := bytes.Clone(plain)
		edit(b)
		return b
	}
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	for _, tt := range []struct {
		name string
		msg  []byte
		want error
	}{
		{"eleven octets", plain[:11], wire.ErrIgnore},
		{"a response", edited(func(b []byte) { b[2] |= 0x80 }), wire.ErrIgnore},
		{"a response with an opcode", edited(func(b []byte) { b[2] |= 0xa8 }), wire.ErrIgnore},
		{"no question (RFC 9619)", edited(func(b []byte) { b[5] = 0 }), wire.FormErr},
		{"two questions (RFC 9619)", question(t, "example.", dns.TypeA, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), wire.FormErr},
		{"a question cut short", plain[:len(plain)-1], wire.FormErr},
		{"a name without end", plain[:18], wire.FormErr},
		{"a pointer in the question", edited(func(b []byte) { b[12], b[13] = 0xc0, 12 }), wire.FormErr},
		{"a label of 64 octets", append(append(bytes.Clone(plain[:12]), 64), make([]byte, 80)...), wire.FormErr},
		{"a name of 256 octets", append(append(bytes.Clone(plain[:12]), bytes.Repeat([]byte{1, 'a'}, 128)...), 0, 0, 1, 0, 1), wire.FormErr},
		{"a record in the answer section", edited(func(b []byte) { b[7] = 1 }), wire.FormErr},
		{"two OPT records", question(t, "example.", dns.TypeA, func(m *dns.Msg) { m.Extra = []dns.RR{opt, opt} }), wire.FormErr},
		{"an OPT record below the root", question(t, "example.", dns.TypeA, func(m *dns.Msg) {
			m.Extra = []dns.RR{&dns.OPT{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeOPT}}}
		}), wire.FormErr},
		{"an option longer than its record", append(edited(func(b []byte) { b[11] = 1 }), 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 10, 0, 9), wire.FormErr},
		{"an OPT record cut short", append(edited(func(b []byte) { b[11] = 1 }), 0, 0, 41, 4, 208, 0, 0), wire.FormErr},
		{"keepalive with a timeout (RFC 7828)", question(t, "example.", dns.TypeA, func(m *dns.Msg) {
			o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
			o.Option = append(o.Option, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE, Timeout: 5})
			m.Extra = []dns.RR{o}
		}), wire.FormErr},
		{"EDNS version 1", question(t, "example.", dns.TypeA, func(m *dns.Msg) {
			m.SetEdns0(1232, false)
			m.IsEdns0().SetVersion(1)
		}), wire.BadVers},
		{"NOTIFY", edited(func(b []byte) { b[2] = dns.OpcodeNotify << 3 }), wire.NotImp},
		{"UPDATE", edited(func(b []byte) { b[2] = dns.OpcodeUpdate << 3 }), wire.NotImp},
		{"opcode 15, header only", edited(func(b []byte) { b[2], b[5] = 15<<3, 0 })[:12], wire.NotImp},
		{"TSIG", question(t, "example.", dns.TypeA, func(m *dns.Msg) { m.SetTsig("key.", dns.HmacSHA256, 300, 0) }), wire.NotImp},
		{"AXFR", question(t, "example.", dns.TypeAXFR), wire.Refused},
		{"IXFR", question(t, "example.", dns.TypeIXFR, func(m *dns.Msg) { m.Ns = []dns.RR{rr(t, "example. 60 SOA a. b. 1 2 3 4 5")} }), wire.Refused},
		{"MAILA", question(t, "example.", dns.TypeMAILA), wire.Refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := wire.ParseQuery(tt.msg); err != tt.want {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestParseQueryTakesUnknownTypesAndClasses(t *testing.T) {
	for _, qtype := range []uint16{0, 65, 255, 65280, 65535} {
		parse(t, question(t, "example.", qtype))
	}
	parse(t, question(t, "version.bind.", dns.TypeTXT, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }))
}

// RFC 6891, section 7: OPT in the answer if and only if OPT in the query; RFC 8906, section 3.1.4.
func TestAppendErrorEchoesTheQuery(t *testing.T) {
	for _, tt := range []struct {
		name     string
		msg      []byte
		want     wire.RCode
		question bool
		opt      bool
	}{
		{"refused, with EDNS", question(t, "ExAmple.", dns.TypeAXFR, withEDNS(1232, true)), wire.Refused, true, true},
		{"refused, plain", question(t, "ExAmple.", dns.TypeAXFR), wire.Refused, true, false},
		{"another opcode has no question", question(t, "a.", dns.TypeSOA, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), wire.NotImp, false, false},
		{"another opcode, with EDNS", question(t, "a.", dns.TypeSOA, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify; m.SetEdns0(512, false) }), wire.NotImp, false, true},
		{"EDNS version 9", question(t, "a.", dns.TypeA, func(m *dns.Msg) { m.SetEdns0(512, false); m.IsEdns0().SetVersion(9) }), wire.BadVers, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, err := wire.ParseQuery(tt.msg)
			if err != tt.want {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			asked, got := unpack(t, tt.msg), unpack(t, wire.AppendError(nil, q, tt.want, wire.EDE{Code: 21, Text: "no", Set: true}))
			if got.Id != asked.Id || !got.Response || got.Opcode != asked.Opcode || got.RecursionDesired != asked.RecursionDesired || !got.RecursionAvailable || got.Authoritative {
				t.Errorf("header: %v", got.MsgHdr)
			}
			if got.Rcode != int(tt.want) {
				t.Errorf("RCODE: got %d, want %d", got.Rcode, tt.want)
			}
			if (len(got.Question) == 1) != tt.question || tt.question && got.Question[0] != asked.Question[0] {
				t.Errorf("question: %v", got.Question)
			}
			opt := got.IsEdns0()
			if (opt != nil) != tt.opt {
				t.Fatalf("OPT: %v", opt)
			}
			if tt.opt && (opt.Version() != 0 || len(opt.Option) != 1 || opt.Option[0].(*dns.EDNS0_EDE).InfoCode != 21) {
				t.Errorf("OPT: %v", opt)
			}
		})
	}
}

// RFC 8467, section 4.1: queries are padded to 128 octets, whatever the name;
// RFC 7830, section 3: with zero octets.
func TestAppendUpstreamPadsToBlocks(t *testing.T) {
	for n := 1; n < 250; n++ {
		name := ""
		for left := n; left > 0; left -= min(left, 60) {
			name += strings.Repeat("a", min(left, 60)) + "."
		}
		if len(name) > 253 {
			continue
		}
		for _, keepalive := range []bool{false, true} {
			q := parse(t, question(t, name, dns.TypeA))
			msg := wire.AppendUpstream(nil, q, 7, keepalive)
			if l := int(binary.BigEndian.Uint16(msg)); l != len(msg)-2 || l%128 != 0 {
				t.Fatalf("name of %d octets: length %d, prefix %d", n, len(msg)-2, l)
			}
			m := unpack(t, msg[2:])
			opts := m.IsEdns0().Option
			if _, last := opts[len(opts)-1].(*dns.EDNS0_PADDING); !last || len(opts) == 2 != keepalive {
				t.Fatalf("options: %v", opts)
			}
		}
	}
}

func TestAppendUpstreamCarriesWhatMatters(t *testing.T) {
	q := parse(t, question(t, "wWw.example.", dns.TypeMX, withEDNS(4096, true), func(m *dns.Msg) {
		m.CheckingDisabled = true
		o := m.IsEdns0()
		o.Option = append(o.Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{192, 0, 2, 0}},
			&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"})
	}))
	m := unpack(t, wire.AppendUpstream(nil, q, 0xbeef, true)[2:])
	if m.Id != 0xbeef || m.Response || !m.RecursionDesired || !m.AuthenticatedData || !m.CheckingDisabled {
		t.Errorf("header: %v", m.MsgHdr)
	}
	if m.Question[0] != (dns.Question{Name: "wWw.example.", Qtype: dns.TypeMX, Qclass: dns.ClassINET}) {
		t.Errorf("question: %v", m.Question[0])
	}
	opt := m.IsEdns0()
	if !opt.Do() || opt.Version() != 0 {
		t.Errorf("OPT: %v", opt)
	}
	for _, o := range opt.Option { // hop by hop: neither the client's subnet nor its cookie goes on
		if c := o.Option(); c != dns.EDNS0TCPKEEPALIVE && c != dns.EDNS0PADDING {
			t.Errorf("option %d is sent upstream", c)
		}
	}
}

func TestAppendKeyTellsApartWhatDiffers(t *testing.T) {
	key := func(name string, scope uint32, edit ...func(*dns.Msg)) string {
		return string(parse(t, question(t, name, dns.TypeA, edit...)).AppendKey(nil, scope))
	}
	base := key("www.example.", 0)
	if key("WWW.eXample.", 0, func(m *dns.Msg) { m.AuthenticatedData = true }, withEDNS(4096, false)) != base {
		t.Error("case, AD or the size of UDP payloads makes a difference")
	}
	for name, other := range map[string]string{
		"QNAME":  key("ww.example.", 0),
		"scope":  key("www.example.", 1),
		"CD":     key("www.example.", 0, func(m *dns.Msg) { m.CheckingDisabled = true }),
		"DO":     key("www.example.", 0, withEDNS(1232, true)),
		"QTYPE":  key("www.example.", 0, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA }),
		"QCLASS": key("www.example.", 0, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
	} {
		if other == base {
			t.Errorf("%s makes no difference", name)
		}
	}
	if got := wire.KeyName([]byte(base)); string(got) != "\x03www\x07example\x00" {
		t.Errorf("KeyName: %q", got)
	}
}

func TestErrorsHaveNames(t *testing.T) {
	var err error = wire.ServFail
	if err.Error() != "SERVFAIL" || errors.Is(err, wire.FormErr) {
		t.Error(err)
	}
}
