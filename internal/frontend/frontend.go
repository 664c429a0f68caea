// Package frontend serves clients over UDP and TCP: it reads queries, checks
// them, bounds the load, and writes the answers that its Handler gives.
//
// It decides nothing about names. Run owns every goroutine of the package.
package frontend

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"dnsproxy/internal/wire"
)

// Handler answers queries. *forwarder.Forwarder is one.
type Handler interface {
	// AppendCached appends the answer if it is known without waiting.
	AppendCached(dst []byte, q wire.Query, limit int, now time.Time) (answer []byte, ok bool)
	// AppendAnswer appends the answer, waiting for it. It always has one.
	AppendAnswer(ctx context.Context, dst []byte, q wire.Query, limit int) []byte
}

// Sockets are the bound sockets to serve. The Frontend reads and writes them; Run leaves closing to the caller.
type Sockets struct {
	UDP []*net.UDPConn
	TCP []*net.TCPListener
}

// Limits bound the load, and say who is served.
type Limits struct {
	Allow          []netip.Prefix // clients; others are REFUSED
	Pending        int            // queries waiting for an upstream at once
	TCPClients     int            // TCP connections at once
	TCPIdleTimeout time.Duration
	UDPPayload     int // largest UDP answer, and the size that our OPT announces, in octets
}

// Frontend serves sockets.
type Frontend struct{}

// New returns a frontend that does not serve yet.
func New(s Sockets, h Handler, l Limits, log *slog.Logger) *Frontend { panic("not built yet") }

// Apply replaces the limits, for queries to come.
func (f *Frontend) Apply(l Limits) { panic("not built yet") }

// Run serves until ctx ends, then stops reading, answers what is in flight for up to drain, and returns.
func (f *Frontend) Run(ctx context.Context, drain time.Duration) error { panic("not built yet") }
