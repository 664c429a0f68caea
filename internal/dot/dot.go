// Package dot is one address of an upstream over DNS over TLS (RFC 7858): it
// dials once, authenticates, pipelines queries under IDs of its own, matches
// the responses, and says how the session fares.
//
// It does not choose among addresses, retry or hedge: package upstream does.
// A Client is safe for concurrent use.
package dot

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"time"

	"dnsproxy/internal/spki"
	"dnsproxy/internal/wire"
)

// Endpoint is one address of an upstream and everything that decides whether
// what answers there is that upstream.
type Endpoint struct {
	Upstream   string         // the upstream's name in the configuration, for people
	Addr       netip.AddrPort // where to connect
	ServerName string         // authentication name and SNI; "" if the pins alone authenticate
	Roots      *x509.CertPool // trust anchors for ServerName
	RootsID    string         // identifies Roots: equal strings mean equal trust anchors
	Pins       spki.Set
	ReportOnly bool // a pin mismatch is reported, not refused; needs ServerName
	Suites     []uint16
	Groups     []tls.CurveID
	RequirePQ  bool // refuse a key exchange that is not post-quantum
}

// Equal reports whether two endpoints are the same in all that matters, so
// that a session to one may serve the other.
func (e Endpoint) Equal(o Endpoint) bool { panic("not built yet") }

// Result is what became of one query on one session. Either Err is nil and
// Response is the upstream's, or Err says why there is none.
type Result struct {
	Response wire.Response
	Err      error
	Client   *Client
}

// State is how a client's session fares.
type State uint8

// The states of a client.
const (
	Idle       State = iota // no session, none needed
	Connecting              // dialing or shaking hands
	Ready                   // a session is up
	Suspect                 // a session is up, but silent for longer than usual
	BackingOff              // the last attempt failed; see Health.Until
)

// Health is what a chooser among clients needs to know.
type Health struct {
	State   State
	RTT     time.Duration // smoothed time of answers; 0: not known yet
	RTTVar  time.Duration // smoothed deviation of RTT (RFC 6298)
	Pending int           // queries in flight
	Until   time.Time     // BackingOff: when the next attempt may be made
	Err     error         // why the last session or attempt ended, nil after a success
}

// Client holds at most one session to one endpoint, opened when first needed.
type Client struct{}

// NewClient returns a client that has not dialled yet.
func NewClient(e Endpoint, log *slog.Logger) *Client { panic("not built yet") }

// Pending is a query in flight.
type Pending struct{}

// Send sends q and delivers exactly one Result to results, which must have room
// for it, unless the Pending is cancelled first. It does not block. Without a
// session, the query waits for the one that is then dialled.
func (c *Client) Send(q wire.Query, results chan<- Result) Pending { panic("not built yet") }

// Cancel gives up on the response. The query's ID stays out of use for a while.
func (p Pending) Cancel() { panic("not built yet") }

// Silent reports whether the session that p was sent on has received nothing at
// all since, which makes it suspect: the client then opens a replacement beside
// it, and says Suspect until a response arrives on either.
func (p Pending) Silent() bool { panic("not built yet") }

// Health returns the client's present state.
func (c *Client) Health() Health { panic("not built yet") }

// Endpoint returns what NewClient was given.
func (c *Client) Endpoint() Endpoint { panic("not built yet") }

// Close ends the session and waits for its goroutines. Queries in flight end with an error.
func (c *Client) Close() { panic("not built yet") }
