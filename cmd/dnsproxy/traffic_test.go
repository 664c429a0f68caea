package main_test

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// traffic asks over UDP at a steady rate, like many stub resolvers that never ask twice, and does not
// wait for one answer before the next query. Every second name is new, the others come again and again.
type traffic struct {
	t     *testing.T
	conns []net.Conn
	stop  chan struct{}
	wrote sync.WaitGroup

	sent, answered atomic.Int64
	progress       chan struct{} // a token after each answer

	mu      sync.Mutex
	waiting map[string]bool // ports and IDs of queries without an answer
	failure *dns.Msg        // the first answer that is not the expected one
}

// startTraffic asks addr at rate queries a second until end.
func startTraffic(t *testing.T, addr string, rate int) *traffic {
	t.Helper()
	tr := &traffic{t: t, stop: make(chan struct{}), progress: make(chan struct{}, 1), waiting: map[string]bool{}}
	for range 4 {
		conn, err := net.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		tr.conns = append(tr.conns, conn)
		go tr.read(conn)
	}
	tr.wrote.Go(func() { tr.write(rate) })
	return tr
}

func (tr *traffic) write(rate int) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tr.stop:
			return
		case <-tick.C:
		}
		name := fmt.Sprintf("hot%d.example.", n%50)
		if n%2 == 1 {
			name = fmt.Sprintf("new%d.example.", n)
		}
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		q.Id = uint16(n)
		packed, err := q.Pack()
		if err != nil {
			panic(err)
		}
		conn := tr.conns[n%len(tr.conns)]
		tr.mu.Lock()
		tr.waiting[key(conn, q.Id)] = true
		tr.mu.Unlock()
		tr.sent.Add(1)
		// An error tells of an earlier datagram that nobody was bound to receive; it counts as lost.
		_, _ = conn.Write(packed)
	}
}

func key(conn net.Conn, id uint16) string { return fmt.Sprint(conn.LocalAddr(), " ", id) }

func (tr *traffic) read(conn net.Conn) {
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, err := conn.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		m := new(dns.Msg)
		if err != nil || m.Unpack(buf[:n]) != nil {
			continue
		}
		tr.mu.Lock()
		if tr.waiting[key(conn, m.Id)] {
			delete(tr.waiting, key(conn, m.Id))
			tr.answered.Add(1)
		}
		if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
			tr.failure = m
		}
		tr.mu.Unlock()
		select {
		case tr.progress <- struct{}{}:
		default:
		}
	}
}

// more waits until n more queries are answered than now.
func (tr *traffic) more(n int64) { tr.await(tr.answered.Load() + n) }

// await waits until that many queries are answered, or none are any more.
func (tr *traffic) await(answers int64) {
	timeout := time.After(patience)
	for tr.answered.Load() < answers {
		select {
		case <-tr.progress:
		case <-timeout:
			return
		}
	}
}

// end stops asking and fails the test unless every query had its answer.
func (tr *traffic) end() {
	tr.t.Helper()
	close(tr.stop)
	tr.wrote.Wait()
	sent := tr.sent.Load()
	tr.await(sent)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if lost := sent - tr.answered.Load(); lost != 0 || tr.failure != nil {
		tr.t.Errorf("%d of %d queries lost; an answer that failed:\n%v", lost, sent, tr.failure)
	}
}
