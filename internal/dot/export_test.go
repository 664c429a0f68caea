package dot

// Tickets returns how many session tickets c holds.
func Tickets(c *Client) int {
	t := c.tls.ClientSessionCache.(*tickets)
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held)
}

// ShareTickets makes both clients use the tickets of the first, which NewClient never does.
func ShareTickets(from, to *Client) { to.tls.ClientSessionCache = from.tls.ClientSessionCache }
