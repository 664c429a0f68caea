package forwarder_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/cache"
	"dnsproxy/internal/forwarder"
	"dnsproxy/internal/wire"
)

// upstream is an Exchanger that answers from a function.
type upstream struct {
	asked  atomic.Int64
	down   atomic.Bool
	answer func(q *dns.Msg) (*dns.Msg, error)
	after  time.Duration
}

func (u *upstream) Exchange(ctx context.Context, q wire.Query) (wire.Response, error) {
	u.asked.Add(1)
	raw := wire.AppendUpstream(nil, q, 1, false)[2:]
	m := new(dns.Msg)
	if err := m.Unpack(raw); err != nil {
		return wire.Response{}, err
	}
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	select {
	case <-time.After(u.after):
	case <-ctx.Done():
		return wire.Response{}, ctx.Err()
	}
	r, err := u.answer(m)
	if err != nil {
		return wire.Response{}, err
	}
	b, err := r.Pack()
	if err != nil {
		return wire.Response{}, err
	}
	return wire.ParseResponse(b, q)
}

func (u *upstream) Down() bool { return u.down.Load() }

// records answers every query with these, and a SOA in the authority section if there are none.
func records(t *testing.T, rcode int, rrs ...string) func(q *dns.Msg) (*dns.Msg, error) {
	return func(q *dns.Msg) (*dns.Msg, error) {
		m := new(dns.Msg)
		m.SetRcode(q, rcode)
		m.RecursionAvailable = true
		for _, s := range rrs {
			r, err := dns.NewRR(s)
			if err != nil {
				t.Error(err)
			}
			m.Answer = append(m.Answer, r)
		}
		if len(rrs) == 0 {
			r, _ := dns.NewRR("example. 60 SOA ns.example. root.example. 1 3600 600 86400 60")
			m.Ns = append(m.Ns, r)
		}
		return m, nil
	}
}

func failing(*dns.Msg) (*dns.Msg, error) { return nil, errors.New("connection refused") }

func settings(up forwarder.Exchanger) forwarder.Settings {
	return forwarder.Settings{
		Timeout: 4 * time.Second, MaxTTL: 24 * time.Hour, MaxNegativeTTL: time.Hour, ServeStale: 24 * time.Hour,
		Prefetch: true, SpecialNames: true, Routes: []forwarder.Route{{Exchanger: up}},
	}
}

// asker asks a Forwarder as a frontend does.
type asker struct {
	t *testing.T
	*forwarder.Forwarder
}

func newAsker(t *testing.T, s forwarder.Settings) *asker {
	t.Helper()
	f := forwarder.New(cache.New(1<<20), s, slog.New(slog.DiscardHandler))
	t.Cleanup(f.Close)
	return &asker{t, f}
}

func question(name string, qtype uint16, edit ...func(*dns.Msg)) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.SetEdns0(1232, false)
	for _, e := range edit {
		e(m)
	}
	return m
}

// ask returns the answer to m, and whether it was known at once.
func (a *asker) ask(m *dns.Msg) (answer *dns.Msg, known bool) {
	raw, err := m.Pack()
	if err != nil {
		a.t.Fatal(err)
	}
	q, err := wire.ParseQuery(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	b, known := a.AppendCached(nil, q, 1232, time.Now())
	if !known {
		b = a.AppendAnswer(a.t.Context(), nil, q, 1232)
	}
	answer = new(dns.Msg)
	if err := answer.Unpack(b); err != nil {
		a.t.Fatalf("unpacking %x: %v", b, err)
	}
	return answer, known
}

// ede returns the info codes of the extended errors of an answer.
func ede(m *dns.Msg) (codes []uint16) {
	for _, o := range m.IsEdns0().Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok {
			codes = append(codes, e.InfoCode)
		}
	}
	return codes
}

func expectEDE(t *testing.T, m *dns.Msg, want ...uint16) {
	t.Helper()
	if got := ede(m); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("EDE: got %v, want %v", got, want)
	}
}

func TestSecondAskerIsAnsweredFromTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &upstream{answer: records(t, 0, "www.example. 100 A 192.0.2.1")}
		a := newAsker(t, settings(up))
		if r, known := a.ask(question("www.example.", dns.TypeA)); known || len(r.Answer) != 1 {
			t.Fatalf("first: %v", r)
		}
		time.Sleep(40 * time.Second)
		r, known := a.ask(question("WWW.example.", dns.TypeA))
		if !known || r.Answer[0].Header().Ttl != 60 || r.Question[0].Name != "WWW.example." {
			t.Errorf("second: %v", r)
		}
		time.Sleep(60 * time.Second)
		if _, known := a.ask(question("www.example.", dns.TypeA)); known {
			t.Error("an entry outlives its TTL")
		}
		if got := up.asked.Load(); got != 2 {
			t.Errorf("upstream asked %d times, want 2", got)
		}
	})
}

// RFC 4035, section 3.2, and RFC 3225: who asks with other flags is not answered from this entry.
func TestFlagsSeparateEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &upstream{answer: records(t, 0, "www.example. 100 A 192.0.2.1")}
		a := newAsker(t, settings(up))
		for _, edit := range []func(*dns.Msg){func(*dns.Msg) {}, func(m *dns.Msg) { m.CheckingDisabled = true }, func(m *dns.Msg) { m.IsEdns0().SetDo() }} {
			if _, known := a.ask(question("www.example.", dns.TypeA, edit)); known {
				t.Error("answered from an entry of other flags")
			}
		}
	})
}

