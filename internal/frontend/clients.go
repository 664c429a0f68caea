package frontend

import (
	"math"
	"sync"
	"time"
)

// clients are the open TCP connections.
type clients struct {
	mu      sync.Mutex // guards the fields below
	open    map[*tcpClient]struct{}
	closing bool
}

func (cs *clients) count() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.open)
}

// add reports false, and closes c, if no more are served.
func (cs *clients) add(c *tcpClient) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closing {
		c.conn.Close()
		return false
	}
	cs.open[c] = struct{}{}
	return true
}

func (cs *clients) remove(c *tcpClient) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.open, c)
}

// evict closes the idle connection that has been quiet for longest, and reports
// whether there was one.
func (cs *clients) evict() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	var idlest *tcpClient
	since := int64(math.MaxInt64)
	for c := range cs.open {
		if last := c.lastActive.Load(); c.idle() && last < since {
			idlest, since = c, last
		}
	}
	if idlest == nil {
		return false
	}
	delete(cs.open, idlest)
	idlest.conn.Close()
	return true
}

// interrupt makes all connections end once they are answered.
func (cs *clients) interrupt() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.closing = true
	for c := range cs.open {
		c.conn.SetReadDeadline(past)
	}
}

// extend lets c be read until deadline, unless all are closing.
func (cs *clients) extend(c *tcpClient, deadline time.Time) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closing {
		return false
	}
	c.conn.SetReadDeadline(deadline)
	return true
}
