package dot_test

import (
	"testing"
	"testing/synctest"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/dottest"
)

func TestSilentSessionIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory(), dottest.WithAction(soon(dottest.Answer)))
		c := newClient(t, s.Endpoint())
		mustAnswer(t, c, "first.example")
		// A router forgot the connection: what is sent on it is lost, new ones work.
		s.Drop(true)
		results := make(chan dot.Result, 1)
		p := c.Send(query(t, "lost.example"), results)
		time.Sleep(100 * time.Millisecond)
		s.DropNew(false)
		start := time.Now()
		if !p.Silent() {
			t.Fatal("the session is not silent")
		}
		if st := c.Health().State; st != dot.Suspect {
			t.Errorf("state %v, want suspect", st)
		}
		if r := receive(t, results); r.Err != nil {
			t.Fatal(r.Err)
		}
		if took := time.Since(start); took > 50*time.Millisecond {
			t.Errorf("the response came %v after the suspicion", took)
		}
		if st := c.Health().State; st != dot.Ready {
			t.Errorf("state %v, want ready", st)
		}
		time.Sleep(5 * time.Second)
		if st := c.Stats(); st.Resent != 1 || st.Opened != 2 || st.Closed["replaced"] != 1 || st.Suspected != 1 {
			t.Errorf("client counted %+v", st)
		}
	})
}

func TestOldSessionMayStillAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory(), dottest.WithAction(soon(dottest.Answer)))
		c := newClient(t, s.Endpoint())
		mustAnswer(t, c, "first.example")
		// The first session's response comes late, the second's never.
		s.Script(dottest.After(time.Second, dottest.Answer), dottest.Never)
		results := make(chan dot.Result, 1)
		p := c.Send(query(t, "slow.example"), results)
		time.Sleep(100 * time.Millisecond)
		p.Silent()
		if r := receive(t, results); r.Err != nil {
			t.Fatal(r.Err)
		}
		if p.Silent() || p.Cancel() {
			t.Error("an answered query is silent or can be cancelled")
		}
		mustAnswer(t, c, "last.example")
	})
}

func TestBothSessionsMayAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory(), dottest.WithAction(soon(dottest.Answer)))
		c := newClient(t, s.Endpoint())
		mustAnswer(t, c, "first.example")
		s.Script(dottest.After(time.Second, dottest.Answer))
		results := make(chan dot.Result, 2)
		p := c.Send(query(t, "slow.example"), results)
		time.Sleep(100 * time.Millisecond)
		p.Silent()
		if r := receive(t, results); r.Err != nil {
			t.Fatal(r.Err)
		}
		time.Sleep(2 * time.Second)
		if len(results) > 0 {
			t.Error("a second result was delivered")
		}
		if st := c.Stats(); st.Late != 1 || st.Closed["protocol"] != 0 {
			t.Errorf("client counted %+v, want one late response and no fault", st)
		}
	})
}

func TestFrozenUpstreamIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory(), dottest.WithAction(soon(dottest.Answer)))
		c := newClient(t, s.Endpoint())
		mustAnswer(t, c, "first.example")
		s.Freeze()
		results := make(chan dot.Result, 1000)
		for range 60 { // 6 s, a query each 100 ms that is given up after 80 ms
			p := c.Send(query(t, "name.example"), results)
			time.Sleep(80 * time.Millisecond)
			p.Silent()
			p.Cancel()
			time.Sleep(20 * time.Millisecond)
		}
		if st := c.Health().State; st == dot.Ready {
			t.Error("a frozen upstream counts as ready")
		}
		frozen := s.Stats()
		if frozen.Connections > 8 {
			t.Errorf("%d connections while frozen for 6 s", frozen.Connections)
		}
		s.Thaw()
		time.Sleep(100 * time.Millisecond)
		if st := c.Health().State; st != dot.Ready {
			t.Errorf("100 ms after it thawed, the upstream is %v", st)
		}
		mustAnswer(t, c, "last.example")
		if st := s.Stats(); st.Handshakes > 3 {
			t.Errorf("%d handshakes in all", st.Handshakes)
		}
		if n := c.Stats().Closed["protocol"]; n != 0 {
			t.Errorf("late responses ended %d sessions", n)
		}
	})
}

