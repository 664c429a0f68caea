// Package forwarder turns one query into one answer: from local names, from
// the cache, from a flight for the same question that is already under way, or
// from an upstream; and when all of that fails, from a stale entry or as a
// SERVFAIL that says why.
//
// It knows neither sockets nor TLS. A Forwarder is safe for concurrent use.
package forwarder

import (
	"context"
	"log/slog"
	"time"

	"dnsproxy/internal/cache"
	"dnsproxy/internal/wire"
)

// Exchanger asks upstreams. *upstream.Group is one.
type Exchanger interface {
	// Exchange returns an upstream's response to q, or an error once ctx ends or all have failed.
	Exchange(ctx context.Context, q wire.Query) (wire.Response, error)
	// Down reports whether no upstream is likely to answer now.
	Down() bool
}

// Route sends the names under a domain to upstreams of their own.
type Route struct {
	Domain    string // presentation form, without the last dot; "" is the root
	Scope     uint32 // separates the cached answers of different sets of upstreams
	Exchanger Exchanger
}

// Settings is what Apply swaps in one piece.
type Settings struct {
	Timeout        time.Duration // for one client's query, all attempts together
	MinTTL         time.Duration
	MaxTTL         time.Duration
	MaxNegativeTTL time.Duration
	ServeStale     time.Duration // how long past its lifetime an entry may serve; 0: not at all
	Prefetch       bool
	SpecialNames   bool    // answer special-use names here
	Routes         []Route // exactly one has the Domain ""
}

// Forwarder answers queries.
type Forwarder struct{}

// New returns a forwarder that answers from c and as s says.
func New(c *cache.Cache, s Settings, log *slog.Logger) *Forwarder { panic("not built yet") }

// Apply replaces the settings. Queries under way end on those they began with.
func (f *Forwarder) Apply(s Settings) { panic("not built yet") }

// AppendCached appends the answer to q if it can be known without waiting: cached or local.
// now is the time of the query. It allocates nothing.
func (f *Forwarder) AppendCached(dst []byte, q wire.Query, limit int, now time.Time) (answer []byte, ok bool) {
	panic("not built yet")
}

// AppendAnswer appends the answer to q, waiting for it as long as Settings.Timeout at the most.
func (f *Forwarder) AppendAnswer(ctx context.Context, dst []byte, q wire.Query, limit int) []byte {
	panic("not built yet")
}

// Close waits for what is being refreshed in the background, after cutting it short.
func (f *Forwarder) Close() { panic("not built yet") }
