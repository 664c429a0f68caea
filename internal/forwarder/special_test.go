package forwarder_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/cache"
	"dnsproxy/internal/forwarder"
	"dnsproxy/internal/wire"
)

func TestSpecialNamesAreAnsweredHere(t *testing.T) {
	up := &upstream{answer: records(t, 0)}
	a := newAsker(t, settings(up))
	for _, tt := range []struct {
		name  string
		qtype uint16
		rcode int
		want  string // the answer's RDATA; "": a SOA in the authority section
	}{
		{"localhost.", dns.TypeA, 0, "127.0.0.1"},
		{"a.b.LocalHost.", dns.TypeAAAA, 0, "::1"},
		{"localhost.", dns.TypeMX, 0, ""},
		{"invalid.", dns.TypeA, dns.RcodeNameError, ""},
		{"www.invalid.", dns.TypeA, dns.RcodeNameError, ""},
		{"x.onion.", dns.TypeA, dns.RcodeNameError, ""},
		{"x.alt.", dns.TypeA, dns.RcodeNameError, ""},
		{"printer.local.", dns.TypeA, dns.RcodeNameError, ""},
		{"use-application-dns.net.", dns.TypeA, dns.RcodeNameError, ""},
		{"_dns.resolver.arpa.", dns.TypeSVCB, 0, ""},
		{"home.arpa.", dns.TypeNS, 0, "home.arpa."},
		{"home.arpa.", dns.TypeA, 0, ""},
		{"nas.home.arpa.", dns.TypeA, dns.RcodeNameError, ""},
		{"10.in-addr.arpa.", dns.TypeSOA, 0, "10.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 10800"},
		{"1.0.0.10.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"1.1.168.192.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"1.1.31.172.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"1.1.127.100.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"1." + strings.Repeat("0.", 31) + "ip6.arpa.", dns.TypePTR, 0, ""},
		{"1.d.f.ip6.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"1.8.e.f.ip6.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
	} {
		r, known := a.ask(question(tt.name, tt.qtype))
		if !known || r.Rcode != tt.rcode || r.Authoritative || !r.RecursionAvailable {
			t.Errorf("%s: %v", tt.name, r)
		}
		switch {
		case tt.want == "" && (len(r.Answer) != 0 || len(r.Ns) != 1 || r.Ns[0].Header().Rrtype != dns.TypeSOA):
			t.Errorf("%s: want a SOA, got %v", tt.name, r)
		case tt.want != "" && (len(r.Answer) != 1 || !strings.HasSuffix(r.Answer[0].String(), "\t"+tt.want) || r.Answer[0].Header().Name != tt.name):
			t.Errorf("%s: want %s, got %v", tt.name, tt.want, r)
		}
		expectEDE(t, r, 29) // Synthesized
	}
	if got := up.asked.Load(); got != 0 {
		t.Errorf("upstream asked %d times", got)
	}
}

func TestNamesThatOnlyLookSpecialGoUpstream(t *testing.T) {
	for _, tt := range []struct {
		name  string
		qtype uint16
		edit  func(*dns.Msg)
	}{
		{"home.arpa.", dns.TypeDS, nil}, // RFC 8375, section 4: the right answer is the parent's
		{"1.1.1.1.in-addr.arpa.", dns.TypePTR, nil},
		{"1.32.172.in-addr.arpa.", dns.TypePTR, nil},
		{"www.example.net.", dns.TypeA, nil},
		{"notlocalhost.", dns.TypeA, nil},
		{"localhost.example.", dns.TypeA, nil},
		{"test.", dns.TypeA, nil},
		{"arpa.", dns.TypeA, nil},
		{".", dns.TypeNS, nil},
		{"localhost.", dns.TypeA, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }},
	} {
		up := &upstream{answer: records(t, 0)}
		a := newAsker(t, settings(up))
		if tt.edit == nil {
			tt.edit = func(*dns.Msg) {}
		}
		a.ask(question(tt.name, tt.qtype, tt.edit))
		if up.asked.Load() != 1 {
			t.Errorf("%s: answered here", tt.name)
		}
	}
}

func TestSpecialNamesCanBeTurnedOff(t *testing.T) {
	up := &upstream{answer: records(t, 0)}
	s := settings(up)
	s.SpecialNames = false
	a := newAsker(t, s)
	a.ask(question("localhost.", dns.TypeA))
	if up.asked.Load() != 1 {
		t.Error("answered here")
	}
}

