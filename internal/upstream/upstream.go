// Package upstream chooses among upstreams: order, retry, hedge and back-off,
// within one deadline.
//
// It knows nothing of TLS or of messages' contents, and it opens no connection:
// package dot does. A Pool and its Groups are safe for concurrent use.
//
// Words used here: a candidate is one address of an upstream with its client. An
// attempt is one query sent to one candidate. A retry repeats an attempt on the
// candidate whose session ended; a failover goes to another candidate since the
// first is held to have failed; a hedge asks a second candidate while the first
// may still answer, and is the only one that a budget limits.
package upstream

import (
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

// client is what a candidate needs of a *dot.Client.
type client interface {
	// Send is dot.Client.Send. The client may keep its own Pending in keep, to save an allocation.
	Send(q wire.Query, results chan<- dot.Result, keep *dot.Pending) pending
	Open()
	Health() dot.Health
	Stats() dot.Stats
	Close()
}

// pending is what an attempt needs of a dot.Pending.
type pending interface {
	Cancel() bool
	Silent() bool
}

// dotClient is a *dot.Client as a client.
type dotClient struct{ *dot.Client }

// Send sends q.
func (c dotClient) Send(q wire.Query, results chan<- dot.Result, keep *dot.Pending) pending {
	*keep = c.Client.Send(q, results)
	return keep
}
