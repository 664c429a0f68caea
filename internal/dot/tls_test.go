package dot_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/dottest"
	"dnsproxy/internal/spki"
)

func TestHandshakeRefuses(t *testing.T) {
	other := dottest.NewCA(t)
	expired := dottest.Leaf{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}
	future := dottest.Leaf{NotBefore: time.Now().Add(time.Hour)}
	for _, tt := range []struct {
		name     string
		server   func(*dottest.Server)
		endpoint func(*dottest.Server, *dot.Endpoint)
		want     dot.Reason
		text     string
	}{
		{name: "a server that speaks TLS 1.2 only",
			server: func(s *dottest.Server) { s.ChangeTLS(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }) },
			want:   dot.Policy, text: "speaks no TLS 1.3"},
		{name: "an expired certificate",
			server: func(s *dottest.Server) { s.Present(s.CA().Issue(expired)) },
			want:   dot.Authentication, text: "expired"},
		{name: "a certificate that is not valid yet",
			server: func(s *dottest.Server) { s.Present(s.CA().Issue(future)) },
			want:   dot.Authentication, text: "not yet valid"},
		{name: "a wrong name",
			server: func(s *dottest.Server) { s.Present(s.CA().Issue(dottest.Leaf{Name: "other.example"})) },
			want:   dot.Authentication, text: "valid for other.example, not dns.example"},
		{name: "a name that is in the CN alone",
			server: func(s *dottest.Server) { s.Present(s.CA().Issue(dottest.Leaf{CommonNameOnly: true})) },
			want:   dot.Authentication, text: "Common Name"},
		{name: "an unknown CA",
			server: func(s *dottest.Server) { s.Present(other.Issue(dottest.Leaf{})) },
			want:   dot.Authentication, text: "unknown authority"},
		{name: "a right name and a wrong pin",
			endpoint: func(_ *dottest.Server, e *dot.Endpoint) { e.Pins = spki.Set{{1}, {2}} },
			want:     dot.Authentication, text: "certificate chain matches none of 2 pins"},
		{name: "a right pin and a wrong name",
			server:   func(s *dottest.Server) { s.Present(s.CA().Issue(dottest.Leaf{Name: "other.example"})) },
			endpoint: func(s *dottest.Server, e *dot.Endpoint) { e.Pins = spki.Set{s.Pin()} },
			want:     dot.Authentication, text: "not dns.example"},
		{name: "a wrong pin alone",
			endpoint: func(_ *dottest.Server, e *dot.Endpoint) { e.ServerName, e.Pins = "", spki.Set{{1}} },
			want:     dot.Authentication, text: "does not match the pin"},
		{name: "the right pin alone on an expired certificate",
			server:   func(s *dottest.Server) { s.Present(s.CA().Issue(expired)) },
			endpoint: func(s *dottest.Server, e *dot.Endpoint) { e.ServerName, e.Pins = "", spki.Set{s.Pin()} },
			want:     dot.Authentication, text: "certificate expired at"},
		{name: "the right pin alone on a certificate of the future",
			server:   func(s *dottest.Server) { s.Present(s.CA().Issue(future)) },
			endpoint: func(s *dottest.Server, e *dot.Endpoint) { e.ServerName, e.Pins = "", spki.Set{s.Pin()} },
			want:     dot.Authentication, text: "certificate is not valid before"},
		{name: "whatever it is, without a name or pins",
			endpoint: func(_ *dottest.Server, e *dot.Endpoint) { e.ServerName = "" },
			want:     dot.Authentication, text: "neither a name nor a pin"},
		{name: "whatever it is, without trust anchors",
			endpoint: func(_ *dottest.Server, e *dot.Endpoint) { e.Roots = nil },
			want:     dot.Authentication, text: "unknown authority"},
		{name: "no group in common",
			server: func(s *dottest.Server) {
				s.ChangeTLS(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP384} })
			},
			endpoint: func(_ *dottest.Server, e *dot.Endpoint) { e.Groups = []tls.CurveID{tls.X25519} },
			want:     dot.Policy, text: "accepts none"},
		{name: "no post-quantum group where one is required",
			server: func(s *dottest.Server) {
				s.ChangeTLS(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} })
			},
			endpoint: func(_ *dottest.Server, e *dot.Endpoint) {
				e.Groups, e.RequirePQ = []tls.CurveID{tls.X25519MLKEM768, tls.X25519}, true
			},
			want: dot.Policy, text: "accepts none"},
		{name: "another application protocol",
			server: func(s *dottest.Server) { s.ChangeTLS(func(c *tls.Config) { c.NextProtos = []string{"h2"} }) },
			want:   dot.Policy, text: "ALPN"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			restingGoroutines(t)
			s := dottest.New(t)
			if tt.server != nil {
				tt.server(s)
			}
			e := s.Endpoint()
			if tt.endpoint != nil {
				tt.endpoint(s, &e)
			}
			mustFail(t, newClient(t, e), "name.example", tt.want, tt.text)
			if st := s.Stats(); st.Queries != 0 {
				t.Errorf("server got %d queries, want none", st.Queries)
			}
		})
	}
}

