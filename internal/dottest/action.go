package dottest

import (
	"math/rand/v2"
	"net"
	"time"

	"github.com/miekg/dns"
)

// Action is what becomes of a query. It runs on the goroutine that reads the
// connection.
type Action func(*Query)

// Reply returns a sound response with one A record, 192.0.2.1 for 300 s, or an empty one to another QTYPE.
func (q *Query) Reply() *dns.Msg {
	m := new(dns.Msg).SetReply(q.Msg)
	m.RecursionAvailable = true
	if opt := q.Msg.IsEdns0(); opt != nil {
		m.SetEdns0(1232, opt.Do())
	}
	question := q.Msg.Question[0]
	if question.Qtype == dns.TypeA {
		m.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300},
			A:   net.IPv4(192, 0, 2, 1),
		}}
	}
	return m
}

// Send sends a response; nil is none.
func (q *Query) Send(m *dns.Msg) {
	if m == nil {
		return
	}
	b, err := m.Pack()
	if err != nil {
		q.Conn.s.t.Errorf("dottest: %v", err)
		return
	}
	q.Conn.Send(b)
}

// Answer sends Reply.
func Answer(q *Query) { q.Send(q.Reply()) }

// InTwoWrites sends Reply with its length apart.
func InTwoWrites(q *Query) {
	b, err := q.Reply().Pack()
	if err != nil {
		q.Conn.s.t.Errorf("dottest: %v", err)
		return
	}
	q.Conn.SendBytes([]byte{byte(len(b) >> 8), byte(len(b))})
	q.Conn.SendBytes(b)
}

// Never sends nothing.
func Never(*Query) {}

// Handle sends what f returns; nil is no answer.
func Handle(f func(*dns.Msg) *dns.Msg) Action {
	return func(q *Query) { q.Send(f(q.Msg)) }
}

// After does a when d has passed. Other queries are not held up.
func After(d time.Duration, a Action) Action {
	return func(q *Query) {
		q.Conn.s.wg.Go(func() {
			timer := time.NewTimer(d)
			defer timer.Stop()
			select {
			case <-timer.C:
				a(q)
			case <-q.Conn.done:
			}
		})
	}
}

// Reverse answers queries in groups of n, the last of each first.
func Reverse(n int) Action {
	return func(q *Query) {
		q.Conn.mu.Lock()
		held := append(q.Conn.held, q)
		q.Conn.held = held
		if len(held) == n {
			q.Conn.held = nil
		}
		q.Conn.mu.Unlock()
		if len(held) < n {
			return
		}
		for i := range held {
			Answer(held[n-1-i])
		}
	}
}

// Every does rare with every n-th query, and often with the others.
func Every(n int, rare, often Action) Action {
	return func(q *Query) {
		if q.Seq%n == 0 {
			rare(q)
		} else {
			often(q)
		}
	}
}

// CloseAfter answers n queries of each connection, and does end instead of answering the next.
func CloseAfter(n int, end Action) Action {
	return func(q *Query) {
		if q.ConnSeq <= n {
			Answer(q)
		} else {
			end(q)
		}
	}
}

// Ends of a connection, in place of a response.
func FIN(q *Query)     { q.Conn.Close() }    // close_notify and FIN
func BareFIN(q *Query) { q.Conn.CloseRaw() } // FIN without close_notify
func RST(q *Query)     { q.Conn.Reset() }
func Truncate(q *Query) { // half a response, close_notify and FIN
	b, _ := q.Reply().Pack()
	q.Conn.SendBytes(append([]byte{byte(len(b) >> 8), byte(len(b))}, b[:len(b)/2]...))
	q.Conn.Close()
}

// WrongID sends a response with another ID.
func WrongID(q *Query) {
	m := q.Reply()
	m.Id ^= 0x5555
	q.Send(m)
}

// WrongQuestion sends a response to another question.
func WrongQuestion(q *Query) {
	m := q.Reply()
	m.Question = []dns.Question{{Name: "other.example.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}
	q.Send(m)
}

// NoQuestion sends a response without any question.
func NoQuestion(q *Query) {
	m := q.Reply()
	m.Question = nil
	q.Send(m)
}

// Echo sends the query back.
func Echo(q *Query) { q.Conn.Send(q.Raw) }

// Garbage sends 100 random octets as a message with the query's ID.
func Garbage(q *Query) {
	b := append([]byte(nil), q.Raw[:2]...)
	for range 98 {
		b = append(b, byte(rand.Uint32()))
	}
	q.Conn.Send(b)
}

// Bytes sends b as a message with the query's ID.
func Bytes(b []byte) Action {
	return func(q *Query) { q.Conn.Send(append(append([]byte(nil), q.Raw[:2]...), b...)) }
}

// Twice sends the response two times.
func Twice(q *Query) {
	Answer(q)
	Answer(q)
}

// Keepalive answers, and announces an idle timeout of n times 100 ms to queries that ask for it (RFC 7828).
func Keepalive(n uint16) Action {
	return func(q *Query) {
		m := q.Reply()
		if AsksKeepalive(q.Msg) {
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE, Timeout: n})
		}
		q.Send(m)
	}
}

// AsksKeepalive reports whether a query carries edns-tcp-keepalive.
func AsksKeepalive(m *dns.Msg) bool {
	opt := m.IsEdns0()
	if opt == nil {
		return false
	}
	for _, o := range opt.Option {
		if o.Option() == dns.EDNS0TCPKEEPALIVE {
			return true
		}
	}
	return false
}
