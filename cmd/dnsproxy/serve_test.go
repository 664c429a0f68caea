package main_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"dnsproxy/internal/dottest"
)

// soonGivesUp begins the configuration of a test in which no upstream answers.
const soonGivesUp = "timeout = \"500ms\"\n"

func TestServesOwnSockets(t *testing.T) {
	up := dottest.New(t)
	v4, v6, option := freePort(t, "127.0.0.1"), freePort(t, "::1"), freePort(t, "127.0.0.1")
	for name, tt := range map[string]struct {
		options []string
		serving []string
	}{
		"of the configuration": {nil, []string{v4, v6}},
		"of --listen":          {[]string{"--listen=" + option}, []string{option}},
	} {
		t.Run(name, func(t *testing.T) {
			config := writeConfig(t, fmt.Sprintf("listen = [%q, %q]\n", v4, v6)+toUpstream("test", up))
			r := launch(t, program(t, append([]string{"serve", "--config=" + config}, tt.options...)...))
			r.stderr.await(t, "serving")
			for _, addr := range tt.serving {
				for _, network := range []string{"udp", "tcp"} {
					expectAddress(t, exchange(t, network, addr, queryFor("www.example.", dns.TypeA)), "192.0.2.1")
				}
			}
			r.terminate()
		})
	}
}

func TestServesPassedSockets(t *testing.T) {
	up := dottest.New(t)
	for _, host := range []string{"127.0.0.1", "::1"} {
		sockets := bindPair(t, host)
		s := serveOn(t, sockets, writeConfig(t, toUpstream("test", up)))
		for _, network := range []string{"udp", "tcp"} {
			expectAddress(t, exchange(t, network, s.addr, queryFor("www.example.", dns.TypeA)), "192.0.2.1")
		}
		s.terminate()
	}
}

// Systemd passes several sockets of one address if a unit lists it twice with ReusePort=
// (systemd.socket(5)); the kernel deals queries out among them (socket(7)).
func TestServesSeveralSocketsOfOneAddress(t *testing.T) {
	up := dottest.New(t)
	sockets := &socketPair{}
	reuse := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		controlErr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		if err == nil {
			err = controlErr
		}
		return err
	}}
	sockets.addr = "127.0.0.1:0"
	for range 3 {
		udp, err := reuse.ListenPacket(context.Background(), "udp", sockets.addr)
		if err != nil {
			t.Fatal(err)
		}
		sockets.addr = udp.LocalAddr().String()
		tcp, err := reuse.Listen(context.Background(), "tcp", sockets.addr)
		if err != nil {
			t.Fatal(err)
		}
		sockets.keep(t, udp.(*net.UDPConn))
		sockets.keep(t, tcp.(*net.TCPListener))
	}
	s := serveOn(t, sockets, writeConfig(t, toUpstream("test", up)))
	for i := range 64 { // from as many ports: that one socket gets none has a chance of 1 in 10^11
		network := []string{"udp", "tcp"}[i%2]
		expectAddress(t, exchange(t, network, s.addr, queryFor("www.example.", dns.TypeA)), "192.0.2.1")
	}
}

// RFC 5452, section 4.4: clients take answers from the address that they asked only.
func TestAnswersFromTheAddressAsked(t *testing.T) {
	up := dottest.New(t)
	for _, tt := range []struct{ bound, asked string }{{"0.0.0.0", "127.0.0.1"}, {"0.0.0.0", "127.0.0.2"}, {"::", "::1"}} {
		s := serveOn(t, bindPair(t, tt.bound), writeConfig(t, toUpstream("test", up)))
		_, port, err := net.SplitHostPort(s.addr)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // asked upstream, then cached
			expectAddress(t, exchange(t, "udp", net.JoinHostPort(tt.asked, port), queryFor("www.example.", dns.TypeA)), "192.0.2.1")
		}
	}
}

