// Package upstream chooses among upstreams: order, retry, hedge and back-off,
// within one deadline.
//
// It knows nothing of TLS or of messages' contents. A Pool and its Groups are
// safe for concurrent use.
package upstream

import (
	"context"
	"log/slog"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/wire"
)

// Policy is the order in which healthy upstreams are asked.
type Policy string

// The policies.
const (
	Ordered Policy = "ordered" // the first healthy one
	Fastest Policy = "fastest" // the one that answers soonest
	Spread  Policy = "spread"  // all in turn
)

// Upstream is a recursive resolver with one or more addresses.
type Upstream struct {
	Name      string
	Endpoints []dot.Endpoint // in the order of the configuration
}

// Settings is how a Group chooses.
type Settings struct {
	Policy      Policy
	HedgeBudget float64 // share of queries that may also go to a second upstream while the first may still answer
}

// Pool holds one client for each endpoint in use.
type Pool struct{}

// NewPool returns an empty pool.
func NewPool(log *slog.Logger) *Pool { panic("not built yet") }

// Update makes the pool serve ups. The client of an endpoint that is equal to one in use
// is kept with its session; others are created, and those no longer wanted finish what
// is in flight and close.
func (p *Pool) Update(ups []Upstream, s Settings) { panic("not built yet") }

// Group returns the chooser among the named upstreams of the last Update, all of them if none is named.
func (p *Pool) Group(names ...string) *Group { panic("not built yet") }

// Close closes all clients and waits for them.
func (p *Pool) Close() { panic("not built yet") }

// Group is an ordered choice of upstreams.
type Group struct{}

// Exchange asks until there is a response or ctx ends. The error, an *Error, tells of each attempt.
func (g *Group) Exchange(ctx context.Context, q wire.Query) (wire.Response, error) {
	panic("not built yet")
}

// Down reports whether no upstream of the group is likely to answer now: all are backing off or suspect.
func (g *Group) Down() bool { panic("not built yet") }
