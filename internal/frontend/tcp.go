package frontend

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"dnsproxy/internal/wire"
)

const (
	// maxMessage is the largest message over TCP (RFC 1035, section 4.2.2).
	maxMessage = 1<<16 - 1
	// prefix is the length that precedes each message.
	prefix = 2
	// readSize is what a client's buffer has at first: room for some dozens of queries.
	readSize = 2048
	// maxInFlight is how many queries of one client may wait for an upstream; with
	// more, its connection is not read (RFC 9210, section 4.2).
	maxInFlight = 256
	// maxQueued is how many octets may wait to be written to a client that does not read.
	maxQueued = 256 << 10
	// writeTimeout is how long a client may take to read what it asked for.
	writeTimeout = 5 * time.Second
	// acceptPause is how long to wait when no descriptor is left for a client.
	acceptPause = 100 * time.Millisecond
)

// serveTCP accepts clients of one listener until ctx ends.
func (f *Frontend) serveTCP(ctx context.Context, listener *net.TCPListener) error {
	for {
		conn, err := listener.AcceptTCP()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
			f.log.Warn("no room for a TCP client", "err", err)
			f.clients.evict()
			pause(ctx, acceptPause)
			continue
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case err != nil:
			continue // the client has gone before it was accepted (accept(2))
		}
		f.accept(conn)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// accept starts to serve conn. With too many clients, the idlest one has to go (RFC 7766, section 6.2.3); if none is idle,
// the newcomer has.
func (f *Frontend) accept(conn *net.TCPConn) {
	l := f.limits.Load()
	if f.clients.count() >= l.TCPClients && !f.clients.evict() {
		f.stats.tcpShed.Add(1)
		conn.Close()
		return
	}
	c := &tcpClient{frontend: f, conn: conn, addr: conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()}
	c.writable.L = &c.mu
	c.touch(time.Now())
	if f.clients.add(c) {
		f.readers.Go(c.serve)
	}
}

// tcpClient is one connection.
type tcpClient struct {
	frontend *Frontend
	conn     *net.TCPConn
	addr     netip.Addr

	lastActive atomic.Int64 // when a complete query was read or an answer written, Unix nanoseconds
	inFlight   atomic.Int64 // queries waiting for an upstream
	answers    sync.WaitGroup

	mu       sync.Mutex // guards the fields below; not held while writing to the network
	writable sync.Cond  // signalled when queued was taken, or writing is over
	queued   []byte
	writing  bool
	broken   bool // nothing more can be written
}

func (c *tcpClient) touch(now time.Time) { c.lastActive.Store(now.UnixNano()) }

// idle reports whether the client is owed nothing.
func (c *tcpClient) idle() bool { return c.inFlight.Load() == 0 }

// serve reads queries until the client closes, goes idle or misbehaves; then it
// waits for the answers that are due (RFC 7766, section 6.2.4).
func (c *tcpClient) serve() {
	defer c.frontend.clients.remove(c)
	defer c.conn.Close()
	defer c.answers.Wait()
	buf := make([]byte, readSize)
	var answers []byte
	used := 0
	for {
		n, ok := c.read(buf[used:])
		if !ok {
			return
		}
		used += n
		var rest []byte
		answers, rest, ok = c.answerAll(answers[:0], buf[:used])
		if len(answers) > 0 && !c.write(answers) || !ok {
			return
		}
		need := used
		used = copy(buf, rest)
		if used >= prefix {
			need = prefix + int(binary.BigEndian.Uint16(buf))
		}
		if need > len(buf) {
			buf = append(make([]byte, 0, need), buf[:used]...)[:need]
		}
	}
}

// read reads what there is. It gives up on a client that has sent no complete query for
// the idle timeout while no answer is due: octets alone do not keep a
// connection (RFC 9210, section 4.5).
func (c *tcpClient) read(buf []byte) (n int, ok bool) {
	for {
		timeout := c.frontend.limits.Load().TCPIdleTimeout
		if !c.frontend.clients.extend(c, time.Unix(0, c.lastActive.Load()).Add(timeout)) {
			return 0, false
		}
		n, err := c.conn.Read(buf)
		switch {
		case n > 0:
			return n, true
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.idle():
			c.touch(time.Now())
		default:
			return 0, false
		}
	}
}

// answerAll answers the complete messages in msgs, as far as that can be done at once, and returns what is left of them. It
// reports false if the connection is to be closed.
func (c *tcpClient) answerAll(dst, msgs []byte) (answers, rest []byte, ok bool) {
	f := c.frontend
	now := time.Now()
	l := f.limits.Load()
	known := 0
	for len(msgs) >= prefix {
		size := int(binary.BigEndian.Uint16(msgs))
		if len(msgs)-prefix < size {
			break
		}
		f.stats.tcpQueries.Add(1)
		c.touch(now)
		start := len(dst)
		dst, ok = c.answerTCP(dst, msgs[prefix:prefix+size], l, now)
		if !ok {
			return dst, nil, false
		}
		if len(dst) > start {
			known++
		}
		msgs = msgs[prefix+size:]
	}
	if known > 0 {
		f.stats.known.Add(time.Since(now), known)
	}
	return dst, msgs, true
}

// answerTCP appends the answer to msg behind its length, if it is known now or an error, and hands the
// query over otherwise. It reports false for what is not a query.
func (c *tcpClient) answerTCP(dst, msg []byte, l *Limits, now time.Time) (answers []byte, ok bool) {
	f := c.frontend
	start := len(dst)
	q, err := wire.ParseQuery(msg)
	if err == wire.ErrIgnore {
		f.stats.ignored.Add(1)
		return dst, false
	}
	q.AnswerKeepalive(uint16(min(l.TCPIdleTimeout/(100*time.Millisecond), maxMessage)))
	dst = append(dst, 0, 0)
	rcode, malformed := err.(wire.RCode)
	known := true
	switch {
	case malformed:
		f.stats.malformed.Add(1)
		dst = wire.AppendError(dst, q, rcode, refusal(rcode))
	case !l.allowed(c.addr):
		f.stats.refused.Add(1)
		dst = wire.AppendError(dst, q, wire.Refused, edeProhibited)
	default:
		dst, known = f.handler.AppendCached(dst, q, maxMessage, now)
	}
	if !known && !f.admit(l) {
		known, dst = true, wire.AppendError(dst[:start+prefix], q, wire.ServFail, edeOverload)
	}
	if !known {
		c.answerLater(q.Clone(), now)
		return dst[:start], true
	}
	binary.BigEndian.PutUint16(dst[start:], uint16(len(dst)-start-prefix))
	return dst, true
}

// answerLater waits for the answer in a goroutine of its own, so that answers leave as they become
// ready (RFC 7766, section 7). With many under way, it first waits for one of them.
func (c *tcpClient) answerLater(q wire.Query, received time.Time) {
	f := c.frontend
	c.mu.Lock()
	for c.inFlight.Load() >= maxInFlight {
		c.writable.Wait()
	}
	c.mu.Unlock()
	c.inFlight.Add(1)
	c.answers.Add(1)
	f.crew.do(func() {
		defer c.answers.Done()
		answer := f.handler.AppendAnswer(f.answering, make([]byte, prefix, 512), q, maxMessage)
		f.release()
		f.stats.waited.Add(time.Since(received), 1)
		binary.BigEndian.PutUint16(answer, uint16(len(answer)-prefix))
		c.write(answer)
		c.touch(time.Now())
		c.inFlight.Add(-1)
		c.mu.Lock()
		c.writable.Broadcast()
		c.mu.Unlock()
	})
}

// write writes b, together with what others write meanwhile, or leaves it to
// the goroutine that is writing. It waits while too much is queued, and reports
// false once the client cannot be written to.
func (c *tcpClient) write(b []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing && len(c.queued) > maxQueued && !c.broken {
		c.writable.Wait()
	}
	c.queued = append(c.queued, b...)
	if c.writing {
		return !c.broken
	}
	c.writing = true
	if !c.idle() { // those who are ready too get to add theirs
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	for len(c.queued) > 0 && !c.broken {
		out := c.queued
		c.queued = nil
		c.mu.Unlock()
		c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := c.conn.Write(out)
		c.mu.Lock()
		if err != nil {
			c.broken = true
			c.frontend.log.Debug("TCP client gone", slog.Any("err", err))
			c.conn.CloseRead() // wakes the reader
		}
		c.writable.Broadcast()
	}
	c.writing = false
	return !c.broken
}
