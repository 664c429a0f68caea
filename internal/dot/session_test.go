package dot_test

import (
	"crypto/tls"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/dottest"
	"dnsproxy/internal/wire"
)

// roundTrip is how long servers in memory take to answer.
const roundTrip = 20 * time.Millisecond

func soon(a dottest.Action) dottest.Action { return dottest.After(roundTrip, a) }

func TestSendAnswersOverOneSession(t *testing.T) {
	restingGoroutines(t)
	s := dottest.New(t)
	c := newClient(t, s.Endpoint())
	for _, name := range names(5) {
		mustAnswer(t, c, name)
	}
	if st := s.Stats(); st.Connections != 1 || st.Queries != 5 || st.NotPadded != 0 {
		t.Errorf("server counted %+v, want 5 padded queries on 1 connection", st)
	}
	st := c.Stats()
	if st.Queries != 5 || st.Responses != 5 || st.Opened != 1 || st.Resumed != 0 {
		t.Errorf("client counted %+v", st)
	}
	if i := st.Session; i == nil || i.Version != tls.VersionTLS13 || i.ALPN != "dot" || i.NotAfter.IsZero() {
		t.Errorf("session is described as %+v", i)
	}
}

func TestSendPipelinesAThousandQueries(t *testing.T) {
	s := dottest.New(t)
	c := newClient(t, s.Endpoint())
	if failed := failures(sendAll(t, c, names(1000))); len(failed) > 0 {
		t.Fatalf("%d failed, the first: %v", len(failed), failed[0])
	}
	if st := s.Stats(); st.Connections != 1 || st.Queries != 1000 || st.Duplicates != 0 {
		t.Errorf("server counted %+v, want 1000 queries, no duplicates, 1 connection", st)
	}
}

func TestFirstResponseIsNotHeldBack(t *testing.T) {
	// With Nagle's algorithm on, the server holds its second write back until its first is acknowledged, and
	// the kernel waits for 40 ms with that unless it is asked not to.
	s := dottest.New(t, dottest.WithNagle(), dottest.WithAction(dottest.InTwoWrites))
	fastest := time.Hour
	for range 5 { // the machine may be busy with something else
		c := newClient(t, s.Endpoint())
		start := time.Now()
		mustAnswer(t, c, "name.example")
		fastest = min(fastest, time.Since(start))
		c.Close()
	}
	if fastest >= 40*time.Millisecond {
		t.Errorf("the fastest of five first responses came after %v", fastest)
	}
}

func TestQueuedQueriesShareARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory())
		c := newClient(t, s.Endpoint())
		// All wait for the handshake, and so are written at once: 100 queries of 130
		// octets fit in one record of 16,384.
		s.Freeze()
		results := make(chan dot.Result, 100)
		for _, name := range names(100) {
			c.Send(query(t, name), results)
		}
		s.Thaw()
		for range 100 {
			if r := receive(t, results); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		const finished = 1 // the client's Finished looks like application data, too
		if got := s.Stats().Records[0] - finished; got != 1 {
			t.Errorf("100 queries took %d records, want 1", got)
		}
	})
}

func TestResponsesMayComeInAnyOrder(t *testing.T) {
	s := dottest.New(t, dottest.WithAction(dottest.Reverse(50)))
	c := newClient(t, s.Endpoint())
	results := make(map[string]chan dot.Result)
	for _, name := range names(50) {
		results[name] = make(chan dot.Result, 1)
		c.Send(query(t, name), results[name])
	}
	for name, ch := range results {
		r := receive(t, ch)
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(wire.AppendAnswer(nil, query(t, name), r.Response, 0, 1232)); err != nil {
			t.Fatal(err)
		}
		if len(m.Answer) != 1 || m.Answer[0].Header().Name != name+"." {
			t.Errorf("%s is answered with %v", name, m.Answer)
		}
	}
}

func TestSessionThatEndsInFlight(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  dottest.Action
		want dot.Reason
	}{
		{"with close_notify", dottest.FIN, dot.Closed},
		{"with FIN alone", dottest.BareFIN, dot.Closed},
		{"with RST", dottest.RST, dot.Reset},
		{"inside a message", dottest.Truncate, dot.Protocol},
		{"with a response to an ID that is not in use", dottest.WrongID, dot.Protocol},
		{"with a response to another question", dottest.WrongQuestion, dot.Protocol},
		{"with a response without a question", dottest.NoQuestion, dot.Protocol},
		{"with the query sent back", dottest.Echo, dot.Protocol},
		{"with random octets", dottest.Garbage, dot.Protocol},
		{"with a message shorter than a header", dottest.Bytes([]byte{0x81}), dot.Protocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := dottest.New(t, dottest.InMemory())
				c := newClient(t, s.Endpoint())
				mustAnswer(t, c, "first.example")
				s.Do(dottest.Never)
				results := make(chan dot.Result, 10)
				for _, name := range names(9) {
					c.Send(query(t, name), results)
				}
				synctest.Wait()
				s.Script(tt.end)
				start := time.Now()
				c.Send(query(t, "last.example"), results)
				for range 10 {
					r := receive(t, results)
					if got := dot.ReasonOf(r.Err); got != tt.want {
						t.Errorf("got %q (%v), want %q", got, r.Err, tt.want)
					}
				}
				if took := time.Since(start); took > 0 {
					t.Errorf("the error came after %v, want at once", took)
				}
				s.Do(dottest.Answer)
				time.Sleep(100 * time.Millisecond) // the longest first back-off
				mustAnswer(t, c, "after.example")
				if st := s.Stats(); st.Connections != 2 {
					t.Errorf("%d connections, want 2", st.Connections)
				}
			})
		})
	}
}

