// Package frontend serves clients over UDP and TCP: it reads queries, checks
// them, bounds the load, and writes the answers that its Handler gives.
//
// It decides nothing about names. Run owns every goroutine of the package; a
// Frontend's other methods are safe for concurrent use.
package frontend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"dnsproxy/internal/wire"
)

// Handler answers queries.
type Handler interface {
	// AppendCached appends the answer if it is known without waiting. now is the time of the query.
	AppendCached(dst []byte, q wire.Query, limit int, now time.Time) (answer []byte, ok bool)
	// AppendAnswer appends the answer, waiting for it. It always has one.
	AppendAnswer(ctx context.Context, dst []byte, q wire.Query, limit int) []byte
}

// Sockets are the bound sockets to serve. Closing them is left to the caller.
type Sockets struct {
	UDP []*net.UDPConn
	TCP []*net.TCPListener
}

// Limits bound the load, and say who is served.
type Limits struct {
	Allow          []netip.Prefix // clients; others are REFUSED
	Pending        int            // queries waiting for an upstream at once
	TCPClients     int            // TCP connections at once
	TCPIdleTimeout time.Duration  // without a complete query or an answer due
	UDPPayload     int            // largest UDP answer, in octets
}

// Frontend serves sockets.
type Frontend struct {
	sockets Sockets
	handler Handler
	log     *slog.Logger
	limits  atomic.Pointer[Limits]
	stats   counters
	pending atomic.Int64 // queries waiting for an upstream

	// answering ends when those still waiting for an answer are to give up.
	answering context.Context
	giveUp    context.CancelFunc
	readers   sync.WaitGroup // of UDP sockets, listeners and TCP clients
	waiting   sync.WaitGroup // those of crew
	crew      crew           // waits for answers
	clients   clients
}

// New returns a frontend that does not serve yet.
func New(s Sockets, h Handler, l Limits, log *slog.Logger) *Frontend {
	f := &Frontend{sockets: s, handler: h, log: log}
	f.answering, f.giveUp = context.WithCancel(context.Background())
	f.crew = newCrew(&f.waiting)
	f.clients.open = make(map[*tcpClient]struct{})
	f.Apply(l)
	return f
}

// Apply replaces the limits, for queries to come.
func (f *Frontend) Apply(l Limits) { f.limits.Store(&l) }

// Run serves until ctx ends. Then it stops reading, which leaves what was not read to
// whoever serves the sockets next, answers what is in flight for as long as
// drain, and returns. It returns early if a socket cannot be served.
func (f *Frontend) Run(ctx context.Context, drain time.Duration) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for _, conn := range f.sockets.UDP {
		s, err := newUDPSocket(conn)
		if err != nil {
			return err
		}
		f.readers.Go(func() {
			if err := f.serveUDP(ctx, s); err != nil {
				stop(fmt.Errorf("serving UDP on %v: %w", conn.LocalAddr(), err))
			}
		})
	}
	for _, listener := range f.sockets.TCP {
		f.readers.Go(func() {
			if err := f.serveTCP(ctx, listener); err != nil {
				stop(fmt.Errorf("serving TCP on %v: %w", listener.Addr(), err))
			}
		})
	}
	<-ctx.Done()
	f.interrupt()
	giveUp := time.AfterFunc(drain, f.giveUp)
	f.readers.Wait()
	f.crew.dismiss()
	f.waiting.Wait()
	giveUp.Stop()
	f.giveUp()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// past is a deadline that interrupts whoever reads or accepts.
var past = time.Unix(1, 0)

func (f *Frontend) interrupt() {
	for _, conn := range f.sockets.UDP {
		conn.SetReadDeadline(past)
	}
	for _, listener := range f.sockets.TCP {
		listener.SetDeadline(past)
	}
	f.clients.interrupt()
}

// Answers to those who are not served, for whom there is no room, and to what is not served.
var (
	edeProhibited   = wire.EDE{Code: wire.EDEProhibited, Text: "the client's address is not allowed", Set: true}
	edeOverload     = wire.EDE{Code: wire.EDENotReady, Text: "too many queries wait for an upstream", Set: true}
	edeNotSupported = wire.EDE{Code: wire.EDENotSupported, Set: true}
)

// refusal returns the extended error that goes with an RCODE of wire.ParseQuery.
func refusal(rcode wire.RCode) wire.EDE {
	if rcode == wire.Refused || rcode == wire.NotImp {
		return edeNotSupported
	}
	return wire.EDE{}
}

// allowed reports whether the client may ask.
func (l *Limits) allowed(client netip.Addr) bool {
	for _, p := range l.Allow {
		if p.Contains(client) {
			return true
		}
	}
	return false
}

// admit takes one of the places for pending queries; release gives it back.
func (f *Frontend) admit(l *Limits) bool {
	if f.pending.Add(1) <= int64(l.Pending) {
		return true
	}
	f.pending.Add(-1)
	f.stats.shed.Add(1)
	return false
}

func (f *Frontend) release() { f.pending.Add(-1) }
