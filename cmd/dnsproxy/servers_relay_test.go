//go:build servers

package main_test

import (
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// question is a QNAME, QTYPE and QCLASS of the matrix.
type question struct {
	qname  string
	qtype  uint16
	qclass uint16
}

func (q question) String() string {
	return fmt.Sprintf("%s %s %s", q.qname, dns.Class(q.qclass), dns.Type(q.qtype))
}

// flags are what a client can set on a query (RD is always set, as by any stub resolver).
type flags struct{ ad, cd, edns, do bool }

func (f flags) String() string {
	s := "+rd"
	for _, flag := range []struct {
		set  bool
		name string
	}{{f.ad, "+ad"}, {f.cd, "+cd"}, {f.edns, "+edns"}, {f.do, "+do"}} {
		if flag.set {
			s += flag.name
		}
	}
	return s
}

// clientUDPSize is what the clients' OPT announces; more than the daemon's own bound.
const clientUDPSize = 4096

// message makes the query.
func (f flags) message(q question) *dns.Msg {
	m := new(dns.Msg)
	m.Id = dns.Id()
	m.RecursionDesired, m.AuthenticatedData, m.CheckingDisabled = true, f.ad, f.cd
	m.Question = []dns.Question{{Name: q.qname, Qtype: q.qtype, Qclass: q.qclass}}
	if f.edns {
		m.SetEdns0(clientUDPSize, f.do)
	}
	return m
}

// allFlags is with and without AD, CD, EDNS and DO.
func allFlags() []flags {
	var all []flags
	for i := range 16 {
		f := flags{ad: i&1 != 0, cd: i&2 != 0, edns: i&4 != 0, do: i&8 != 0}
		if f.edns || !f.do {
			all = append(all, f)
		}
	}
	return all
}

// questions is every name and type of the rig.
func questions() []question {
	var qs []question
	in := func(qname string, types ...uint16) {
		for _, qtype := range types {
			qs = append(qs, question{qname, qtype, dns.ClassINET})
		}
	}
	for _, rrtype := range publishedTypes() {
		in(typeOwner(rrtype), rrtype)
	}
	in("types.rig.", dns.TypeSOA, dns.TypeNS, dns.TypeA)
	in(".", dns.TypeNS, dns.TypeSOA, dns.TypeA)
	for _, label := range []string{"a", "many", "chain1", "chain4", "chain5", "dangling", "nowhere", "x.y.wild", "b.wildcname",
		"empty", "ent.empty", "zero", "mail", "medium", "big", "x.below", "below", "www.child", "nothere.child"} {
		in(label+".plain.rig.", dns.TypeA)
	}
	in("a.plain.rig.", dns.TypeAAAA, dns.TypeMX, dns.TypeANY, 65281)
	in("chain1.plain.rig.", dns.TypeCNAME, dns.TypeTXT)
	in("x.wild.plain.rig.", dns.TypeTXT, dns.TypeMX)
	in("unknown.plain.rig.", 65280, dns.TypeA)
	in("mail.plain.rig.", dns.TypeMX)
	in("_dns._tcp.plain.rig.", dns.TypeSRV)
	in("alias.plain.rig.", dns.TypeHTTPS)
	in("big.plain.rig.", dns.TypeTXT)
	in("child.plain.rig.", dns.TypeNS, dns.TypeDS)
	in("MiXeD.pLaIn.RiG.", dns.TypeTXT, dns.TypeA)
	in("A.PLAIN.rig.", dns.TypeA)
	in(`\000odd\.\"\032\255.plain.rig.`, dns.TypeTXT)
	in(strings.Repeat("l", 63)+".plain.rig.", dns.TypeTXT)
	in(longName(), dns.TypeTXT)
	for _, zone := range []string{"signed.rig.", "nsec3.rig.", "bogus.rig."} {
		for _, label := range []string{"a.", "chain.", "out.", "x.wild.", "nowhere.", "zero.", "x.unsigned."} {
			in(label+zone, dns.TypeA)
		}
		in("a."+zone, dns.TypeAAAA, dns.TypeMX, dns.TypeRRSIG)
		in("b."+zone, dns.TypeTXT)
		in("mail."+zone, dns.TypeMX)
		in("unknown."+zone, 65280)
		in("unsigned."+zone, dns.TypeNS, dns.TypeDS)
		in(zone, dns.TypeDNSKEY, dns.TypeSOA, dns.TypeNSEC3PARAM, dns.TypeNSEC)
	}
	in("nosuch.", dns.TypeA)
	for _, qname := range []string{"version.bind.", "id.server.", "a.plain.rig."} {
		qs = append(qs, question{qname, dns.TypeTXT, dns.ClassCHAOS})
	}
	return append(qs, question{"a.plain.rig.", dns.TypeA, dns.ClassHESIOD})
}

// testZones makes sure that the rig is what the other tests take it for.
func (r *rig) testZones(t *testing.T) {
	if rrs := len(publishedTypes()) + len(unpublishable); rrs != len(dns.TypeToRR) {
		t.Errorf("types.rig. has %d types and %d have a reason not to be in it; miekg/dns knows %d",
			len(publishedTypes()), len(unpublishable), len(dns.TypeToRR))
	}
	for _, up := range r.upstreams {
		a := newAsker("tcp", up.plain)
		ask := func(f flags, qname string, qtype uint16) *dns.Msg {
			t.Helper()
			m, _, err := a.ask(f.message(question{qname, qtype, dns.ClassINET}))
			if err != nil {
				t.Fatalf("%s: asking for %s: %v", up.name, qname, err)
			}
			return m
		}
		if m := ask(flags{}, "big.plain.rig.", dns.TypeTXT); m.Len() < 4096 {
			t.Errorf("%s: the big answer has %d octets", up.name, m.Len())
		}
		if m := ask(flags{}, "unknown.plain.rig.", 65280); len(m.Answer) != 1 {
			t.Errorf("%s: no TYPE65280:\n%v", up.name, m)
		}
		www := ask(flags{}, "www.child.plain.rig.", dns.TypeA)
		if up.recurses && len(www.Answer) != 1 {
			t.Errorf("%s: the delegation is not followed:\n%v", up.name, www)
		}
		if !up.recurses && (len(www.Ns) != 13 || len(www.Extra) < 13) {
			t.Errorf("%s: not a referral with glue:\n%v", up.name, www)
		}
		secure := ask(flags{edns: true, do: true}, "a.signed.rig.", dns.TypeA)
		if up.recurses && !secure.AuthenticatedData {
			t.Errorf("%s: signed.rig. is not validated:\n%v", up.name, secure)
		}
		bogus := ask(flags{edns: true}, "a.bogus.rig.", dns.TypeA)
		if up.recurses && bogus.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s: bogus.rig. is believed:\n%v", up.name, bogus)
		}
		a.close()
	}
}

