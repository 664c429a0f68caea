package forwarder

import (
	"context"
	"time"

	"dnsproxy/internal/wire"
)

// Source is where an answer comes from.
type Source uint8

// The sources.
const (
	Unknown      Source = iota // not known without asking an upstream
	Local                      // a special-use name
	Cached                     // an entry within its lifetime
	Stale                      // an entry past it
	KnownFailure               // a remembered failure
	Upstream                   // asked for now
	Nobody                     // asked for now, in vain
)

// Explanation is the way of one query.
type Explanation struct {
	Domain    string    // of the route; "" is the root
	Exchanger Exchanger // the route's
	Entry     *Stored   // what the cache had when the query came; nil: nothing, or it was not looked at
	Failure   *Stored   // the failure that was remembered then
	Source    Source
	Answer    []byte // the message
}

// Stored is what the cache has for a question.
type Stored struct {
	RCode    wire.RCode
	Age      time.Duration
	Lifetime time.Duration
	Hits     int // since it was stored, up to 254
}

// Fresh reports whether it is within its lifetime.
func (s *Stored) Fresh() bool { return s.Age >= 0 && s.Age < s.Lifetime }

// Explain answers q, which desires recursion, as a client's in at most limit octets, and tells how. What ctx carries reaches the Exchanger, unless
// the same question is already on its way.
func (f *Forwarder) Explain(ctx context.Context, q wire.Query, limit int) Explanation {
	s := f.settings.Load()
	key := q.AppendKey(make([]byte, 0, wire.MaxKey), 0)
	name := wire.KeyName(key)
	route, depth := s.route(name)
	e := Explanation{Domain: route.Domain, Exchanger: route.Exchanger}
	if s.SpecialNames {
		if answer, ok := appendSpecial(nil, q, name, depth); ok {
			e.Answer, e.Source = answer, Local
			return e
		}
	}
	now := time.Now()
	wire.SetKeyScope(key, route.Scope)
	e.Entry = f.stored(key, now)
	wire.SetKeyFailure(key, true)
	if e.Failure = f.stored(key, now); e.Failure != nil && !e.Failure.Fresh() {
		e.Failure = nil // forgotten
	}
	wire.SetKeyFailure(key, false)
	e.Answer, e.Source = f.answer(ctx, q, key, route, limit, now)
	return e
}

// answer is what [Forwarder.AppendCached] and, if need be, [Forwarder.AppendAnswer] do, and tells which part of them
// it was. q desires recursion.
func (f *Forwarder) answer(ctx context.Context, q wire.Query, key []byte, route *Route, limit int, now time.Time) ([]byte, Source) {
	if answer, ok := f.appendFresh(nil, q, key, route, limit, now); ok {
		return answer, Cached
	}
	if answer, from := f.appendKnownFailure(nil, q, key, route, limit, now); from != Unknown {
		return answer, from
	}
	return f.appendAwaited(ctx, nil, q, limit)
}

// stored returns what the cache has under key.
func (f *Forwarder) stored(key []byte, now time.Time) *Stored {
	e, ok := f.cache.Acquire(key)
	if !ok {
		return nil
	}
	defer e.Release()
	return &Stored{
		RCode: wire.FromPacked(e.Value).RCode(), Lifetime: e.Lifetime, Hits: e.Hits - 1, // this look aside
		Age: time.Duration(now.Unix()-e.Stored) * time.Second,
	}
}
