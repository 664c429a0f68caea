package dottest

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Conn is one connection of a client.
type Conn struct {
	s     *Server
	raw   net.Conn
	rec   *recorder
	tls   *tls.Conn
	index int
	done  chan struct{} // closed when the connection has ended

	mu   sync.Mutex // guards held, and each write
	held []*Query
}

// Query is one that a client sent.
type Query struct {
	Msg     *dns.Msg
	Raw     []byte
	Seq     int // counted from 1 at the server
	ConnSeq int // counted from 1 on the connection
	Conn    *Conn
}

func (c *Conn) run() {
	defer c.s.gone(c)
	defer close(c.done)
	defer c.raw.Close()
	c.s.wait()
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	err := c.tls.HandshakeContext(ctx)
	cancel()
	c.s.noteHandshake(c, err)
	if err != nil {
		return
	}
	for {
		q, err := c.read()
		if err != nil {
			c.tls.Close()
			return
		}
		c.s.next()(q)
	}
}

func (c *Conn) read() (*Query, error) {
	if c.s.idle > 0 {
		c.tls.SetReadDeadline(time.Now().Add(c.s.idle))
	}
	var size [2]byte
	if _, err := io.ReadFull(c.tls, size[:]); err != nil {
		return nil, err
	}
	raw := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c.tls, raw); err != nil {
		return nil, err
	}
	c.s.wait()
	q := &Query{Raw: raw, Conn: c}
	msg := new(dns.Msg)
	if msg.Unpack(raw) == nil {
		q.Msg = msg
	} else {
		c.s.t.Errorf("dottest: query does not unpack: %x", raw)
		q.Msg = new(dns.Msg)
	}
	q.Seq, q.ConnSeq = c.s.note(c, q.Msg, len(raw))
	return q, nil
}

// Send sends msg behind its length, in one write.
func (c *Conn) Send(msg []byte) {
	c.SendBytes(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
}

// SendBytes sends b as it is.
func (c *Conn) SendBytes(b []byte) {
	c.s.wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tls.Write(b) // a client that has gone is no concern of the server's
}

// Close sends close_notify and FIN.
func (c *Conn) Close() {
	c.mu.Lock()
	c.tls.CloseWrite()
	c.mu.Unlock()
	c.raw.Close()
}

// CloseRaw sends FIN without close_notify, as many servers do.
func (c *Conn) CloseRaw() { c.raw.Close() }

// Reset sends RST.
func (c *Conn) Reset() {
	switch raw := c.raw.(type) {
	case *net.TCPConn:
		raw.SetLinger(0)
		raw.Close()
	case *pipeConn:
		raw.reset()
	}
}
