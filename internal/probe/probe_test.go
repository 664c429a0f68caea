package probe_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/dottest"
	"dnsproxy/internal/probe"
	"dnsproxy/internal/spki"
)

// patience is how long a step may take that must succeed, brief one that must not.
const (
	patience = 20 * time.Second
	brief    = 100 * time.Millisecond
)

func TestInspectTellsOfAnUpstreamThatIsAccepted(t *testing.T) {
	s := dottest.New(t, dottest.WithAction(dottest.Keepalive(300)))
	e := s.Endpoint()
	e.Pins = spki.Set{{1}, s.CA().Pin()}
	f := probe.Inspect(t.Context(), e, patience)
	if !f.Accepted || !f.Authenticated || f.Error != "" || f.Reason != "" {
		t.Fatalf("got %+v", f)
	}
	want := probe.Session{
		Version: "TLS 1.3", Suite: f.Session.Suite, Group: "X25519MLKEM768", PostQuantum: true, ALPN: "dot",
		Resumes: true, Pin: probe.PinMatched, MatchedPin: s.CA().Pin().String(),
	}
	if *f.Session != want || !strings.HasPrefix(want.Suite, "TLS_") {
		t.Errorf("session: got %+v, want %+v", *f.Session, want)
	}
	times := reflect.ValueOf(f.Times)
	for i := range times.NumField() {
		if d := times.Field(i).Float(); d <= 0 || d > patience.Seconds() {
			t.Errorf("%s took %v s", times.Type().Field(i).Name, d)
		}
	}
	expectChain(t, s, f.Chain)
	// One query, and 20 on a resumed session, all padded as the daemon's are (RFC 8467).
	st := s.Stats()
	if st.Handshakes != 2 || st.Resumed != 1 || st.Queries != 21 || st.NotPadded != 0 || st.Duplicates != 0 {
		t.Errorf("the upstream saw %+v", st)
	}
}

// expectChain checks what is said of a leaf and the CA that signed it. A pin is the SHA-256 of the
// SubjectPublicKeyInfo (RFC 7858, section 4.2).
func expectChain(t *testing.T, s *dottest.Server, chain []probe.Certificate) {
	t.Helper()
	sum := sha256.Sum256(s.CA().Cert.RawSubjectPublicKeyInfo)
	want := []probe.Certificate{
		{Role: probe.Leaf, Subject: "CN=" + dottest.Name, Names: []string{dottest.Name, "127.0.0.1", "::1"}, Issuer: "CN=dottest", Pin: s.Pin().String(), Presented: true},
		{Role: probe.Issuer, Subject: "CN=dottest", Issuer: "CN=dottest", Pin: base64.StdEncoding.EncodeToString(sum[:]), Configured: true},
	}
	if len(chain) != len(want) {
		t.Fatalf("chain: got %+v", chain)
	}
	for i, hours := range []float64{12, 24} {
		got := chain[i]
		if left := got.DaysLeft * 24; left > hours || left < hours-0.1 || !got.NotBefore.Before(time.Now()) || time.Until(got.NotAfter).Hours() > hours {
			t.Errorf("%s: valid %v to %v, %v days left", got.Role, got.NotBefore, got.NotAfter, got.DaysLeft)
		}
		got.NotBefore, got.NotAfter, got.DaysLeft = time.Time{}, time.Time{}, 0
		if !reflect.DeepEqual(got, want[i]) {
			t.Errorf("got %+v, want %+v", got, want[i])
		}
	}
}

