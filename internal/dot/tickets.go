package dot

import (
	"crypto/tls"
	"sync"
	"time"
)

// maxTickets is how many tickets a client keeps: servers send one or two for
// each session.
const maxTickets = 4

// resumeFor is how long after a full handshake sessions are resumed. A resumed one has the certificates of that
// handshake, and tickets beget tickets: without a bound, a certificate that the upstream has renewed would be seen
// when the old one ends.
const resumeFor = time.Hour

// tickets is the session tickets of one client, and so of one TLS policy:
// resuming a session under another would bypass it. Each is used once, so that
// nobody on the path can link sessions by it (RFC 8446, appendix C.4).
type tickets struct {
	mu   sync.Mutex
	held []*tls.ClientSessionState // the newest last
	full time.Time                 // when the last full handshake ended, by the wall clock, which goes on in suspend
}

// authenticated notes a full handshake.
func (t *tickets) authenticated(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.full = now.Round(0)
}

// Get takes the newest ticket. The key is always that of the one upstream.
func (t *tickets) Get(string) (*tls.ClientSessionState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if age := time.Now().Round(0).Sub(t.full); !t.full.IsZero() && (age < 0 || age > resumeFor) {
		t.held = nil
	}
	if len(t.held) == 0 {
		return nil, false
	}
	newest := t.held[len(t.held)-1]
	t.held = t.held[:len(t.held)-1]
	return newest, true
}

// Put keeps a ticket. crypto/tls puts nil when resumption failed, and then none
// of the older ones is worth trying.
func (t *tickets) Put(_ string, state *tls.ClientSessionState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if state == nil {
		t.held = nil
		return
	}
	if len(t.held) == maxTickets {
		t.held = append(t.held[:0], t.held[1:]...)
	}
	t.held = append(t.held, state)
}
