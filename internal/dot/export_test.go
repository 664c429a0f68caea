package dot

import "time"

// Tickets returns how many session tickets c holds.
func Tickets(c *Client) int {
	t := c.tls.ClientSessionCache.(*tickets)
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held)
}

// ShareTickets makes both clients use the tickets of the first, which NewClient never does.
func ShareTickets(from, to *Client) { to.tls.ClientSessionCache = from.tls.ClientSessionCache }

// Suspend makes it look as if the machine had slept for d: the wall clock went on alone.
func Suspend(c *Client, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.current; s != nil {
		s.active = s.active.Round(0).Add(-d)
	}
}

// DialTCP connects as clients do.
var DialTCP = dialTCP
