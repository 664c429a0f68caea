package forwarder

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"dnsproxy/internal/wire"
)

// flight is one question on its way to the upstreams, for all who ask it
// meanwhile: one query instead of many, and no birthday attack (RFC 5452, section 5).
type flight struct {
	done     chan struct{} // closed once the fields below are set
	response wire.Response
	failed   bool // response is ours, as no upstream gave one
}

// landed returns the response if it has come.
func (fl *flight) landed() (wire.Response, bool) {
	select {
	case <-fl.done:
		return fl.response, true
	default:
		return wire.Response{}, false
	}
}

// flights are those under way.
type flights struct {
	mu    sync.Mutex // guards byKey; never held while waiting
	byKey map[string]*flight
}

// join returns the flight for key, and whether the caller is the one to lead it.
func (fs *flights) join(key []byte) (fl *flight, leader bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fl, ok := fs.byKey[string(key)]; ok {
		return fl, false
	}
	fl = &flight{done: make(chan struct{})}
	fs.byKey[string(key)] = fl
	return fl, true
}

// land ends a flight with r, which is ours if it failed.
func (fs *flights) land(fl *flight, key []byte, r wire.Response, failed bool) {
	fs.mu.Lock()
	delete(fs.byKey, string(key))
	fs.mu.Unlock()
	fl.response, fl.failed = r, failed
	close(fl.done)
}

// lead asks the upstreams, remembers what they say, and ends the flight.
func (f *Forwarder) lead(ctx context.Context, fl *flight, q wire.Query, key []byte, route *Route, s *settings) {
	r, err := route.Exchanger.Exchange(withDeadline{ctx, time.Now().Add(s.Timeout)}, q)
	switch {
	case err == nil:
		f.store(key, r, s)
	case ctx.Err() != nil: // shutting down: nothing is known
		r = wire.NewFailure(wire.EDE{Code: wire.EDENotReady, Text: "shutting down", Set: true})
	default:
		f.stats.failures.Add(1)
		r = wire.NewFailure(reason(err))
		f.storeFailure(key, r, unreachableLifetime)
	}
	if f.log.Enabled(ctx, slog.LevelDebug) {
		f.log.Debug("query forwarded", "qname", presentation(q.QName()), "qtype", q.QType(), "rcode", r.RCode().Error(), "err", err)
	}
	f.flights.land(fl, key, r, err != nil)
}

// store keeps a response, with its TTLs clamped: answers for their lifetime,
// failures briefly, neither of them where RFC 2308 and RFC 2181 say not to.
func (f *Forwarder) store(key []byte, r wire.Response, s *settings) {
	switch r.Kind() {
	case wire.Positive:
		r.ClampTTL(s.minTTL, s.maxTTL)
	case wire.NoData, wire.NoName:
		r.ClampTTL(min(s.minTTL, s.maxNegativeTTL), s.maxNegativeTTL)
	case wire.Failure:
		f.storeFailure(key, r, failureLifetime)
		return
	default:
		return
	}
	if lifetime := r.Lifetime(); lifetime > 0 {
		f.cache.Put(key, r.Packed(), time.Now().Unix(), time.Duration(lifetime)*time.Second)
	}
}

// storeFailure keeps a failure beside what is stored for the same question.
func (f *Forwarder) storeFailure(key []byte, r wire.Response, lifetime time.Duration) {
	wire.SetKeyFailure(key, true)
	f.cache.Put(key, r.Packed(), time.Now().Unix(), lifetime)
	wire.SetKeyFailure(key, false)
}

// reason is why the upstreams gave no answer, for the client.
func reason(err error) wire.EDE {
	if e, ok := err.(interface {
		EDE() (code uint16, text string)
	}); ok {
		code, text := e.EDE()
		return wire.EDE{Code: code, Text: text, Set: true}
	}
	return wire.EDE{Code: wire.EDENetworkError, Text: err.Error(), Set: true}
}

// valuesOf is a context that carries what another one does, but ends by itself.
type valuesOf struct {
	context.Context
	values context.Context
}

// Value returns what the other context carries.
func (c valuesOf) Value(key any) any { return c.values.Value(key) }

// withDeadline is a context with a deadline and without a timer of its own: who
// takes it watches the deadline, with a timer that is needed anyway.
type withDeadline struct {
	context.Context
	deadline time.Time
}

// Deadline returns when the work should be given up.
func (c withDeadline) Deadline() (time.Time, bool) { return c.deadline, true }
