package dot_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/dottest"
	"dnsproxy/internal/wire"
)

// TestStorm: whatever the upstream does, each query ends exactly once, and nothing is left over.
func TestStorm(t *testing.T) {
	restingGoroutines(t)
	s := dottest.New(t, dottest.WithAction(func(q *dottest.Query) {
		switch rand.N(200) {
		case 0:
			dottest.FIN(q)
		case 1:
			dottest.RST(q)
		case 2:
			dottest.WrongQuestion(q)
		case 3:
			dottest.Keepalive(0)(q)
		case 4:
			dottest.Never(q)
		case 5, 6, 7, 8, 9:
			dottest.After(rand.N(20*time.Millisecond), dottest.Answer)(q)
		default:
			dottest.Answer(q)
		}
	}))
	c := newClient(t, s.Endpoint())
	var senders sync.WaitGroup
	var answered, failed, cancelled atomic.Int64
	const each = 500
	for n := range 8 {
		senders.Go(func() {
			list := names(each)
			for range list {
				results := make(chan dot.Result, 2)
				p := c.Send(query(t, list[rand.N(each)]), results)
				limit := time.NewTimer(10 * time.Millisecond)
				select {
				case r := <-results:
					if r.Err == nil {
						answered.Add(1)
					} else {
						failed.Add(1)
						time.Sleep(time.Millisecond) // as much as a chooser needs to find another
					}
				case <-limit.C:
					p.Silent()
					if p.Cancel() {
						cancelled.Add(1)
					} else if r := receive(t, results); r.Err == nil {
						answered.Add(1)
					} else {
						failed.Add(1)
					}
				}
				limit.Stop()
				if len(results) > 0 {
					t.Errorf("sender %d: a second result", n)
				}
			}
		})
	}
	senders.Wait()
	if sum := answered.Load() + failed.Load() + cancelled.Load(); sum != 8*each {
		t.Errorf("%d queries ended, want %d", sum, 8*each)
	}
	if answered.Load() == 0 {
		t.Error("none was answered")
	}
	if n := c.Health().Pending; n != 0 {
		t.Errorf("%d queries are still in flight", n)
	}
	c.Close()
	eventually(t, "the server has no connection left", func() bool { return s.Stats().Open == 0 })
}

func TestSuspicionThatPassesCausesNoDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dottest.New(t, dottest.InMemory(), dottest.WithAction(soon(dottest.Answer)))
		e := s.Endpoint()
		dial, dials := e.Dial, 0
		e.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			if dials++; dials > 1 {
				time.Sleep(200 * time.Millisecond)
			}
			return dial(ctx, addr)
		}
		c := newClient(t, e)
		mustAnswer(t, c, "first.example")
		results := make(chan dot.Result, 2)
		s.Script(dottest.After(150*time.Millisecond, dottest.Answer), dottest.After(time.Second, dottest.Answer))
		p := c.Send(query(t, "slow.example"), results)
		time.Sleep(100 * time.Millisecond)
		p.Silent() // a replacement is dialled, and is up 50 ms after the response to the first
		c.Send(query(t, "slower.example"), results)
		for range 2 {
			if r := receive(t, results); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		mustAnswer(t, c, "last.example")
		if st := s.Stats(); st.Duplicates != 0 || st.Handshakes != 2 {
			t.Errorf("%d duplicates, %d handshakes, want 0 and 2", st.Duplicates, st.Handshakes)
		}
		if st := c.Stats(); st.Resent != 0 || st.Closed["drained"] != 1 {
			t.Errorf("client counted %+v", st)
		}
	})
}

// FuzzStream: whatever comes out of a session's TLS, each query ends, with a sound response or an
// error.
func FuzzStream(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0})
	f.Add([]byte{0, 1, 2})
	f.Add([]byte{0, 12, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(append([]byte{0xff, 0xff}, make([]byte, 70000)...))
	s := dottest.New(f)
	f.Fuzz(func(t *testing.T, stream []byte) {
		stream = bytes.Clone(stream)
		s.Do(func(q *dottest.Query) {
			if len(stream) >= 4 { // otherwise nothing would ever match
				binary.BigEndian.PutUint16(stream[2:], q.Msg.Id)
			}
			q.Conn.SendBytes(stream)
			q.Conn.Close()
		})
		c := newClient(t, s.Endpoint())
		if r := ask(t, c, "fuzz.example"); r.Err == nil && wire.AppendAnswer(nil, query(t, "fuzz.example"), r.Response, 0, 512) == nil {
			t.Error("a response that gives no answer")
		}
		if n := c.Health().Pending; n != 0 {
			t.Errorf("%d queries are in flight", n)
		}
	})
}