func TestWhatIsCachedForHowLong(t *testing.T) {
	soaLess := func(rcode int) func(q *dns.Msg) (*dns.Msg, error) {
		return func(q *dns.Msg) (*dns.Msg, error) { return new(dns.Msg).SetRcode(q, rcode), nil }
	}
	truncated := func(q *dns.Msg) (*dns.Msg, error) {
		m, err := records(t, 0, "www.example. 100 A 192.0.2.1")(q)
		m.Truncated = true
		return m, err
	}
	for _, tt := range []struct {
		name     string
		answer   func(q *dns.Msg) (*dns.Msg, error)
		edit     func(s *forwarder.Settings)
		lifetime time.Duration
	}{
		{"NODATA", records(t, 0), nil, 60 * time.Second},
		{"NXDOMAIN", records(t, dns.RcodeNameError), nil, 60 * time.Second},
		{"max_negative_ttl", records(t, dns.RcodeNameError), func(s *forwarder.Settings) { s.MaxNegativeTTL = 5 * time.Second }, 5 * time.Second},
		{"min_ttl does not raise negatives above their bound", records(t, 0), func(s *forwarder.Settings) {
			s.MinTTL, s.MaxNegativeTTL = 100*time.Second, 10*time.Second
		}, 10 * time.Second},
		{"max_ttl", records(t, 0, "www.example. 1000 A 192.0.2.1"), func(s *forwarder.Settings) { s.MaxTTL = 30 * time.Second }, 30 * time.Second},
		{"min_ttl", records(t, 0, "www.example. 1 A 192.0.2.1"), func(s *forwarder.Settings) { s.MinTTL = 30 * time.Second }, 30 * time.Second},
		{"TTL 0", records(t, 0, "www.example. 0 A 192.0.2.1"), nil, 0},
		{"NODATA without SOA", soaLess(0), nil, 0},
		{"NXDOMAIN without SOA", soaLess(dns.RcodeNameError), nil, 0},
		{"truncated", truncated, nil, 0},
		{"SERVFAIL (RFC 9520: seconds)", soaLess(dns.RcodeServerFailure), nil, 5 * time.Second},
		{"no upstream (RFC 9520: at least one second)", failing, nil, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := &upstream{answer: tt.answer}
				s := settings(up)
				s.ServeStale = 0
				if tt.edit != nil {
					tt.edit(&s)
				}
				a := newAsker(t, s)
				a.ask(question("www.example.", dns.TypeA))
				time.Sleep(max(0, tt.lifetime-time.Second))
				if _, known := a.ask(question("www.example.", dns.TypeA)); known != (tt.lifetime > 0) {
					t.Errorf("known a second before its end: %v", known)
				}
				if tt.lifetime > 0 {
					time.Sleep(time.Second)
					if _, known := a.ask(question("www.example.", dns.TypeA)); known {
						t.Error("known after its end")
					}
				}
			})
		})
	}
}

// RFC 5452, section 5.
func TestIdenticalMissesShareAFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &upstream{answer: records(t, 0, "www.example. 0 A 192.0.2.1"), after: time.Second}
		a := newAsker(t, settings(up))
		var wg sync.WaitGroup
		for i := range 100 {
			name := []string{"www.example.", "wWw.eXample."}[i%2]
			wg.Go(func() {
				if r, _ := a.ask(question(name, dns.TypeA)); len(r.Answer) != 1 || r.Question[0].Name != name {
					t.Errorf("got %v", r)
				}
			})
		}
		wg.Wait()
		if got := up.asked.Load(); got != 1 {
			t.Errorf("upstream asked %d times, want 1", got)
		}
	})
}

func TestFailureSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &upstream{answer: failing}
		a := newAsker(t, settings(up))
		r, _ := a.ask(question("www.example.", dns.TypeA))
		if r.Rcode != dns.RcodeServerFailure || !r.RecursionAvailable {
			t.Errorf("got %v", r)
		}
		expectEDE(t, r, dns.ExtendedErrorCodeNetworkError)
		r, known := a.ask(question("www.example.", dns.TypeA))
		if !known || r.Rcode != dns.RcodeServerFailure {
			t.Errorf("got %v", r)
		}
		expectEDE(t, r, dns.ExtendedErrorCodeCachedError, dns.ExtendedErrorCodeNetworkError)
	})
}

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &upstream{answer: records(t, 0), after: time.Hour}
		a := newAsker(t, settings(up))
		began := time.Now()
		if r, _ := a.ask(question("www.example.", dns.TypeA)); r.Rcode != dns.RcodeServerFailure || time.Since(began) != 4*time.Second {
			t.Errorf("after %v: %v", time.Since(began), r)
		}
	})
}

// RFC 8914, section 4.14, speaks of SERVFAIL alone.
func TestCachedErrorIsSaidOfServFailAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for rcode, want := range map[int][]uint16{
			dns.RcodeServerFailure: {dns.ExtendedErrorCodeCachedError},
			dns.RcodeRefused:       nil,
		} {
			up := &upstream{answer: func(q *dns.Msg) (*dns.Msg, error) { return new(dns.Msg).SetRcode(q, rcode), nil }}
			a := newAsker(t, settings(up))
			a.ask(question("www.example.", dns.TypeA))
			r, known := a.ask(question("www.example.", dns.TypeA))
			if !known || r.Rcode != rcode {
				t.Errorf("got %v, known %t, want %s at once", r, known, dns.RcodeToString[rcode])
			}
			expectEDE(t, r, want...)
		}
	})
}
