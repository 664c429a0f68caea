package upstream

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dnsproxy/internal/dot"
)

// Event is what happened to a query at an upstream.
type Event string

// The events.
const (
	PassedOver Event = "passed over" // it would have been the choice, but for its failure before
	Asked      Event = "asked"
	AskedAgain Event = "asked again"
	Hedged     Event = "asked as well" // while the first may still answer
	Lost       Event = "given up"      // though its answer would still do
	Failed     Event = "failed"
	Answered   Event = "answered"
)

// Step is one event of an exchange.
type Step struct {
	After    time.Duration // since the exchange began
	Upstream string
	Addr     netip.AddrPort
	Event    Event
	State    dot.State // of the address's session then
	Reason   Reason    // of PassedOver, Lost and Failed
	Err      error     // what package dot said of it, if anything
}

// Trace records the steps of the exchange whose context carries it. It is safe for concurrent use.
type Trace struct {
	mu    sync.Mutex
	steps []Step
}

type traceKey struct{}

// WithTrace returns a context that carries t.
func WithTrace(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

func traceOf(ctx context.Context) *Trace {
	t, _ := ctx.Value(traceKey{}).(*Trace)
	return t
}

// Steps returns what has happened so far.
func (t *Trace) Steps() []Step {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.steps)
}

// note records a step if anybody wants to know.
func (x *exchange) note(position int, event Event, why Reason, err error, now instant) {
	t := x.trace
	if t == nil {
		return
	}
	c := x.group.candidates[position]
	step := Step{
		After: now - x.begun, Upstream: c.endpoint.Upstream, Addr: c.endpoint.Addr,
		Event: event, State: c.client.Health().State, Reason: why, Err: err,
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps = append(t.steps, step)
}