func TestInspectTellsHowAnswersCome(t *testing.T) {
	seconds := func(s float64) *float64 { return &s }
	padded := dottest.Handle(func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetRcode(q, dns.RcodeRefused)
		m.SetEdns0(1232, false)
		room := 468 - m.Len() - 4 // RFC 8467, section 4.2
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_PADDING{Padding: make([]byte, room)})
		return m
	})
	// miekg/dns leaves a timeout of 0 out.
	noMore := dottest.Handle(func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0TCPKEEPALIVE, Data: []byte{0, 0}})
		return m
	})
	for name, tt := range map[string]struct {
		first, then dottest.Action
		want        probe.Answers
	}{
		"plainly":             {dottest.Answer, dottest.Answer, probe.Answers{RCode: "NOERROR", Octets: 28, Burst: 20, Answered: 20}},
		"padded":              {padded, padded, probe.Answers{RCode: "REFUSED", Octets: 468, Padded: true, Burst: 20, Answered: 20}},
		"with a timeout":      {dottest.Keepalive(15), dottest.Answer, probe.Answers{RCode: "NOERROR", Octets: 34, Keepalive: seconds(1.5), Burst: 20, Answered: 20}},
		"with a timeout of 0": {noMore, dottest.Answer, probe.Answers{RCode: "NOERROR", Octets: 34, Keepalive: seconds(0), Burst: 20, Answered: 20}},
		"out of order":        {dottest.Answer, dottest.Reverse(4), probe.Answers{RCode: "NOERROR", Octets: 28, Burst: 20, Answered: 20, OutOfOrder: true}},
		"some of them": {dottest.Answer, dottest.CloseAfter(5, dottest.FIN),
			probe.Answers{RCode: "NOERROR", Octets: 28, Burst: 20, Answered: 5, BurstError: "closed the session instead of answering"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := dottest.New(t, dottest.WithAction(tt.then))
			s.Script(tt.first)
			f := probe.Inspect(t.Context(), s.Endpoint(), patience)
			if !f.Accepted || f.Answers == nil {
				t.Fatalf("got %+v", f)
			}
			if got := *f.Answers; !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestInspectSaysWhyTheDaemonRefuses(t *testing.T) {
	tlsOf := func(change func(*tls.Config)) func(*dottest.Server) {
		return func(s *dottest.Server) { s.ChangeTLS(change) }
	}
	present := func(leaf dottest.Leaf) func(*dottest.Server) {
		return func(s *dottest.Server) { s.Present(s.CA().Issue(leaf)) }
	}
	do := func(a dottest.Action) func(*dottest.Server) { return func(s *dottest.Server) { s.Do(a) } }
	other := dottest.NewCA(t)
	hour := time.Hour
	for name, tt := range map[string]struct {
		server   func(*dottest.Server)
		endpoint func(*dottest.Server, *dot.Endpoint)
		timeout  time.Duration
		reason   dot.Reason
		want     string
		known    bool // it is authenticated, and so is asked
	}{
		"TLS 1.2 alone": {server: tlsOf(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), reason: dot.Policy, want: "TLS handshake: speaks no TLS 1.3"},
		"a group that is not allowed": {server: tlsOf(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP521} }),
			endpoint: func(_ *dottest.Server, e *dot.Endpoint) { e.Groups = []tls.CurveID{tls.X25519} }, reason: dot.Policy, want: "accepts none of the cipher suites and groups"},
		"no post-quantum group": {server: tlsOf(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }),
			endpoint: func(_ *dottest.Server, e *dot.Endpoint) { e.RequirePQ = true }, reason: dot.Policy, want: "accepts none of the cipher suites and groups"},
		"another protocol": {server: tlsOf(func(c *tls.Config) { c.NextProtos = []string{"h2"} }), reason: dot.Policy, want: "does not speak DNS over TLS (ALPN)"},
		"an expired certificate": {server: present(dottest.Leaf{NotBefore: time.Now().Add(-2 * hour), NotAfter: time.Now().Add(-hour)}),
			reason: dot.Authentication, want: "certificate has expired or is not yet valid"},
		"a certificate of tomorrow": {server: present(dottest.Leaf{NotBefore: time.Now().Add(hour)}), reason: dot.Authentication, want: "certificate has expired or is not yet valid"},
		"a wrong name":              {server: present(dottest.Leaf{Name: "other.example"}), reason: dot.Authentication, want: "valid for other.example, not dns.example"},
		"an unknown CA":             {server: func(s *dottest.Server) { s.Present(other.Issue(dottest.Leaf{})) }, reason: dot.Authentication, want: "unknown authority"},
		"a wrong pin": {endpoint: func(_ *dottest.Server, e *dot.Endpoint) { e.Pins = spki.Set{{1}, {2}} },
			reason: dot.Authentication, want: "matches none of 2 pins"},
		"a wrong pin alone": {endpoint: func(_ *dottest.Server, e *dot.Endpoint) { e.ServerName, e.Pins = "", spki.Set{{1}} },
			reason: dot.Authentication, want: "does not match the pin"},
		"nothing to authenticate by": {endpoint: func(_ *dottest.Server, e *dot.Endpoint) { e.ServerName = "" },
			reason: dot.Authentication, want: "neither a name nor a pin"},
		"another key on the next session": {server: func(s *dottest.Server) {
			s.Do(func(q *dottest.Query) { s.Rekey(); dottest.Answer(q) })
		}, endpoint: func(s *dottest.Server, e *dot.Endpoint) { e.Pins = spki.Set{s.Pin()} }, reason: dot.Authentication, want: "does not match the pin", known: true},
		"silence":            {server: do(dottest.Never), timeout: brief, reason: dot.Timeout, want: "no answer within 100ms", known: true},
		"a close":            {server: do(dottest.FIN), reason: dot.Closed, want: "closed the session instead of answering", known: true},
		"a reset":            {server: do(dottest.RST), reason: dot.Reset, want: "reset the session instead of answering", known: true},
		"a wrong ID":         {server: do(dottest.WrongID), reason: dot.Protocol, want: "nobody asked for", known: true},
		"a wrong question":   {server: do(dottest.WrongQuestion), reason: dot.Protocol, want: "question", known: true},
		"a query":            {server: do(dottest.Echo), reason: dot.Protocol, want: "QR", known: true},
		"half a header":      {server: do(dottest.Bytes([]byte{1})), reason: dot.Protocol, want: "shorter than its header", known: true},
		"answers sent twice": {server: do(dottest.Twice), reason: dot.Protocol, want: "nobody asked for", known: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := dottest.New(t)
			e := s.Endpoint()
			if tt.server != nil {
				tt.server(s)
			}
			if tt.endpoint != nil {
				tt.endpoint(s, &e)
			}
			presented := s.Pin()
			if tt.timeout == 0 {
				tt.timeout = patience
			}
			f := probe.Inspect(t.Context(), e, tt.timeout)
			if f.Accepted || f.Authenticated != tt.known || f.Reason != tt.reason || !strings.Contains(f.Error, tt.want) {
				t.Errorf("got %+v, want %q: %q", f, tt.reason, tt.want)
			}
			if name == "another protocol" { // with which no handshake comes to its end
				return
			}
			if f.Session == nil || f.Session.Version == "" || len(f.Chain) == 0 || f.Chain[0].Pin != presented.String() || f.Times.Handshake <= 0 {
				t.Errorf("what is presented is not shown: %+v", f)
			}
			if n := s.Stats().Queries; (n > 0) != tt.known {
				t.Errorf("%d queries were sent", n)
			}
		})
	}
}