func TestLongestRouteWins(t *testing.T) {
	ups := map[string]*upstream{}
	s := settings(nil)
	s.Routes = nil
	for i, domain := range []string{"", "example", "corp.example", "168.192.in-addr.arpa", "1.10.in-addr.arpa"} {
		ups[domain] = &upstream{answer: records(t, 0)}
		s.Routes = append(s.Routes, forwarder.Route{Domain: domain, Scope: uint32(i), Exchanger: ups[domain]})
	}
	a := newAsker(t, s)
	for name, want := range map[string]string{
		"www.example.com.": "", "Example.": "example", "www.example.": "example", "xcorp.example.": "example",
		"CORP.example.": "corp.example", "a.b.corp.example.": "corp.example",
		"1.1.168.192.in-addr.arpa.": "168.192.in-addr.arpa", // a route stands above the special name
		"1.1.1.10.in-addr.arpa.":    "1.10.in-addr.arpa",
		"1.1.2.10.in-addr.arpa.":    "none", // but only for what is under it
	} {
		for _, u := range ups {
			u.asked.Store(0)
		}
		a.ask(question(name, dns.TypePTR))
		for domain, u := range ups {
			if asked := u.asked.Load() == 1; asked != (domain == want) {
				t.Errorf("%s: route %q asked: %v", name, domain, asked)
			}
		}
	}
}

// Answers of one set of upstreams are not given to those who are routed to another.
func TestScopesSeparateEntries(t *testing.T) {
	before, after := positive(t), positive(t)
	s := settings(before)
	a := newAsker(t, s)
	a.ask(question("www.example.", dns.TypeA))
	s.Routes = append(s.Routes, forwarder.Route{Domain: "example", Scope: 1, Exchanger: after})
	a.Apply(s)
	if _, known := a.ask(question("www.example.", dns.TypeA)); known || after.asked.Load() != 1 {
		t.Error("answered from the entry of another route")
	}
}

// RFC 8906 has RD copied; a forwarder that is not to recurse has only what it knows.
func TestWithoutRDOnlyWhatIsKnown(t *testing.T) {
	up := positive(t)
	a := newAsker(t, settings(up))
	norec := func(m *dns.Msg) { m.RecursionDesired = false }
	r, _ := a.ask(question("www.example.", dns.TypeA, norec))
	if r.Rcode != dns.RcodeRefused || r.RecursionDesired || up.asked.Load() != 0 {
		t.Errorf("got %v", r)
	}
	expectEDE(t, r, dns.ExtendedErrorCodeNotAuthoritative)
	a.ask(question("www.example.", dns.TypeA))
	if r, _ := a.ask(question("www.example.", dns.TypeA, norec)); len(r.Answer) != 1 {
		t.Errorf("got %v", r)
	}
}

func known(t testing.TB, f *forwarder.Forwarder, name string) wire.Query {
	t.Helper()
	raw, err := question(name, dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	q, err := wire.ParseQuery(raw)
	if err != nil {
		t.Fatal(err)
	}
	f.AppendAnswer(t.Context(), nil, q, 1232)
	return q
}

// The way of a hit allocates nothing, with routes or without; nor does a local answer.
func TestAppendCachedAllocatesNothing(t *testing.T) {
	up := positive(t)
	s := settings(up)
	s.Routes = append(s.Routes, forwarder.Route{Domain: "corp.example", Scope: 1, Exchanger: up})
	f := forwarder.New(cache.New(1<<20), s, slog.New(slog.DiscardHandler))
	defer f.Close()
	dst := make([]byte, 0, 1232)
	now := time.Now()
	for _, name := range []string{"www.example.", "localhost.", "1.1.168.192.in-addr.arpa."} {
		q := known(t, f, name)
		if n := testing.AllocsPerRun(100, func() {
			if _, ok := f.AppendCached(dst, q, 1232, now); !ok {
				t.Fatal("not known")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkAppendCached(b *testing.B) {
	up := &upstream{answer: func(q *dns.Msg) (*dns.Msg, error) {
		m := new(dns.Msg).SetReply(q)
		r, err := dns.NewRR("www.example.com. 86400 A 192.0.2.1")
		m.Answer = []dns.RR{r}
		return m, err
	}}
	f := forwarder.New(cache.New(1<<20), settings(up), slog.New(slog.DiscardHandler))
	defer f.Close()
	dst := make([]byte, 0, 1232)
	q := known(b, f, "www.example.com.")
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		f.AppendCached(dst, q, 1232, now)
	}
}