func TestErrorNamesUpstreamAndAddress(t *testing.T) {
	s := dottest.New(t)
	e := s.Endpoint()
	e.Upstream, e.Pins = "google", spki.Set{{1}, {2}}
	r := ask(t, newClient(t, e), "name.example")
	want := `upstream "google" (` + e.Addr.String() + `): TLS handshake: certificate chain matches none of 2 pins`
	if r.Err == nil || r.Err.Error() != want {
		t.Errorf("got %v\nwant %s", r.Err, want)
	}
}

func TestPinAuthenticates(t *testing.T) {
	for _, tt := range []struct {
		name     string
		endpoint func(*dottest.Server, *dot.Endpoint)
	}{
		{"the leaf, with a name", func(s *dottest.Server, e *dot.Endpoint) { e.Pins = spki.Set{{1}, s.Pin()} }},
		{"the CA, with a name", func(s *dottest.Server, e *dot.Endpoint) { e.Pins = spki.Set{s.CA().Pin()} }},
		{"the leaf alone", func(s *dottest.Server, e *dot.Endpoint) {
			e.ServerName, e.Roots, e.Pins = "", nil, spki.Set{s.Pin()}
		}},
		{"the issuer alone, by its signature", func(s *dottest.Server, e *dot.Endpoint) {
			e.ServerName, e.Roots, e.Pins = "", nil, spki.Set{s.CA().Pin()}
			leaf := s.CA().Issue(dottest.Leaf{})
			leaf.Certificate = append(leaf.Certificate, s.CA().Cert.Raw)
			s.Present(leaf)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := dottest.New(t)
			e := s.Endpoint()
			tt.endpoint(s, &e)
			c := newClient(t, e)
			mustAnswer(t, c, "name.example")
			if st := c.Stats(); st.Session == nil || !st.Session.Pinned || st.Session.Pin == (spki.Pin{1}) {
				t.Errorf("session %+v does not tell the pin that matched", st.Session)
			}
		})
	}
}

func TestAppendedCertificateDoesNotAuthenticate(t *testing.T) {
	attacker := dottest.NewCA(t)
	s := dottest.New(t)
	pinnedLeaf, pinnedCA := s.Pin(), s.CA().Pin()
	forged := attacker.Issue(dottest.Leaf{})
	for _, honest := range []*x509.Certificate{attacker.Cert, s.CA().Cert, s.CA().Issue(dottest.Leaf{}).Leaf} {
		forged.Certificate = append(forged.Certificate, honest.Raw)
	}
	s.Present(forged)
	for _, pin := range []spki.Pin{pinnedLeaf, pinnedCA} {
		e := s.Endpoint()
		e.ServerName, e.Pins = "", spki.Set{pin, {1}}
		mustFail(t, newClient(t, e), "name.example", dot.Authentication, "none of 2 pins")

		e = s.Endpoint()
		e.Roots = attacker.Pool() // a CA that people trust, and should not
		e.Pins = spki.Set{pin, {1}}
		mustFail(t, newClient(t, e), "name.example", dot.Authentication, "none of 2 pins")
	}
}