// RFC 7766, section 7: answers leave as they become ready.
func TestTCPAnswersOutOfOrder(t *testing.T) {
	up := dottest.New(t)
	release := make(chan struct{})
	up.Do(func(q *dottest.Query) {
		if strings.HasPrefix(q.Msg.Question[0].Name, "slow.") {
			go func() {
				<-release
				dottest.Answer(q)
			}()
			return
		}
		dottest.Answer(q)
	})
	s := serve(t, toUpstream("test", up))
	conn, err := dns.DialTimeout("tcp", s.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	slow, fast := queryFor("slow.example.", dns.TypeA), queryFor("fast.example.", dns.TypeA)
	var both []byte
	for _, q := range []*dns.Msg{slow, fast} {
		packed, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		both = append(append(both, byte(len(packed)>>8), byte(len(packed))), packed...)
	}
	if _, err := conn.Conn.Write(both); err != nil {
		t.Fatal(err)
	}
	for _, want := range []*dns.Msg{fast, slow} {
		m, err := conn.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		if m.Id != want.Id || m.Question[0] != want.Question[0] {
			t.Fatalf("want the answer to %v, got\n%v", want.Question, m)
		}
		if want == fast {
			close(release)
		}
	}
}

func TestTruncatesAtTheClientsSize(t *testing.T) {
	up := dottest.New(t, dottest.WithHandler(func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q).SetEdns0(1232, false)
		for i := range 30 {
			m.Answer = append(m.Answer, &dns.TXT{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 300},
				Txt: []string{fmt.Sprintf("%d %s", i, strings.Repeat("x", 100))},
			})
		}
		return m
	}))
	s := serve(t, "[limits]\nudp_payload = 4096\n"+toUpstream("test", up))
	for _, tt := range []struct {
		size      uint16 // 0: no EDNS
		limit     int    // RFC 6891, sections 6.2.3 and 6.2.5
		truncated bool
	}{{0, 512, true}, {100, 512, true}, {512, 512, true}, {1232, 1232, true}, {4096, 4096, false}} {
		q := new(dns.Msg).SetQuestion("large.example.", dns.TypeTXT)
		if tt.size > 0 {
			q.SetEdns0(tt.size, false)
		}
		m := exchange(t, "udp", s.addr, q)
		m.Compress = true
		if m.Truncated != tt.truncated || m.Len() > tt.limit || tt.truncated == (len(m.Answer) == 30) {
			t.Errorf("size %d: TC is %v with %d records in %d octets, want %v within %d", tt.size, m.Truncated, len(m.Answer), m.Len(), tt.truncated, tt.limit)
		}
		if m := exchange(t, "tcp", s.addr, q); m.Truncated || len(m.Answer) != 30 {
			t.Errorf("size %d over TCP: TC is %v with %d records, want all 30 (RFC 8906, section 3.2.7)", tt.size, m.Truncated, len(m.Answer))
		}
	}
}

func TestKeepsSpecialNamesFromUpstreams(t *testing.T) {
	up := dottest.New(t)
	s := serve(t, toUpstream("test", up))
	for _, tt := range []struct {
		name  string
		rcode int
	}{
		{"localhost.", dns.RcodeSuccess}, {"www.localhost.", dns.RcodeSuccess}, // RFC 6761, section 6.3
		{"www.invalid.", dns.RcodeNameError},                                                              // RFC 6761, section 6.4
		{"www.onion.", dns.RcodeNameError},                                                                // RFC 7686, section 2
		{"printer.local.", dns.RcodeNameError},                                                            // RFC 6762, section 22.1
		{"1.1.168.192.in-addr.arpa.", dns.RcodeNameError}, {"1.0.0.10.IN-ADDR.arpa.", dns.RcodeNameError}, // RFC 6303
		{"www.home.arpa.", dns.RcodeNameError},    // RFC 8375
		{"_dns.resolver.arpa.", dns.RcodeSuccess}, // RFC 9462, section 6.1
		{"use-application-dns.net.", dns.RcodeNameError},
	} {
		if m := s.ask(tt.name, dns.TypeA); m.Rcode != tt.rcode {
			t.Errorf("%s: got %s, want %s", tt.name, dns.RcodeToString[m.Rcode], dns.RcodeToString[tt.rcode])
		}
	}
	expectAddress(t, s.ask("localhost.", dns.TypeA), "127.0.0.1")
	if n := up.Stats().Queries; n != 0 {
		t.Errorf("%d queries reached the upstream", n)
	}
}

func TestRoutesByDomain(t *testing.T) {
	open, corp, lab := dottest.New(t), dottest.New(t), dottest.New(t)
	open.Do(answerWith("192.0.2.1"))
	corp.Do(answerWith("192.0.2.2"))
	lab.Do(answerWith("192.0.2.3"))
	s := serve(t, soonGivesUp+toUpstream("open", open)+toUpstream("corp", corp)+toUpstream("lab", lab)+`
[[route]]
domains   = ["corp.example", "16.172.in-addr.arpa"]
upstreams = ["corp"]

[[route]]
domains   = ["lab.corp.example"]
upstreams = ["lab"]
`)
	for name, want := range map[string]string{
		"example.":                    "192.0.2.1",
		"notcorp.example.":            "192.0.2.1",
		"corp.example.":               "192.0.2.2",
		"www.CORP.example.":           "192.0.2.2",
		"www.lab.corp.example.":       "192.0.2.3",
		"1.1.16.172.in-addr.arpa.":    "192.0.2.2", // a special name that has a route
		"corp.example.other.example.": "192.0.2.1",
	} {
		expectAddress(t, s.ask(name, dns.TypeA), want)
	}
	// A route's names go to no other upstream, even when its own cannot answer.
	corp.Stop()
	before := open.Stats().Queries + lab.Stats().Queries
	if m := s.ask("new.corp.example.", dns.TypeA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("want SERVFAIL, got\n%v", m)
	}
	if after := open.Stats().Queries + lab.Stats().Queries; after != before {
		t.Errorf("%d queries went to other upstreams", after-before)
	}
}

// answerWith answers with one A record.
func answerWith(addr string) dottest.Action {
	return dottest.Handle(func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q).SetEdns0(1232, false)
		m.RecursionAvailable = true
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: net.ParseIP(addr)}}
		return m
	})
}