// pass is one way to walk the matrix: the first transport finds the cache cold, the second warm.
type pass struct {
	name       string
	cacheSize  string
	transports []string
}

// testRelay compares what a client gets through the daemon with what it gets
// from the upstream itself, for the whole matrix.
func (r *rig) testRelay(t *testing.T, up upstreamServer) {
	qs := questions()
	references := r.references(t, up, qs)
	t.Run("premise", func(t *testing.T) { compareAll(t, up, up.dot, "tls", qs, references) })
	for _, p := range []pass{
		{"cold over UDP, cached over TCP", "32MiB", []string{"udp", "tcp"}},
		{"cold over TCP, cached over UDP", "32MiB", []string{"tcp", "udp"}},
		{"without a cache", "0", []string{"udp", "tcp"}},
	} {
		t.Run(p.name, func(t *testing.T) {
			d := r.startDaemon(t, fmt.Sprintf("[cache]\nsize = %q\n", p.cacheSize)+upstreamTable(up.name, up.dot, r.ca.file))
			for _, transport := range p.transports {
				compareAll(t, up, d.listen, transport, qs, references)
			}
		})
	}
	t.Run("dig", func(t *testing.T) { r.testDig(t, up) })
}

// reference is what the upstream itself says over TCP.
type reference struct {
	msg    *dns.Msg
	octets int
}

type matrixKey struct {
	question
	flags
}

// references asks the upstream itself. Each query is asked twice: a resolver
// may answer from its own cache in another form than when it has just recursed.
func (r *rig) references(t *testing.T, up upstreamServer, qs []question) map[matrixKey]reference {
	t.Helper()
	var mu sync.Mutex
	refs := map[matrixKey]reference{}
	for range 2 {
		walk(t, "tcp", up.plain, qs, func(key matrixKey, m *dns.Msg, octets int) {
			mu.Lock()
			defer mu.Unlock()
			if up.fickleEDE && m.Rcode == dns.RcodeServerFailure {
				dropOptions(m, dns.EDNS0EDE)
			}
			refs[key] = reference{m, octets}
		})
	}
	return refs
}