func TestChangedKeyIsRefusedAtTheNextHandshake(t *testing.T) {
	for _, alone := range []bool{false, true} {
		s := dottest.New(t)
		e := s.Endpoint()
		e.Pins = spki.Set{s.Pin()}
		if alone {
			e.ServerName = ""
		}
		c := newClient(t, e)
		mustAnswer(t, c, "before.example")
		s.Rekey()
		s.CloseAll()
		// The client finds out while it keeps itself warm, or by the query.
		eventually(t, "the session ends", func() bool { return c.Stats().Session == nil })
		r := ask(t, c, "after.example")
		if dot.ReasonOf(r.Err) != dot.Authentication {
			t.Errorf("pins alone %v: got %v, want an authentication error", alone, r.Err)
		}
	}
}

// hello is what a ClientHello offers.
type hello struct {
	suites, versions, groups, shares []uint16
	alpn, sni                        string
	extensions                       map[uint16]bool
}

// Extensions of TLS (RFC 8446, section 4.2).
const (
	extSNI       = 0
	extGroups    = 10
	extALPN      = 16
	extPSK       = 41
	extEarlyData = 42
	extVersions  = 43
	extKeyShare  = 51
)

// bytesReader reads TLS vectors off a ClientHello.
type bytesReader []byte

func (r *bytesReader) take(n int) bytesReader {
	b := (*r)[:n]
	*r = (*r)[n:]
	return b
}

func (r *bytesReader) uint(n int) (v int) {
	for _, b := range r.take(n) {
		v = v<<8 | int(b)
	}
	return v
}

func (r *bytesReader) vector(n int) bytesReader { return r.take(r.uint(n)) }

func (r *bytesReader) list() (l []uint16) {
	for len(*r) > 0 {
		l = append(l, uint16(r.uint(2)))
	}
	return l
}

func parseHello(t *testing.T, b []byte) hello {
	t.Helper()
	r := bytesReader(b)
	if r.uint(1) != 1 {
		t.Errorf("not a ClientHello: %x", b)
	}
	r = r.vector(3)
	r.take(2 + 32)
	r.vector(1)
	suites := r.vector(2)
	h := hello{suites: suites.list(), extensions: make(map[uint16]bool)}
	r.vector(1)
	for r = r.vector(2); len(r) > 0; {
		typ := uint16(r.uint(2))
		v := r.vector(2)
		h.extensions[typ] = true
		switch typ {
		case extSNI:
			v = v.vector(2)
			v.take(1)
			h.sni = string(v.vector(2))
		case extGroups:
			v = v.vector(2)
			h.groups = v.list()
		case extALPN:
			v = v.vector(2)
			h.alpn = string(v.vector(1))
			if len(v) > 0 {
				t.Errorf("more protocols than one are offered")
			}
		case extVersions:
			v = v.vector(1)
			h.versions = v.list()
		case extKeyShare:
			for v = v.vector(2); len(v) > 0; v.vector(2) {
				h.shares = append(h.shares, uint16(v.uint(2)))
			}
		}
	}
	return h
}