// RFC 5452, section 5: identical queries share one upstream query.
func TestAsksUpstreamOnceForIdenticalQueries(t *testing.T) {
	const clients = 100
	up := dottest.New(t)
	asked, release := make(chan struct{}, clients), make(chan struct{})
	up.Do(func(q *dottest.Query) {
		asked <- struct{}{}
		go func() {
			<-release
			dottest.Answer(q)
		}()
	})
	// A hedge or a repetition would be a second query by design.
	s := serve(t, "[forward]\nhedge_budget = 0\n"+toUpstream("test", up))
	conns := make([]*dns.Conn, clients)
	for i := range conns {
		conn, err := dns.DialTimeout("udp", s.addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		conns[i] = conn
		if err := conn.WriteMsg(queryFor("same.example.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	<-asked
	expectAddress(t, s.ask("localhost.", dns.TypeA), "127.0.0.1") // behind the others in the socket: all were read
	close(release)
	for _, conn := range conns {
		m, err := conn.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		expectAddress(t, m, "192.0.2.1")
	}
	if n := up.Stats().Queries; n != 1 {
		t.Errorf("%d queries reached the upstream, want 1", n)
	}
}

// RFC 8767: what was known serves while no upstream answers, with a TTL of 30 and EDE 3
// (RFC 8914, section 4.4).
func TestServesStaleWhileTheUpstreamIsGone(t *testing.T) {
	up := dottest.New(t)
	s := serve(t, soonGivesUp+"[cache]\nmax_ttl = \"1s\"\n"+toUpstream("test", up))
	expectAddress(t, s.ask("www.example.", dns.TypeA), "192.0.2.1")
	up.Stop()
	deadline := time.Now().Add(patience)
	for {
		m := s.ask("www.example.", dns.TypeA)
		expectAddress(t, m, "192.0.2.1")
		if extendedError(m).InfoCode == dns.ExtendedErrorCodeStaleAnswer {
			if ttl := m.Answer[0].Header().Ttl; ttl != 30 {
				t.Errorf("the stale record's TTL is %d, want 30 (RFC 8767, section 4)", ttl)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the answer does not go stale")
		}
		time.Sleep(50 * time.Millisecond) // the daemon's clock is the machine's
	}
	if m := s.ask("unknown.example.", dns.TypeA); m.Rcode != dns.RcodeServerFailure || extendedError(m).InfoCode != dns.ExtendedErrorCodeNoReachableAuthority {
		t.Errorf("a name that is not cached: want SERVFAIL with EDE 22, got\n%v", m)
	}
	up.Start()
	for m := s.ask("later.example.", dns.TypeA); m.Rcode != dns.RcodeSuccess; m = s.ask("later.example.", dns.TypeA) {
		if time.Now().After(deadline) {
			t.Fatalf("the upstream is back, but\n%v", m)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// An upstream that does not authenticate gets no query. The client is told why, and the operator is told once.
func TestExplainsRefusedUpstream(t *testing.T) {
	up := dottest.New(t)
	wrong := dottest.NewCA(t).Pin()
	s := serve(t, soonGivesUp+upstreamAt("changed", up.Addr().String(), fmt.Sprintf("pins = [%q]", wrong)))
	var wg sync.WaitGroup
	for i := range 20 {
		q := queryFor(fmt.Sprintf("n%d.example.", i), dns.TypeA)
		wg.Go(func() {
			m, _, err := (&dns.Client{Timeout: patience}).Exchange(q, s.addr)
			if err != nil {
				t.Error(err)
				return
			}
			e := extendedError(m)
			if m.Rcode != dns.RcodeServerFailure || e.InfoCode != dns.ExtendedErrorCodeNoReachableAuthority || !strings.Contains(e.ExtraText, "changed") {
				t.Errorf("want SERVFAIL with EDE 22 that names the upstream, got\n%v", m)
			}
		})
	}
	wg.Wait()
	line := s.stderr.await(t, "upstream down")
	for _, want := range []string{"WARN", "changed", up.Addr().String(), "pin"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %q", want, line)
		}
	}
	if all := s.stderr.lines("upstream down"); len(all) != 1 {
		t.Errorf("told %d times:\n%s", len(all), strings.Join(all, "\n"))
	}
	if n := up.Stats().Queries; n != 0 {
		t.Errorf("%d queries reached an upstream that did not authenticate", n)
	}
}

// A name that clients ask for is nobody else's business (RFC 9076), and none of its octets
// may drive the terminal of who reads the log.
func TestLogsNoNames(t *testing.T) {
	up := dottest.New(t)
	s := serve(t, soonGivesUp+toUpstream("test", up))
	s.ask("secret.example.", dns.TypeA)
	up.Stop()
	s.ask("secret.two.example.", dns.TypeA)
	s.ask("secret.local.", dns.TypeA)
	s.terminate()
	if found := s.stderr.lines("secret"); found != nil {
		t.Errorf("the log tells what was asked:\n%s", strings.Join(found, "\n"))
	}
}