// compareAll walks the matrix at addr and compares it with what up itself said.
func compareAll(t *testing.T, up upstreamServer, addr, transport string, qs []question, refs map[matrixKey]reference) {
	t.Helper()
	var different, truncated atomic.Int64
	walk(t, transport, addr, qs, func(key matrixKey, m *dns.Msg, octets int) {
		if m.Truncated {
			truncated.Add(1)
		}
		if up.fickleEDE && m.Rcode == dns.RcodeServerFailure {
			dropOptions(m, dns.EDNS0EDE)
		}
		fault := compare(key, transport, m, octets, refs[key])
		if fault != "" && different.Add(1) <= 10 {
			t.Errorf("%v %v over %s: %s", key.question, key.flags, transport, fault)
		}
	})
	t.Logf("%d answers over %s compared, %d of them truncated, %d different", len(refs), transport, truncated.Load(), different.Load())
	if transport == "tcp" && truncated.Load() > 0 {
		t.Errorf("%d answers over TCP have TC set", truncated.Load())
	}
}

// compare says how an answer through the daemon differs from the upstream's
// own, or nothing. Over UDP an answer may be cut short where it does not fit.
func compare(key matrixKey, transport string, m *dns.Msg, octets int, ref reference) string {
	limit := dns.MaxMsgSize
	if transport == "udp" {
		limit = dns.MinMsgSize
		if key.edns {
			limit = 1232 // the daemon's bound (limits.udp_payload), below what the clients announce
		}
	}
	if octets > limit {
		return fmt.Sprintf("%d octets, more than %d", octets, limit)
	}
	fits := ref.octets+11 <= limit // 11: an OPT record, which may be ours alone
	want := asRelayed(ref.msg, m)
	switch {
	case m.Truncated && fits:
		return fmt.Sprintf("truncated, though the upstream's %d octets fit into %d", ref.octets, limit)
	case m.Truncated && transport == "udp":
		if got := strings.Replace(head(m), " tc", "", 1); got != head(want) {
			return "got  " + got + "\nwant " + head(want)
		}
		return ""
	case !fits && len(m.Extra) < len(want.Extra):
		// Additional records may be left out without TC (RFC 2181, section 9).
		want.Extra = want.Extra[:len(m.Extra)]
	}
	gotLines, wantLines := render(m), render(want)
	for i := range max(len(gotLines), len(wantLines)) {
		if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
			return fmt.Sprintf("line %d differs\ngot:\n%v\nwant:\n%v", i, m, want)
		}
	}
	return compareTTLs(m, want)
}

// asRelayed is the upstream's answer as a client should see it through the
// daemon. Padding is for one hop. A SERVFAIL from the daemon's cache may say so,
// with EDE 13 (RFC 8914, section 4.14). An answer without a question, as nsd's to
// a class that it does not know, gets the query's.
func asRelayed(ref, got *dns.Msg) *dns.Msg {
	dropOptions(got, dns.EDNS0PADDING)
	if got.Rcode == dns.RcodeServerFailure {
		dropEDE(got, dns.ExtendedErrorCodeCachedError)
	}
	want := ref.Copy()
	dropOptions(want, dns.EDNS0PADDING)
	if want.Rcode == dns.RcodeServerFailure {
		dropEDE(want, dns.ExtendedErrorCodeCachedError)
	}
	if len(want.Question) == 0 {
		want.Question = got.Question
	}
	// The OPT record goes first, so that what is left out stands last.
	for _, m := range []*dns.Msg{got, want} {
		slices.SortStableFunc(m.Extra, func(a, b dns.RR) int { return isOPT(b) - isOPT(a) })
	}
	return want
}

func isOPT(rr dns.RR) int {
	if rr.Header().Rrtype == dns.TypeOPT {
		return 1
	}
	return 0
}

// compareTTLs wants every TTL near the reference's, which was made less than a
// minute before or, where the upstream has refreshed its own cache, a little later. No TTL of 0 may grow.
func compareTTLs(got, want *dns.Msg) string {
	const slack = 60
	wantRRs := slices.Concat(want.Answer, want.Ns, want.Extra)
	for i, rr := range slices.Concat(got.Answer, got.Ns, got.Extra) {
		h, w := rr.Header(), wantRRs[i].Header()
		if h.Rrtype == dns.TypeOPT {
			continue
		}
		if h.Ttl > w.Ttl+slack || h.Ttl+slack < w.Ttl || w.Ttl == 0 && h.Ttl > 0 {
			return fmt.Sprintf("TTL %d where the upstream had %d: %v", h.Ttl, w.Ttl, rr)
		}
	}
	return ""
}

