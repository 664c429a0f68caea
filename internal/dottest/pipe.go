package dottest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipeBuffer is how much a direction of a pipe holds, like a socket's buffers.
const pipeBuffer = 256 << 10

// pipe returns both ends of a connection in memory. Unlike net.Pipe it has
// buffers, and can be reset. It blocks on condition variables alone, so that a
// synctest bubble sees it waiting.
func pipe() (client, server *pipeConn) {
	up, down := newStream(), newStream()
	return &pipeConn{in: down, out: up}, &pipeConn{in: up, out: down}
}

// stream is one direction.
type stream struct {
	mu       sync.Mutex
	cond     *sync.Cond
	data     []byte
	eof      bool
	err      error // for both ends, at once
	closed   bool  // by the reader
	drop     bool  // what is written is lost
	deadline [2]time.Time
	timer    [2]*time.Timer
}

const (
	forReading = iota
	forWriting
)

func newStream() *stream {
	s := &stream{}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, net.ErrClosed
		case s.err != nil:
			return 0, s.err
		case len(s.data) > 0:
			n := copy(b, s.data)
			s.data = s.data[n:]
			s.cond.Broadcast()
			return n, nil
		case s.eof:
			return 0, io.EOF
		case s.passed(forReading):
			return 0, os.ErrDeadlineExceeded
		}
		s.cond.Wait()
	}
}

func (s *stream) write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := len(b)
	for len(b) > 0 {
		switch {
		case s.eof:
			return total - len(b), net.ErrClosed
		case s.err != nil:
			return total - len(b), s.err
		case s.closed:
			return total - len(b), syscall.EPIPE
		case s.passed(forWriting):
			return total - len(b), os.ErrDeadlineExceeded
		case s.drop:
			return total, nil
		case len(s.data) < pipeBuffer:
			n := min(len(b), pipeBuffer-len(s.data))
			s.data = append(s.data, b[:n]...)
			b = b[n:]
			s.cond.Broadcast()
			continue
		}
		s.cond.Wait()
	}
	return total, nil
}

func (s *stream) passed(which int) bool {
	d := s.deadline[which]
	return !d.IsZero() && !time.Now().Before(d)
}

func (s *stream) setDeadline(which int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer[which] != nil {
		s.timer[which].Stop()
		s.timer[which] = nil
	}
	s.deadline[which] = at
	if !at.IsZero() {
		s.timer[which] = time.AfterFunc(time.Until(at), s.wake)
	}
	s.cond.Broadcast()
}

func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cond.Broadcast()
}

func (s *stream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	for _, t := range s.timer {
		if t != nil {
			t.Stop()
		}
	}
	s.cond.Broadcast()
}

type pipeConn struct{ in, out *stream }

func (c *pipeConn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *pipeConn) Write(b []byte) (int, error) { return c.out.write(b) }

// Close ends both directions as a socket does: the peer reads what is under way, then EOF.
func (c *pipeConn) Close() error {
	c.out.change(func() { c.out.eof = true })
	c.in.change(func() { c.in.closed = true })
	return nil
}

// reset ends both directions at once, as RST does.
func (c *pipeConn) reset() {
	for _, s := range []*stream{c.in, c.out} {
		s.change(func() { s.data, s.err = nil, syscall.ECONNRESET })
	}
}

// setDrop makes the network lose what is sent in either direction, or not.
func (c *pipeConn) setDrop(drop bool) {
	for _, s := range []*stream{c.in, c.out} {
		s.mu.Lock()
		s.drop = drop
		s.mu.Unlock()
	}
}

func (c *pipeConn) LocalAddr() net.Addr  { return pipeAddr{} }
func (c *pipeConn) RemoteAddr() net.Addr { return pipeAddr{} }

func (c *pipeConn) SetDeadline(t time.Time) error {
	c.in.setDeadline(forReading, t)
	c.out.setDeadline(forWriting, t)
	return nil
}

func (c *pipeConn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(forReading, t)
	return nil
}

func (c *pipeConn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(forWriting, t)
	return nil
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
