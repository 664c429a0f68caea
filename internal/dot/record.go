package dot

import (
	"bufio"
	"net"
	"syscall"
	"time"
)

// readBuffer is how much is read from the network at once: many small records
// cost one system call.
const readBuffer = 32 << 10

// recordConn is the connection below TLS. One goroutine reads, one writes.
type recordConn struct {
	net.Conn
	in          *bufio.Reader
	beforeHello func() // called before the first write, if not nil

	socket        syscall.RawConn // nil if it is not TCP
	stream        *stream         // the same
	reads, writes int             // so many first ones, up to eager
	lastRead      time.Time
}

const (
	// A server that leaves Nagle's algorithm on, as unbound does, holds a response back until what it sent
	// before is acknowledged, and the kernel may delay that by 40 ms: seen with the tickets
	// that come before the first response. So the first reads and writes of a session, and reads after
	// a pause, ask for acknowledgements at once (TCP_QUICKACK, tcp(7), which does
	// not last). Under load the next query carries them.
	eager = 8
	pause = 5 * time.Millisecond
)

func newRecordConn(raw net.Conn, beforeHello func()) *recordConn {
	c := &recordConn{Conn: raw, beforeHello: beforeHello}
	if tcp, ok := raw.(*net.TCPConn); ok {
		if socket, err := tcp.SyscallConn(); err == nil {
			c.socket, c.stream = socket, newStream(raw, socket)
			c.Conn = c.stream
		}
	}
	c.in = bufio.NewReaderSize(c.Conn, readBuffer)
	return c
}

// established makes reads and writes cheap, once the handshake is over.
func (c *recordConn) established() {
	if c.stream != nil {
		c.stream.quiet = true
	}
}

func (c *recordConn) Read(b []byte) (int, error) {
	if c.socket == nil || c.in.Buffered() > 0 {
		return c.in.Read(b)
	}
	n, err := c.in.Read(b)
	now := time.Now()
	if c.reads < eager || now.Sub(c.lastRead) > pause {
		c.reads++
		acknowledge(c.socket)
	}
	c.lastRead = now
	return n, err
}

func (c *recordConn) Write(b []byte) (int, error) {
	if f := c.beforeHello; f != nil {
		c.beforeHello = nil
		f()
	}
	n, err := c.Conn.Write(b)
	if c.socket != nil && c.writes < eager {
		c.writes++
		acknowledge(c.socket)
	}
	return n, err
}
