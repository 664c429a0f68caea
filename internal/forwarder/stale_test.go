package forwarder_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/forwarder"
)

// expired returns an asker whose entry for www.example. A ended a second ago.
func expired(t *testing.T, up *upstream, edit func(s *forwarder.Settings)) *asker {
	s := settings(up)
	if edit != nil {
		edit(&s)
	}
	a := newAsker(t, s)
	a.ask(question("www.example.", dns.TypeA))
	time.Sleep(101 * time.Second)
	return a
}

func positive(t *testing.T) *upstream {
	return &upstream{answer: records(t, 0, "www.example. 100 A 192.0.2.1")}
}

func expectStale(t *testing.T, r *dns.Msg) {
	t.Helper()
	if len(r.Answer) != 1 || r.Answer[0].Header().Ttl != 30 {
		t.Errorf("got %v", r)
	}
	expectEDE(t, r, dns.ExtendedErrorCodeStaleAnswer)
}

// RFC 8767, section 5: the client waits 1.8 s for an upstream, then gets what there is; others
// need not wait once it is known that nobody answers.
func TestStaleAnswerWhileUpstreamsAreSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := positive(t)
		a := expired(t, up, nil)
		up.after = time.Hour
		began := time.Now()
		r, _ := a.ask(question("www.example.", dns.TypeA))
		expectStale(t, r)
		if took := time.Since(began); took != 1800*time.Millisecond {
			t.Errorf("after %v", took)
		}
		time.Sleep(3 * time.Second) // past the deadline of the flight
		r, known := a.ask(question("www.example.", dns.TypeA))
		if !known {
			t.Error("waited though the failure is known")
		}
		expectStale(t, r)
	})
}

func TestStaleAnswerAtOnceWhileUpstreamsAreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := positive(t)
		a := expired(t, up, nil)
		up.down.Store(true)
		r, known := a.ask(question("www.example.", dns.TypeA))
		if !known {
			t.Error("waited though no upstream is up")
		}
		expectStale(t, r)
		synctest.Wait()
		if got := up.asked.Load(); got != 2 { // so that their return is noticed
			t.Errorf("upstream asked %d times, want 2", got)
		}
		if r, known := a.ask(question("www.example.", dns.TypeA)); !known || r.Answer[0].Header().Ttl != 100 {
			t.Errorf("the refreshed entry: %v", r)
		}
	})
}

func TestStaleAnswerInPlaceOfFailure(t *testing.T) {
	for name, answer := range map[string]func(q *dns.Msg) (*dns.Msg, error){"SERVFAIL": records(t, dns.RcodeServerFailure), "no upstream": failing} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := positive(t)
				a := expired(t, up, nil)
				up.answer = answer
				for range 3 {
					r, _ := a.ask(question("www.example.", dns.TypeA))
					expectStale(t, r)
				}
			})
		})
	}
}

func TestStaleNXDomainHasItsOwnCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &upstream{answer: records(t, dns.RcodeNameError)}
		a := expired(t, up, nil)
		up.answer = failing
		r, _ := a.ask(question("www.example.", dns.TypeA))
		if r.Rcode != dns.RcodeNameError {
			t.Errorf("got %v", r)
		}
		expectEDE(t, r, dns.ExtendedErrorCodeStaleNXDOMAINAnswer)
	})
}

func TestFreshAnswerBeforeStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := positive(t)
		a := expired(t, up, nil)
		up.after = time.Second
		if r, _ := a.ask(question("www.example.", dns.TypeA)); r.Answer[0].Header().Ttl != 100 {
			t.Errorf("got %v", r)
		}
	})
}

func TestStaleEnds(t *testing.T) {
	for name, edit := range map[string]func(s *forwarder.Settings){
		"turned off": func(s *forwarder.Settings) { s.ServeStale = 0 },
		"too old":    func(s *forwarder.Settings) { s.ServeStale = 500 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := positive(t)
				a := expired(t, up, edit)
				up.answer = failing
				if r, _ := a.ask(question("www.example.", dns.TypeA)); r.Rcode != dns.RcodeServerFailure {
					t.Errorf("got %v", r)
				}
			})
		})
	}
}

// A popular entry is refreshed before it ends, once, and nobody waits for it.
func TestPrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := positive(t)
		a := newAsker(t, settings(up))
		ask := func() *dns.Msg {
			r, _ := a.ask(question("www.example.", dns.TypeA))
			synctest.Wait()
			return r
		}
		ask()
		ask()
		ask()
		time.Sleep(89 * time.Second)
		ask()
		if got := up.asked.Load(); got != 1 {
			t.Errorf("asked %d times before the last tenth, want 1", got)
		}
		time.Sleep(2 * time.Second)
		up.after = time.Second
		for range 5 {
			if r := ask(); r.Answer[0].Header().Ttl != 9 {
				t.Errorf("got %v", r)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if r := ask(); r.Answer[0].Header().Ttl != 100 {
			t.Errorf("after the refresh: %v", r)
		}
		if got := up.asked.Load(); got != 2 {
			t.Errorf("asked %d times, want 2", got)
		}
	})
}

func TestNoPrefetch(t *testing.T) {
	for name, tt := range map[string]struct {
		prefetch bool
		asks     int
	}{"turned off": {false, 5}, "not popular": {true, 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := positive(t)
				s := settings(up)
				s.Prefetch = tt.prefetch
				a := newAsker(t, s)
				for range tt.asks {
					a.ask(question("www.example.", dns.TypeA))
				}
				time.Sleep(95 * time.Second)
				a.ask(question("www.example.", dns.TypeA))
				synctest.Wait()
				if got := up.asked.Load(); got != 1 {
					t.Errorf("asked %d times, want 1", got)
				}
			})
		})
	}
}

func TestCloseCutsRefreshesShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := positive(t)
		a := expired(t, up, nil)
		up.after = time.Hour
		up.down.Store(true)
		a.ask(question("www.example.", dns.TypeA))
		began := time.Now()
		a.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v", took)
		}
	})
}
