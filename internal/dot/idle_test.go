package dot_test

import (
	"testing"
	"testing/synctest"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/dottest"
)

// idleServer closes each connection that gets no query for limit.
func idleServer(t testing.TB, limit time.Duration) *dottest.Server {
	return dottest.New(t, dottest.InMemory(), dottest.WithIdleTimeout(limit))
}

func TestIdleSessionClosesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory())
		c := newClient(t, s.Endpoint())
		mustAnswer(t, c, "name.example")
		time.Sleep(29 * time.Second)
		if s.Stats().Open != 1 {
			t.Error("the session is closed after 29 s")
		}
		time.Sleep(2 * time.Second)
		if s.Stats().Open != 0 {
			t.Error("the session is open after 31 s")
		}
		if st := c.Stats(); st.Closed["idle"] != 1 || st.Session != nil {
			t.Errorf("client counted %+v", st)
		}
		if h := c.Health(); h.State != dot.Idle || h.Err != nil {
			t.Errorf("health %+v, want idle without an error", h)
		}
	})
}

func TestUpstreamThatClosesAfterOneSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := idleServer(t, time.Second)
		c := newClient(t, s.Endpoint())
		mustAnswer(t, c, "first.example")
		time.Sleep(1300 * time.Millisecond)
		mustAnswer(t, c, "second.example") // shows that there is traffic
		time.Sleep(1300 * time.Millisecond)
		for _, name := range names(100) {
			if st := c.Health().State; st != dot.Ready {
				t.Errorf("before %s: %v, want a warm session", name, st)
			}
			mustAnswer(t, c, name)
			time.Sleep(1300 * time.Millisecond)
		}
		st := c.Stats()
		if st.Closed["idle"] < 80 {
			t.Errorf("closed by us %d times, by the upstream %d times: the timeout was not learnt",
				st.Closed["idle"], st.Closed["idle-upstream"])
		}
		if st.Opened > 250 || st.Resumed < st.Opened-5 {
			t.Errorf("%d sessions for 102 queries, %d of them resumed", st.Opened, st.Resumed)
		}
	})
}

func TestIdleSessionsThatAreReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory())
		c := newClient(t, s.Endpoint())
		for _, name := range names(3) {
			mustAnswer(t, c, name)
			time.Sleep(2 * time.Second)
			s.ResetAll()
			synctest.Wait()
		}
		mustAnswer(t, c, "last.example")
		if i := c.Stats().Session; i == nil || i.Timeout >= 2*time.Second {
			t.Errorf("session %+v: the timeout was not learnt", i)
		}
	})
}

func TestWarmSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := idleServer(t, time.Second)
		c := newClient(t, s.Endpoint())
		mustAnswer(t, c, "first.example")
		time.Sleep(time.Second / 2)
		mustAnswer(t, c, "second.example")
		time.Sleep(time.Hour)
		if n := s.Stats().Connections; n > 4 {
			t.Errorf("%d connections for two queries, want the first and three at most", n)
		}
	})
}

func TestRareQueriesAreNotKeptWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := idleServer(t, 5*time.Second)
		c := newClient(t, s.Endpoint())
		for _, name := range names(20) {
			mustAnswer(t, c, name)
			time.Sleep(time.Minute)
		}
		if n := s.Stats().Connections; n != 20 {
			t.Errorf("%d connections for 20 queries a minute apart", n)
		}
	})
}

func TestOneCloseTeachesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory())
		c := newClient(t, s.Endpoint())
		mustAnswer(t, c, "first.example")
		time.Sleep(time.Second)
		s.CloseAll() // a restart
		synctest.Wait()
		mustAnswer(t, c, "second.example")
		time.Sleep(25 * time.Second)
		if st := c.Stats(); st.Closed["idle"] != 0 {
			t.Errorf("client counted %+v", st)
		}
	})
}

func TestKeepalive(t *testing.T) {
	for _, tt := range []struct {
		name     string
		units    uint16
		open     time.Duration // still open after
		closed   time.Duration // closed by then
		sessions int           // for ten queries a second apart
	}{
		{"100 ms", 1, 50 * time.Millisecond, 100 * time.Millisecond, 10},
		{"2 s", 20, 1500 * time.Millisecond, 2 * time.Second, 1},
		{"2 min", 1200, 100 * time.Second, 2 * time.Minute, 1},
		{"an hour, of which we take 2 min", 36000, 100 * time.Second, 2 * time.Minute, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := dottest.New(t, dottest.InMemory(), dottest.WithAction(soon(dottest.Keepalive(tt.units))))
				c := newClient(t, s.Endpoint())
				for i, name := range names(10) {
					if i > 0 {
						time.Sleep(time.Second)
					}
					mustAnswer(t, c, name)
				}
				if n := s.Stats().Connections; n != tt.sessions {
					t.Errorf("%d connections, want %d", n, tt.sessions)
				}
				before := c.Stats().Closed["idle"]
				time.Sleep(tt.open)
				if c.Stats().Closed["idle"] != before {
					t.Errorf("the session is closed after %v", tt.open)
				}
				time.Sleep(tt.closed - tt.open)
				if c.Stats().Closed["idle"] != before+1 {
					t.Errorf("the session is open after %v", tt.closed)
				}
			})
		})
	}
}

func TestKeepaliveZeroEndsTheSessionForNewQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory(), dottest.WithAction(soon(dottest.Keepalive(0))))
		c := newClient(t, s.Endpoint())
		results := make(chan dot.Result, 1000)
		for i, name := range names(200) { // 200 queries a second
			if i > 0 {
				time.Sleep(5 * time.Millisecond)
			}
			c.Send(query(t, name), results)
		}
		time.Sleep(time.Second)
		if len(results) != 200 {
			t.Fatalf("%d results, want 200", len(results))
		}
		for range 200 {
			if r := <-results; r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		st := s.Stats()
		if st.Duplicates != 0 || st.Open > 1 {
			t.Errorf("%d duplicates, %d connections open", st.Duplicates, st.Open)
		}
		if st.Connections > 60 {
			t.Errorf("%d connections in a second", st.Connections)
		}
	})
}

func TestKeepaliveIsAskedForOncePerSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := dottest.New(t, dottest.InMemory(), dottest.WithAction(func(q *dottest.Query) {
			if dottest.AsksKeepalive(q.Msg) {
				asked++
				if q.ConnSeq != 1 {
					t.Errorf("query %d of the connection asks", q.ConnSeq)
				}
			}
			dottest.Answer(q)
		}))
		c := newClient(t, s.Endpoint())
		for _, name := range names(20) {
			mustAnswer(t, c, name)
		}
		if asked != 1 {
			t.Errorf("%d queries ask for keepalive, want 1", asked)
		}
	})
}