// A pin that is only reported is shown, and shuts nobody out.
func TestInspectTellsOfPinsThatAreReported(t *testing.T) {
	s := dottest.New(t)
	e := s.Endpoint()
	e.Pins, e.ReportOnly = spki.Set{{1}, {2}}, true
	if f := probe.Inspect(t.Context(), e, patience); !f.Accepted || f.Session.Pin != probe.PinMismatch {
		t.Errorf("got %+v, %+v", f, f.Session)
	}
	e.Pins = nil
	if f := probe.Inspect(t.Context(), e, patience); !f.Accepted || f.Session.Pin != probe.NoPin {
		t.Errorf("got %+v, %+v", f, f.Session)
	}
}

// A certificate that is merely sent along is shown as that, and its pin is not offered.
func TestInspectKnowsWhatBelongsToTheChain(t *testing.T) {
	s, stranger := dottest.New(t), dottest.NewCA(t)
	cert := s.CA().Issue(dottest.Leaf{})
	cert.Certificate = append(cert.Certificate, stranger.Cert.Raw, s.CA().Cert.Raw)
	s.Present(cert)
	e := s.Endpoint()
	e.ServerName, e.Pins = "", spki.Set{stranger.Pin()}
	f := probe.Inspect(t.Context(), e, patience)
	var roles []string
	for _, c := range f.Chain {
		roles = append(roles, c.Role)
	}
	leaf, issuer := f.Pinnable()
	if f.Accepted || strings.Join(roles, " ") != "leaf issuer unrelated" || leaf.Pin != s.Pin().String() || issuer.Pin != s.CA().Pin().String() {
		t.Errorf("got %v, %+v", roles, f)
	}
	if c := f.Chain[2]; c.Pin != stranger.Pin().String() || !c.Configured {
		t.Errorf("got %+v", c)
	}
}