func TestClientHelloOffersOnlyWhatIsAllowed(t *testing.T) {
	const (
		aes128 = tls.TLS_AES_128_GCM_SHA256
		aes256 = tls.TLS_AES_256_GCM_SHA384
		chacha = tls.TLS_CHACHA20_POLY1305_SHA256
	)
	for _, tt := range []struct {
		name       string
		suites     []uint16
		groups     []tls.CurveID
		requirePQ  bool
		wantSuites []uint16
		wantGroups []uint16
	}{
		{name: "one suite and one group", suites: []uint16{aes256}, groups: []tls.CurveID{tls.X25519},
			wantSuites: []uint16{aes256}, wantGroups: []uint16{29}},
		{name: "the suites in order", suites: []uint16{chacha, aes128}, groups: []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256},
			wantSuites: []uint16{chacha, aes128}, wantGroups: []uint16{4588, 29, 23}},
		{name: "post-quantum groups alone where required", groups: []tls.CurveID{tls.X25519MLKEM768, tls.X25519}, requirePQ: true,
			wantSuites: []uint16{aes128, aes256, chacha}, wantGroups: []uint16{4588}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := dottest.New(t)
			e := s.Endpoint()
			e.Suites, e.Groups, e.RequirePQ = tt.suites, tt.groups, tt.requirePQ
			c := newClient(t, e)
			mustAnswer(t, c, "full.example")
			eventually(t, "the ticket is there", func() bool { return dot.Tickets(c) > 0 })
			s.CloseAll()
			eventually(t, "a session resumes", func() bool {
				ask(t, c, "resumed.example")
				return s.Stats().Resumed > 0
			})
			hellos := s.Hellos()
			for i, b := range hellos {
				h := parseHello(t, b)
				if !equal(h.suites, tt.wantSuites) {
					t.Errorf("hello %d: suites %x, want %x", i, h.suites, tt.wantSuites)
				}
				if !equal(h.groups, tt.wantGroups) {
					t.Errorf("hello %d: groups %d, want %d", i, h.groups, tt.wantGroups)
				}
				if !equal(h.versions, []uint16{tls.VersionTLS13}) {
					t.Errorf("hello %d: versions %x, want TLS 1.3 alone", i, h.versions)
				}
				if h.alpn != "dot" || h.sni != dottest.Name {
					t.Errorf("hello %d: ALPN %q, SNI %q", i, h.alpn, h.sni)
				}
				if h.extensions[extEarlyData] {
					t.Errorf("hello %d offers early data", i)
				}
				for _, share := range h.shares {
					if !contains(tt.wantGroups, share) {
						t.Errorf("hello %d has a key share of group %d", i, share)
					}
				}
			}
			if first, last := parseHello(t, hellos[0]), parseHello(t, hellos[len(hellos)-1]); first.extensions[extPSK] || !last.extensions[extPSK] {
				t.Error("the first handshake resumes, or the last does not")
			}
		})
	}
}

func equal(a, b []uint16) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func contains(l []uint16, v uint16) bool {
	for _, x := range l {
		if x == v {
			return true
		}
	}
	return false
}

func TestClientsWithDifferentSuitesDialAtTheSameTime(t *testing.T) {
	var clients sync.WaitGroup
	for _, suite := range []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256} {
		addr := playServer(t, func(b []byte) []byte {
			if h := parseHello(t, b); !equal(h.suites, []uint16{suite}) {
				t.Errorf("suites %x are offered, want %x alone", h.suites, suite)
			}
			return []byte{21, 3, 3, 0, 2, 2, 40}
		})
		clients.Go(func() {
			for range 50 {
				c := newClient(t, dot.Endpoint{Addr: addr, ServerName: dottest.Name, Suites: []uint16{suite}})
				ask(t, c, "name.example")
				c.Close()
			}
		})
	}
	clients.Wait()
}

func TestNoNameIsSentWithPinsAlone(t *testing.T) {
	s := dottest.New(t)
	e := s.Endpoint()
	e.ServerName, e.Pins = "", spki.Set{s.Pin()}
	mustAnswer(t, newClient(t, e), "name.example")
	if h := parseHello(t, s.Hellos()[0]); h.extensions[extSNI] {
		t.Errorf("SNI %q is sent", h.sni)
	}
}