func TestUpstreamThatClosesAfterEachTenQueries(t *testing.T) {
	for _, end := range []dottest.Action{dottest.FIN, dottest.BareFIN, dottest.RST} {
		synctest.Test(t, func(t *testing.T) {
			s := dottest.New(t, dottest.InMemory(), dottest.WithAction(dottest.CloseAfter(10, end)))
			c := newClient(t, s.Endpoint())
			for _, name := range names(200) {
				if r := ask(t, c, name); r.Err != nil {
					mustAnswer(t, c, name) // on a fresh session, at the first attempt
				}
			}
		})
	}
}

func TestLateResponseIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory())
		c := newClient(t, s.Endpoint())
		mustAnswer(t, c, "first.example")
		s.Script(dottest.After(time.Second, dottest.Answer))
		results := make(chan dot.Result, 1)
		p := c.Send(query(t, "slow.example"), results)
		time.Sleep(roundTrip)
		if !p.Cancel() {
			t.Error("Cancel came too late")
		}
		if p.Cancel() {
			t.Error("a second Cancel came in time")
		}
		for _, name := range names(100) { // any of which might get the same ID
			mustAnswer(t, c, name)
		}
		time.Sleep(2 * time.Second)
		select {
		case r := <-results:
			t.Errorf("a cancelled query got %+v", r)
		default:
		}
		mustAnswer(t, c, "last.example")
		if st := c.Stats(); st.Late != 1 || st.Opened != 1 {
			t.Errorf("got %d late responses on %d sessions, want 1 on 1", st.Late, st.Opened)
		}
	})
}

func TestQueryMayBeReusedAfterSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory())
		c := newClient(t, s.Endpoint())
		raw, _ := new(dns.Msg).SetQuestion("name.example.", dns.TypeA).Pack()
		q, err := wire.ParseQuery(raw)
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan dot.Result, 1)
		c.Send(q, results)
		clear(raw)
		if r := receive(t, results); r.Err != nil {
			t.Error(r.Err)
		}
	})
}

func TestIDsRunOutWithAClearError(t *testing.T) {
	s := dottest.New(t, dottest.WithAction(dottest.Never))
	c := newClient(t, s.Endpoint())
	q := query(t, "name.example")
	results := make(chan dot.Result, 1<<16)
	for range 1 << 16 {
		c.Send(q, results)
	}
	r := receive(t, results)
	if dot.ReasonOf(r.Err) != dot.Busy {
		t.Fatalf("got %v, want %q", r.Err, dot.Busy)
	}
	if n := c.Health().Pending; n < 40000 || n >= 1<<16 {
		t.Errorf("%d queries are in flight", n)
	}
}

func TestCancelledQueriesReturnTheirIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory(), dottest.WithAction(dottest.Never))
		c := newClient(t, s.Endpoint())
		q := query(t, "name.example")
		results := make(chan dot.Result, 1)
		for range 10 {
			var sent []dot.Pending
			for range 10000 {
				sent = append(sent, c.Send(q, results))
			}
			synctest.Wait()
			for _, p := range sent {
				if !p.Cancel() {
					t.Fatal("Cancel came too late")
				}
			}
			time.Sleep(11 * time.Second)
		}
		if len(results) > 0 {
			t.Errorf("got %v", (<-results).Err)
		}
		if n := c.Health().Pending; n != 0 {
			t.Errorf("%d queries are in flight", n)
		}
	})
}

func TestCloseEndsWhatIsInFlight(t *testing.T) {
	for name, prepare := range map[string]func(*dottest.Server){
		"while the upstream answers nothing": func(s *dottest.Server) { s.Do(dottest.Never) },
		"while the upstream is frozen":       func(s *dottest.Server) { s.Freeze() },
		"while nothing comes through":        func(s *dottest.Server) { s.Drop(true) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := dottest.New(t, dottest.InMemory())
				prepare(s)
				c := newClient(t, s.Endpoint())
				results := make(chan dot.Result, 1)
				c.Send(query(t, "name.example"), results)
				time.Sleep(roundTrip)
				start := time.Now()
				c.Close()
				if took := time.Since(start); took > time.Second {
					t.Errorf("Close took %v", took)
				}
				if r := receive(t, results); dot.ReasonOf(r.Err) != dot.Shutdown {
					t.Errorf("got %v, want %q", r.Err, dot.Shutdown)
				}
				mustFail(t, c, "after.example", dot.Shutdown, "shutting down")
			})
		})
	}
}

func TestLargeResponses(t *testing.T) {
	text := make([]string, 250)
	for i := range text {
		text[i] = string(make([]byte, 200))
	}
	s := dottest.New(t, dottest.WithHandler(func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{
			&dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 1}, Txt: text},
			&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: []byte{192, 0, 2, 1}},
		}
		return m
	}))
	c := newClient(t, s.Endpoint())
	for _, r := range sendAll(t, c, names(20)) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

func TestRTTIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory(), dottest.WithAction(soon(dottest.Answer)))
		c := newClient(t, s.Endpoint())
		if h := c.Health(); h.State != dot.Idle || h.RTT != 0 {
			t.Errorf("before the first query: %+v", h)
		}
		mustAnswer(t, c, "first.example")
		// The first measurement counts whole, half of it is its deviation (RFC 6298, section 2.2).
		if h := c.Health(); h.State != dot.Ready || h.RTT != roundTrip || h.RTTVar != roundTrip/2 || h.Err != nil {
			t.Errorf("after the first query: %+v", h)
		}
	})
}