// head renders the header, the question and what of the OPT record is end to end.
func head(m *dns.Msg) string {
	h := fmt.Sprintf("%s %s", dns.OpcodeToString[m.Opcode], dns.RcodeToString[m.Rcode])
	for _, flag := range []struct {
		set  bool
		name string
	}{{m.Response, "qr"}, {m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"}, {m.RecursionAvailable, "ra"},
		{m.Zero, "z"}, {m.AuthenticatedData, "ad"}, {m.CheckingDisabled, "cd"}} {
		if flag.set {
			h += " " + flag.name
		}
	}
	h += fmt.Sprint(" ", m.Question)
	if opt := m.IsEdns0(); opt != nil {
		h += fmt.Sprintf(" edns %d do %t co %t", opt.Version(), opt.Do(), opt.Co())
		for _, option := range opt.Option {
			if option.Option() == dns.EDNS0EDE {
				h += " ede " + option.String()
			}
		}
	}
	return h
}

// dropOptions removes one kind of EDNS option.
func dropOptions(m *dns.Msg, code uint16) {
	if opt := m.IsEdns0(); opt != nil {
		opt.Option = slices.DeleteFunc(opt.Option, func(o dns.EDNS0) bool { return o.Option() == code })
	}
}

// dropEDE removes the EDE options with one info code.
func dropEDE(m *dns.Msg, code uint16) {
	if opt := m.IsEdns0(); opt != nil {
		opt.Option = slices.DeleteFunc(opt.Option, func(o dns.EDNS0) bool {
			ede, ok := o.(*dns.EDNS0_EDE)
			return ok && ede.InfoCode == code
		})
	}
}

// render renders a message without its ID, its TTLs and what EDNS has for one hop.
func render(m *dns.Msg) []string {
	lines := []string{head(m)}
	buf := make([]byte, dns.MaxMsgSize)
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		lines = append(lines, "--")
		for _, rr := range section {
			if rr.Header().Rrtype == dns.TypeOPT {
				continue
			}
			rr = dns.Copy(rr)
			rr.Header().Ttl = 0
			end, err := dns.PackRR(rr, buf, 0, nil, false)
			if err != nil {
				lines = append(lines, err.Error())
				continue
			}
			lines = append(lines, hex.EncodeToString(buf[:end]))
		}
	}
	return lines
}

// walk asks the whole matrix of one server, a few queries at a time.
func walk(t *testing.T, transport, addr string, qs []question, each func(matrixKey, *dns.Msg, int)) {
	t.Helper()
	const askers = 8
	work := make(chan question)
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			a := newAsker(transport, addr)
			defer a.close()
			for q := range work {
				for _, f := range allFlags() {
					m, octets, err := a.ask(f.message(q))
					if err != nil {
						t.Errorf("asking %s for %v %v over %s: %v", addr, q, f, transport, err)
						continue
					}
					each(matrixKey{q, f}, m, octets)
				}
			}
		})
	}
	for _, q := range qs {
		work <- q
	}
	close(work)
	wg.Wait()
}

// asker asks one query at a time over a connection that it keeps.
type asker struct {
	transport, addr string
	conn            net.Conn
	buf             [dns.MaxMsgSize]byte
}

func newAsker(transport, addr string) *asker { return &asker{transport: transport, addr: addr} }

func (a *asker) close() {
	if a.conn != nil {
		a.conn.Close()
		a.conn = nil
	}
}

// ask returns the answer and its size in octets. A server may have closed a
// connection that it found idle, so a kept one that fails is replaced once.
func (a *asker) ask(q *dns.Msg) (*dns.Msg, int, error) {
	kept := a.conn != nil
	m, octets, err := a.askOnce(q)
	if err != nil {
		a.close()
		if kept && a.transport != "udp" {
			m, octets, err = a.askOnce(q)
		}
	}
	return m, octets, err
}

func (a *asker) dial() (net.Conn, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	if a.transport == "tls" {
		return tls.DialWithDialer(dialer, "tcp", a.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"dot"}})
	}
	return dialer.Dial(a.transport, a.addr)
}

func (a *asker) askOnce(q *dns.Msg) (*dns.Msg, int, error) {
	if a.conn == nil {
		conn, err := a.dial()
		if err != nil {
			return nil, 0, err
		}
		a.conn = conn
	}
	if err := a.conn.SetDeadline(time.Now().Add(6 * time.Second)); err != nil {
		return nil, 0, err
	}
	packed, err := q.Pack()
	if err != nil {
		return nil, 0, err
	}
	conn := &dns.Conn{Conn: a.conn, UDPSize: dns.MaxMsgSize}
	if _, err := conn.Write(packed); err != nil {
		return nil, 0, err
	}
	n, err := conn.Read(a.buf[:])
	if err != nil {
		return nil, 0, err
	}
	m := new(dns.Msg)
	if err := m.Unpack(a.buf[:n]); err != nil {
		return nil, 0, fmt.Errorf("unpacking %x: %w", a.buf[:n], err)
	}
	if m.Id != q.Id {
		return nil, 0, fmt.Errorf("an answer with ID %d to a query with ID %d", m.Id, q.Id)
	}
	return m, n, nil
}
