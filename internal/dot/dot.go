// Package dot is one address of an upstream over DNS over TLS (RFC 7858): it
// dials once, authenticates, pipelines queries under IDs of its own, matches
// the responses, and says how the session fares.
//
// It does not choose among addresses, retry or hedge: package upstream does.
// A Client is safe for concurrent use.
//
// A session has two goroutines: one writes all queries that are queued as one
// TLS record, one reads. Time is kept by one timer for each session; whoever
// sends a query keeps its deadline. One mutex for each client guards all state,
// and is never held across a read, a write or a handshake.
package dot

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
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

	// Dial connects in place of TCP if it is not nil. It is for tests, and no
	// part of what makes endpoints equal.
	Dial func(context.Context, netip.AddrPort) (net.Conn, error)
}

// Equal reports whether two endpoints are the same in all that matters, so
// that a session to one may serve the other.
func (e Endpoint) Equal(o Endpoint) bool {
	return e.Upstream == o.Upstream &&
		e.Addr == o.Addr &&
		e.ServerName == o.ServerName &&
		e.RootsID == o.RootsID &&
		slices.Equal(e.Pins, o.Pins) &&
		e.ReportOnly == o.ReportOnly &&
		slices.Equal(e.Suites, o.Suites) &&
		slices.Equal(e.Groups, o.Groups) &&
		e.RequirePQ == o.RequirePQ
}

// Result is what became of one query on one session. Either Err is nil and
// Response is the upstream's, or Err, an *Error, says why there is none.
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

// String returns the state as people read it.
func (s State) String() string {
	switch s {
	case Idle:
		return "idle"
	case Connecting:
		return "connecting"
	case Ready:
		return "ready"
	case Suspect:
		return "suspect"
	case BackingOff:
		return "backing off"
	default:
		return "unknown"
	}
}

// Health is what a chooser among clients needs to know.
type Health struct {
	State   State
	RTT     time.Duration // smoothed time of answers; 0: not known yet
	RTTVar  time.Duration // smoothed deviation of RTT (RFC 6298)
	Pending int           // queries in flight
	Until   time.Time     // BackingOff: when the next attempt may be made
	Err     error         // why the last session or attempt failed, nil after a response
}