// Whoever is not there, or does not speak, is told of in one step.
func TestInspectOfWhatIsNoUpstream(t *testing.T) {
	gone := dottest.New(t)
	gone.Stop()
	if f := probe.Inspect(t.Context(), gone.Endpoint(), patience); f.Reason != dot.Refused || f.Error != "connecting: connect: connection refused" || f.Session != nil || f.Times != (probe.Times{}) {
		t.Errorf("nobody there: got %+v", f)
	}
	frozen := dottest.New(t)
	frozen.Freeze()
	if f := probe.Inspect(t.Context(), frozen.Endpoint(), brief); f.Reason != dot.Timeout || !strings.HasPrefix(f.Error, "TLS handshake: timed out") || f.Session != nil || f.Times.Connect <= 0 {
		t.Errorf("frozen: got %+v", f)
	}
	e := gone.Endpoint()
	e.Addr = listen(t, func(n int, conn net.Conn) { conn.Write([]byte("220 mail.example ESMTP\r\n")) })
	if f := probe.Inspect(t.Context(), e, patience); f.Reason != dot.Protocol || f.Error != "TLS handshake: does not speak TLS" || f.Session != nil {
		t.Errorf("a mail server: got %+v", f)
	}
}

// An upstream that accepts none of the suites that are allowed is shown with the one that it takes.
func TestInspectShowsTheSuiteThatIsNotAllowed(t *testing.T) {
	s := dottest.New(t)
	e := s.Endpoint()
	e.Addr = listen(t, func(n int, conn net.Conn) {
		if n == 1 { // refuses what it is offered: alert handshake_failure (RFC 8446, section 6)
			conn.Read(make([]byte, 4096))
			conn.Write([]byte{21, 3, 3, 0, 2, 2, 40})
			return
		}
		relay(t, conn, s.Addr().String())
	})
	e.Suites = []uint16{tls.TLS_CHACHA20_POLY1305_SHA256}
	f := probe.Inspect(t.Context(), e, patience)
	if f.Reason != dot.Policy || !strings.Contains(f.Error, "accepts none of the cipher suites and groups that are allowed") {
		t.Errorf("got %+v", f)
	}
	if f.Session == nil || f.Session.Suite == "TLS_CHACHA20_POLY1305_SHA256" || f.Chain[0].Pin != s.Pin().String() {
		t.Errorf("got %+v", f.Session)
	}
}

// A certificate's text does nothing to a terminal, nor to a line of a file.
func TestInspectMakesTextHarmless(t *testing.T) {
	s := dottest.New(t)
	s.Present(s.CA().Issue(dottest.Leaf{Name: "evil\n\x1b[31m\u202e.example", CommonNameOnly: true}))
	f := probe.Inspect(t.Context(), s.Endpoint(), patience)
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var back probe.Finding
	if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(&back, f) {
		t.Errorf("%v: got %+v back, want %+v", err, back, f)
	}
	if got, want := f.Chain[0].Subject, "CN=evil\ufffd\ufffd[31m\ufffd.example"; got != want || strings.ContainsAny(f.Error, "\n\x1b\u202e") {
		t.Errorf("got %q, %q; want %q", got, f.Error, want)
	}
}

func TestInspectEndsWithItsContext(t *testing.T) {
	s := dottest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if f := probe.Inspect(ctx, s.Endpoint(), patience); f.Accepted || f.Error == "" {
		t.Errorf("got %+v", f)
	}
}
