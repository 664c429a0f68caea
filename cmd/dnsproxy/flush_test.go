package main_test

import (
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"dnsproxy/internal/dottest"
)

func TestFlush(t *testing.T) {
	up := dottest.New(t, dottest.WithHandler(func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		h := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 300}
		if h.Rrtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: h, A: net.IPv4(192, 0, 2, 1)}}
		} else {
			m.Answer = []dns.RR{&dns.TXT{Hdr: h, Txt: []string{"text"}}}
		}
		return m
	}))
	o := operate(t, toUpstream("test", up))
	fill := func() {
		for _, name := range []string{"example.", "www.example.", "a.www.example.", "notexample.", "WWW.Other."} {
			o.ask(name, dns.TypeA)
		}
		o.ask("www.example.", dns.TypeTXT)
	}
	for _, tt := range []struct{ line, want string }{
		{"flush", "6 entries forgotten\n"},
		{"flush .", "0 entries forgotten\n"},
		{"flush www.example", "2 entries forgotten\n"},
		{"flush other.", "0 entries forgotten\n"},
		{"flush www.OTHER.", "1 entry forgotten\n"},
		{"flush example --subtree", "4 entries forgotten\n"},
		{"flush --subtree .", "6 entries forgotten\n"},
		{"flush --json", "{\n  \"entries\": 6\n}\n"},
	} {
		fill()
		if got := o.types(tt.line); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.line, got, tt.want)
		}
		o.types("flush")
	}
	fill()
	before := up.Stats().Queries
	fill()
	if up.Stats().Queries != before {
		t.Error("the cache does not work any more")
	}
	if strings.Contains(strings.ToLower(o.stderr.String()), "example") {
		t.Error("the journal names what was flushed")
	}
}

func TestFlushOfWhatIsNoName(t *testing.T) {
	for _, args := range [][]string{{""}, {"a..b"}, {"mün.example"}, {strings.Repeat("a", 64)}, {"a b"}, {"--subtree"}, {"a", "b"}} {
		code, out, errs := types(t, append([]string{"flush"}, args...)...)
		if code != 2 || out != "" || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: exit code %d: %s%s", args, code, out, errs)
		}
	}
}