func TestUnofferedSuiteIsRefused(t *testing.T) {
	// A server in this process cannot choose what was not offered, so this one is played by hand.
	addr := playServer(t, func(hello []byte) []byte { return serverHello(hello, tls.TLS_CHACHA20_POLY1305_SHA256) })
	e := dot.Endpoint{
		Upstream: "test", Addr: addr, ServerName: dottest.Name, Roots: x509.NewCertPool(),
		Suites: []uint16{tls.TLS_AES_128_GCM_SHA256}, Groups: []tls.CurveID{tls.X25519},
	}
	mustFail(t, newClient(t, e), "name.example", dot.Policy, "cipher suite that is not allowed")
}

func TestRefusalOfAllSuitesIsNamed(t *testing.T) {
	addr := playServer(t, func([]byte) []byte { return []byte{21, 3, 3, 0, 2, 2, 40} }) // handshake_failure
	e := dot.Endpoint{Upstream: "test", Addr: addr, ServerName: dottest.Name, Roots: x509.NewCertPool()}
	mustFail(t, newClient(t, e), "name.example", dot.Policy, "accepts none of the cipher suites")
}

func TestPeerWithoutTLSIsNamed(t *testing.T) {
	addr := playServer(t, func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") })
	e := dot.Endpoint{Upstream: "test", Addr: addr, ServerName: dottest.Name, Roots: x509.NewCertPool()}
	mustFail(t, newClient(t, e), "name.example", dot.Protocol, "does not speak TLS")
}

// playServer accepts connections, reads one record of each and writes what answer returns.
func playServer(t *testing.T, answer func([]byte) []byte) (addr netip.AddrPort) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			header := make([]byte, 5)
			io.ReadFull(conn, header)
			body := make([]byte, int(header[3])<<8|int(header[4]))
			if _, err := io.ReadFull(conn, body); err == nil && len(body) > 0 {
				conn.Write(answer(body))
				io.Copy(io.Discard, conn)
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// serverHello answers a ClientHello with a suite of the server's own liking (RFC 8446, section 4.1.3).
func serverHello(hello []byte, suite uint16) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 32)
	body = append(body, hello[4+2+32+1:][:32]...) // legacy_session_id_echo
	body = append(body, byte(suite>>8), byte(suite), 0)
	share := append([]byte{0, 51, 0, 36, 0, 29, 0, 32}, make([]byte, 32)...)
	extensions := append([]byte{0, 43, 0, 2, 3, 4}, share...)
	body = append(body, 0, byte(len(extensions)))
	body = append(body, extensions...)
	msg := append([]byte{2, 0, 0, byte(len(body))}, body...)
	return append([]byte{22, 3, 3, 0, byte(len(msg))}, msg...)
}

func TestResumedSessionIsCheckedAgain(t *testing.T) {
	for _, alone := range []bool{false, true} {
		s := dottest.New(t)
		e := s.Endpoint()
		e.Pins = spki.Set{s.Pin()}
		if alone {
			e.ServerName = ""
		}
		before := newClient(t, e)
		mustAnswer(t, before, "full.example")
		eventually(t, "the ticket is there", func() bool { return dot.Tickets(before) > 0 })

		e.Pins = spki.Set{{1}}
		after := newClient(t, e)
		dot.ShareTickets(before, after)
		mustFail(t, after, "refused.example", dot.Authentication, "does not match the pin")
		eventually(t, "the server has noted both handshakes", func() bool { return len(s.Hellos()) == 2 })
		if !parseHello(t, s.Hellos()[1]).extensions[extPSK] {
			t.Fatal("the second handshake did not try to resume")
		}
		if st := s.Stats(); st.Queries != 1 {
			t.Errorf("server got %d queries, want none after the pin changed", st.Queries-1)
		}
	}
}

func TestTicketsAreNotSharedBetweenClients(t *testing.T) {
	s := dottest.New(t)
	strict, lax := s.Endpoint(), s.Endpoint()
	strict.Pins = spki.Set{{1}}
	c := newClient(t, lax)
	mustAnswer(t, c, "name.example")
	eventually(t, "the ticket is there", func() bool { return dot.Tickets(c) > 0 })
	mustFail(t, newClient(t, strict), "name.example", dot.Authentication, "does not match the pin")
	eventually(t, "the server has noted both handshakes", func() bool { return len(s.Hellos()) == 2 })
	if parseHello(t, s.Hellos()[1]).extensions[extPSK] {
		t.Error("the second client offered the ticket of the first")
	}
}

