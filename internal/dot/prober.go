package dot

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"dnsproxy/internal/spki"
)

// Prober opens sessions to an endpoint for somebody who wants to see how a Client would
// fare there. It is not safe for concurrent use.
type Prober struct {
	c    *Client // for its endpoint and its tickets; it has no session
	seen tickets // of Look
}

// NewProber returns a prober of e that has not dialled yet.
func NewProber(e Endpoint) *Prober {
	c := &Client{e: e}
	c.tls = newTLSConfig(&c.e)
	return &Prober{c: c}
}

// Handshake is how far one came.
type Handshake struct {
	State       tls.ConnectionState
	PostQuantum bool          // so the key exchange was
	Connect     time.Duration // 0: it did not come to that
	Took        time.Duration // for the handshake alone; 0: as above
}

func (h *Handshake) note(conn *tls.Conn, began time.Time) {
	h.Took, h.State = time.Since(began), conn.ConnectionState()
	h.PostQuantum = isPQ(h.State.CurveID)
}

// Open opens a session as a Client does: within the same time, by the same checks and
// with the tickets of the sessions before. The error is an *Error.
func (p *Prober) Open(ctx context.Context) (*tls.Conn, Handshake, error) {
	var h Handshake
	began := time.Now()
	raw, err := p.c.reach(ctx)
	if err != nil {
		return nil, h, err
	}
	h.Connect = time.Since(began)
	began = time.Now()
	conn, err := p.c.secure(ctx, raw)
	if err != nil {
		return nil, h, err
	}
	h.note(conn, began)
	return conn, h, nil
}

// Matched returns the pin that authenticates a session that was opened. It is ok, too, if the
// endpoint has no pins.
func (p *Prober) Matched(cs tls.ConnectionState) (pin spki.Pin, ok bool) { return p.c.e.pinned(cs) }

// ticketTime is for how long Look waits for a ticket, which follows the handshake
// (RFC 8446, section 4.6.1).
const ticketTime = 200 * time.Millisecond

// Look shakes hands with whoever is there, whatever certificate, version, suite and group that may
// bring, and closes the connection: nobody has been authenticated, so nothing can be
// said. A second Look resumes if the server lets it.
func (p *Prober) Look(ctx context.Context) (Handshake, error) {
	var h Handshake
	began := time.Now()
	raw, err := p.c.reach(ctx)
	if err != nil {
		return h, err
	}
	defer raw.Close()
	h.Connect = time.Since(began)
	tickets := &ticketWatch{tickets: &p.seen}
	began = time.Now()
	conn, err := handshake(ctx, raw, &tls.Config{
		ServerName:         p.c.e.ServerName,
		InsecureSkipVerify: true, // and so the connection is not given to anybody
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{alpn},
		ClientSessionCache: tickets,
	}, nil)
	if err != nil {
		reason, err := explain(err)
		return h, p.c.errorf(reason, "TLS handshake", err)
	}
	h.note(conn, began)
	if h.State.Version == tls.VersionTLS13 {
		tickets.tell = raw
		_ = raw.SetReadDeadline(time.Now().Add(h.Connect + ticketTime))
		_, _ = conn.Read(make([]byte, 1)) // takes the ticket in; nothing else is due
	}
	return h, nil
}

// ticketWatch ends the reading from a connection when a ticket has come.
type ticketWatch struct {
	*tickets
	tell net.Conn // nil: during the handshake
}

// Put keeps a ticket.
func (w *ticketWatch) Put(key string, state *tls.ClientSessionState) {
	w.tickets.Put(key, state)
	if w.tell != nil {
		_ = w.tell.SetReadDeadline(time.Unix(1, 0))
	}
}