func TestUpstreamThatIsGoneAndBack(t *testing.T) {
	for _, tt := range []struct {
		name       string
		gone, back func(*dottest.Server)
		attempts   int // at most, in 30 s
		within     time.Duration
	}{
		{"refusing connections", (*dottest.Server).Stop, (*dottest.Server).Start, 310, 150 * time.Millisecond},
		{"behind a network that loses all",
			func(s *dottest.Server) { s.Drop(true) }, func(s *dottest.Server) { s.DropNew(false) }, 25, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log journal
				s := dottest.New(t, dottest.InMemory())
				c := dot.NewClient(s.Endpoint(), log.logger())
				defer c.Close()
				mustAnswer(t, c, "first.example")
				tt.gone(s)
				results := make(chan dot.Result, 10000)
				for range 150 { // 5 queries a second
					p := c.Send(query(t, "name.example"), results)
					time.Sleep(200 * time.Millisecond)
					p.Silent()
					p.Cancel()
				}
				st := c.Stats()
				if st.Attempts > uint64(tt.attempts) {
					t.Errorf("%d attempts in 30 s, want at most %d", st.Attempts, tt.attempts)
				}
				h := c.Health()
				if h.Err == nil {
					t.Errorf("health %+v does not say why", h)
				}
				tt.back(s)
				start := time.Now()
				for answered := false; !answered; { // as a chooser does: hedge, give up, try again
					results := make(chan dot.Result, 1)
					p := c.Send(query(t, "back.example"), results)
					select {
					case r := <-results:
						answered = r.Err == nil
					case <-time.After(100 * time.Millisecond):
						p.Silent()
						p.Cancel()
					}
					time.Sleep(10 * time.Millisecond)
				}
				if took := time.Since(start); took > tt.within {
					t.Errorf("used again %v after it was back", took)
				}
				if n := log.count("upstream down"); n != 1 {
					t.Errorf("%d lines say that it is down:\n%s", n, &log)
				}
				if n := log.count("upstream up"); n != 1 {
					t.Errorf("%d lines say that it is up:\n%s", n, &log)
				}
			})
		})
	}
}

func TestBackOffFailsFastBetweenAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory())
		s.Stop()
		c := newClient(t, s.Endpoint())
		for range 10 {
			time.Sleep(time.Second)
			mustFail(t, c, "name.example", dot.Refused, "refused")
		}
		h := c.Health()
		if h.State != dot.BackingOff || !h.Until.After(time.Now()) || time.Until(h.Until) > 5*time.Second {
			t.Errorf("health %+v, want a back-off of 5 s at most", h)
		}
		before := c.Stats().Attempts
		start := time.Now()
		for range 1000 {
			mustFail(t, c, "name.example", dot.Refused, "refused")
		}
		if time.Since(start) > 0 {
			t.Error("failing took time")
		}
		if n := c.Stats().Attempts - before; n > 1 {
			t.Errorf("%d attempts at one moment", n)
		}
	})
}

func TestOpenTriesUntilTheUpstreamIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory())
		s.Stop()
		c := newClient(t, s.Endpoint())
		mustFail(t, c, "name.example", dot.Refused, "refused")
		for range 20 {
			c.Open()
			time.Sleep(time.Second)
		}
		s.Start()
		time.Sleep(5 * time.Second)
		if h := c.Health(); h.State != dot.Ready {
			t.Errorf("5 s after its return the upstream is %v", h.State)
		}
		if n := c.Stats().Attempts; n > 20 {
			t.Errorf("%d attempts in 25 s", n)
		}
		time.Sleep(time.Minute)
		if h := c.Health(); h.State != dot.Idle {
			t.Errorf("a minute later it is %v, want idle", h.State)
		}
	})
}

func TestUpstreamThatTakesSessionsAndAnswersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory(), dottest.WithAction(dottest.Never))
		c := newClient(t, s.Endpoint())
		results := make(chan dot.Result, 1000)
		for range 100 { // 30 s
			p := c.Send(query(t, "name.example"), results)
			time.Sleep(300 * time.Millisecond)
			p.Silent()
			p.Cancel()
		}
		if st := s.Stats(); st.Handshakes > 20 || st.Open > 2 {
			t.Errorf("%d handshakes in 30 s, %d connections open", st.Handshakes, st.Open)
		}
	})
}

func TestOneQueryInFiftyUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory(), dottest.WithAction(dottest.Every(50, dottest.Never, soon(dottest.Answer))))
		c := newClient(t, s.Endpoint())
		results := make(chan dot.Result, 1000)
		var sent []dot.Pending
		for range 500 {
			sent = append(sent, c.Send(query(t, "name.example"), results))
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(time.Second)
		for _, p := range sent {
			p.Silent()
			p.Cancel()
		}
		if len(results) != 490 {
			t.Errorf("%d results, want 490", len(results))
		}
		if st := s.Stats(); st.Connections != 1 {
			t.Errorf("%d connections, want 1", st.Connections)
		}
	})
}

func TestSessionThatOutlivedASuspensionIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory())
		c := newClient(t, s.Endpoint())
		mustAnswer(t, c, "first.example")
		s.Drop(true)
		s.DropNew(false)
		dot.Suspend(c, time.Hour)
		mustAnswer(t, c, "awake.example")
		if st := c.Stats(); st.Closed["stale"] != 1 {
			t.Errorf("client counted %+v", st)
		}
	})
}