func TestTicketIsUsedOnce(t *testing.T) {
	s := dottest.New(t)
	c := newClient(t, s.Endpoint())
	mustAnswer(t, c, "name.example")
	eventually(t, "the ticket is there", func() bool { return dot.Tickets(c) == 1 })
	s.Freeze()
	s.ResetAll()
	eventually(t, "the session ends", func() bool { return c.Stats().Session == nil })
	c.Open()
	eventually(t, "the ticket is taken", func() bool { return dot.Tickets(c) == 0 })
	s.Thaw()
}

func TestWithoutALPNTheServerIsAccepted(t *testing.T) {
	s := dottest.New(t, dottest.WithTLS(func(c *tls.Config) { c.NextProtos = nil }))
	mustAnswer(t, newClient(t, s.Endpoint()), "name.example")
}

func TestReportOnlyTellsOnceForEachChange(t *testing.T) {
	var log journal
	s := dottest.New(t)
	e := s.Endpoint()
	e.Pins, e.ReportOnly = spki.Set{s.Pin()}, true
	c := dot.NewClient(e, log.logger())
	defer c.Close()
	reopen := func(name string) {
		t.Helper()
		s.CloseAll()
		eventually(t, "the session ends", func() bool { return c.Stats().Session == nil })
		mustAnswer(t, c, name)
	}
	mustAnswer(t, c, "matches.example")
	s.Rekey()
	reopen("mismatch.example")
	reopen("still.example")
	if n := log.count("pin mismatch"); n != 1 {
		t.Errorf("the mismatch is told %d times, want once:\n%s", n, &log)
	}
	if c.Stats().Session.Pinned {
		t.Error("the session counts as pinned")
	}
}

func TestEqual(t *testing.T) {
	base := dot.Endpoint{
		Upstream: "u", Addr: netip.MustParseAddrPort("192.0.2.1:853"), ServerName: "n", RootsID: "r",
		Pins: spki.Set{{1}}, Suites: []uint16{1}, Groups: []tls.CurveID{1},
	}
	if o := base; !base.Equal(o) {
		t.Error("an endpoint is not equal to itself")
	}
	for name, change := range map[string]func(*dot.Endpoint){
		"upstream":    func(e *dot.Endpoint) { e.Upstream = "v" },
		"address":     func(e *dot.Endpoint) { e.Addr = netip.MustParseAddrPort("192.0.2.1:854") },
		"name":        func(e *dot.Endpoint) { e.ServerName = "" },
		"roots":       func(e *dot.Endpoint) { e.RootsID = "s" },
		"pins":        func(e *dot.Endpoint) { e.Pins = spki.Set{{2}} },
		"report only": func(e *dot.Endpoint) { e.ReportOnly = true },
		"suites":      func(e *dot.Endpoint) { e.Suites = nil },
		"groups":      func(e *dot.Endpoint) { e.Groups = []tls.CurveID{1, 2} },
		"require PQ":  func(e *dot.Endpoint) { e.RequirePQ = true },
	} {
		o := base
		if change(&o); base.Equal(o) {
			t.Errorf("another %s makes no difference", name)
		}
	}
}

func TestUnreachableAddressesAreNamed(t *testing.T) {
	s := dottest.New(t)
	s.Stop()
	e := s.Endpoint()
	mustFail(t, newClient(t, e), "name.example", dot.Refused, "connecting: connect: connection refused")
	var err *dot.Error
	if r := ask(t, newClient(t, e), "name.example"); !errors.As(r.Err, &err) || !strings.Contains(err.Cause(), "refused") {
		t.Errorf("got %v, want an *Error", r.Err)
	}
}
