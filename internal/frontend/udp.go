package frontend

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"dnsproxy/internal/wire"
)

// udpSocket is one socket with its reader and the answers on their way out.
type udpSocket struct {
	in   *receiver
	out  *sender // of the reader, for hits
	late lateAnswers
}

func newUDPSocket(conn *net.UDPConn) (*udpSocket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	wildcard, err := packetInfo(conn, raw)
	if err != nil {
		return nil, fmt.Errorf("asking for the destination address of queries to %v: %w", conn.LocalAddr(), err)
	}
	return &udpSocket{in: newReceiver(raw, wildcard), out: newSender(raw), late: lateAnswers{out: newSender(raw)}}, nil
}

// serveUDP answers one socket until ctx ends. What is known is answered here, in the
// reader's goroutine, a batch with one system call; what must be waited for leaves
// with a copy of the query.
func (f *Frontend) serveUDP(ctx context.Context, s *udpSocket) error {
	answers := make([]byte, 0, batchSize*512) // one after the other
	err := s.in.each(func(n int) (more bool) {
		now := time.Now()
		limits := f.limits.Load()
		waiting := false
		answers = answers[:0]
		for i := range n {
			msg, from := s.in.message(i)
			start := len(answers)
			var pending bool
			answers, pending = f.answerUDP(answers, s, msg, from, limits, now)
			waiting = waiting || pending
			if len(answers) > start {
				s.out.add(answers[start:len(answers):len(answers)], from)
			}
		}
		f.stats.udpQueries.Add(uint64(n))
		if known := s.out.n; known > 0 {
			s.out.send()
			f.stats.known.Add(time.Since(now), known)
		}
		if waiting || n == batchSize {
			runtime.Gosched() // a reader that always finds datagrams would keep the others waiting for their turn
		}
		// What was received is answered even if ctx has ended meanwhile: nobody else will see it.
		return ctx.Err() == nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// answerUDP appends the answer to msg, if it is known now or an error. Otherwise it
// hands the query over, and reports pending.
func (f *Frontend) answerUDP(dst []byte, s *udpSocket, msg []byte, from *peer, l *Limits, now time.Time) (answer []byte, pending bool) {
	q, err := wire.ParseQuery(msg)
	rcode, malformed := err.(wire.RCode)
	switch {
	case malformed && from.hasPort():
		f.stats.malformed.Add(1)
		return wire.AppendError(dst, q, rcode, refusal(rcode)), false
	case err != nil || !from.hasPort():
		f.stats.ignored.Add(1)
		return dst, false
	case !l.allowed(from.addr()):
		f.stats.refused.Add(1)
		return wire.AppendError(dst, q, wire.Refused, edeProhibited), false
	}
	limit := min(q.UDPSize(), l.UDPPayload)
	if answer, known := f.handler.AppendCached(dst, q, limit, now); known {
		return answer, false
	}
	if !f.admit(l) {
		return wire.AppendError(dst, q, wire.ServFail, edeOverload), false
	}
	f.crew.do(newLateAnswer(f, s, q, from, limit, now).answer)
	return dst, true
}

// lateAnswer is a query that waits for an upstream, and its answer then.
type lateAnswer struct {
	frontend *Frontend
	socket   *udpSocket
	query    wire.Query
	peer     peer
	limit    int
	received time.Time
	message  []byte
}

func newLateAnswer(f *Frontend, s *udpSocket, q wire.Query, from *peer, limit int, now time.Time) *lateAnswer {
	return &lateAnswer{frontend: f, socket: s, query: q.Clone(), peer: *from, limit: limit, received: now}
}

// answer waits for the answer and sends it. If none has come by the end of the drain, silence serves the client
// better than a SERVFAIL: it asks again, and whoever serves the socket next answers.
func (a *lateAnswer) answer() {
	defer a.frontend.release()
	a.message = a.frontend.handler.AppendAnswer(a.frontend.answering, make([]byte, 0, 512), a.query, a.limit)
	if a.frontend.answering.Err() != nil {
		return
	}
	a.frontend.stats.waited.Add(time.Since(a.received), 1)
	a.socket.late.send(a)
}

// lateAnswers gathers answers that become ready together, as they do when an
// upstream's responses come in one read, into one system call.
type lateAnswers struct {
	mu      sync.Mutex // guards the fields below; not held during system calls
	ready   []*lateAnswer
	sending bool

	out *sender // of whoever set sending
}

// send sends a, or leaves it to the goroutine that is sending.
func (l *lateAnswers) send(a *lateAnswer) {
	l.mu.Lock()
	l.ready = append(l.ready, a)
	if l.sending {
		l.mu.Unlock()
		return
	}
	l.sending = true
	l.mu.Unlock()
	runtime.Gosched() // those who are ready too get to add theirs
	for {
		batch := l.take()
		if len(batch) == 0 {
			return
		}
		for len(batch) > 0 {
			n := min(len(batch), batchSize)
			for _, a := range batch[:n] {
				l.out.add(a.message, &a.peer)
			}
			l.out.send()
			batch = batch[n:]
		}
	}
}

// take returns what is ready. With nothing ready, sending is over.
func (l *lateAnswers) take() []*lateAnswer {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := l.ready
	l.ready = nil
	l.sending = len(batch) > 0
	return batch
}
