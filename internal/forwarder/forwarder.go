// Package forwarder turns one query into one answer: from local names, from
// the cache, from a flight for the same question that is already under way, or
// from an upstream; and when all of that fails, from a stale entry or as a
// SERVFAIL that says why.
//
// It knows neither sockets nor TLS. A Forwarder is safe for concurrent use.
package forwarder

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"dnsproxy/internal/cache"
	"dnsproxy/internal/wire"
)

// Exchanger asks upstreams.
type Exchanger interface {
	// Exchange returns an upstream's response to q, or an error once ctx ends, its
	// deadline has passed (for which ctx has no timer) or all have failed. It must not keep q.
	Exchange(ctx context.Context, q wire.Query) (wire.Response, error)
	// Down reports whether no upstream is likely to answer now.
	Down() bool
}

// Route sends the names at and under a domain to upstreams of their own.
type Route struct {
	Domain    string // presentation form, without the last dot; "" is the root
	Scope     uint32 // separates the cached answers of different sets of upstreams
	Exchanger Exchanger
}

// Settings is what [Forwarder.Apply] swaps in one piece.
type Settings struct {
	Timeout        time.Duration // for one client's query, all attempts together
	MinTTL         time.Duration // whole seconds, as are all TTLs
	MaxTTL         time.Duration
	MaxNegativeTTL time.Duration
	ServeStale     time.Duration // how long past its lifetime an entry may serve; 0: not at all
	Prefetch       bool          // refresh popular entries before they end
	SpecialNames   bool          // answer special-use names here
	Routes         []Route       // exactly one has the Domain ""
}

const (
	// staleWait is how long a client waits for an upstream when there is a stale
	// answer (RFC 8767, section 5: the client response timer), and staleTTL is the
	// TTL of that answer, in seconds (section 4).
	staleWait = 1800 * time.Millisecond
	staleTTL  = 30

	// Failures are remembered for at least a second and at most five minutes (RFC
	// 9520, section 3.2): an upstream's SERVFAIL for a few, our own failure to reach one
	// for the least, since that ends when the network is back.
	failureLifetime     = 5 * time.Second
	unreachableLifetime = time.Second

	// An entry that was hit popularHits times is refreshed in the last tenth of
	// its lifetime, by at most maxRefreshes flights at once.
	popularHits  = 2
	refreshShare = 10
	maxRefreshes = 128
)

// Forwarder answers queries.
type Forwarder struct {
	cache    *cache.Cache
	log      *slog.Logger
	settings atomic.Pointer[settings]
	flights  flights
	stats    counters

	background context.Context // of refreshes; ends with Close
	stop       context.CancelFunc
	refreshes  chan struct{} // holds a token for each refresh under way
	running    sync.WaitGroup
}

// New returns a forwarder that answers from c and as s says.
func New(c *cache.Cache, s Settings, log *slog.Logger) *Forwarder {
	f := &Forwarder{cache: c, log: log, refreshes: make(chan struct{}, maxRefreshes)}
	f.flights.byKey = make(map[string]*flight)
	f.background, f.stop = context.WithCancel(context.Background())
	f.Apply(s)
	return f
}

// Apply replaces the settings. Queries under way end on those they began with.
func (f *Forwarder) Apply(s Settings) { f.settings.Store(compile(s)) }

// Close cuts short what is being refreshed in the background, and waits for it.
func (f *Forwarder) Close() {
	f.stop()
	f.running.Wait()
}

// AppendCached appends the answer to q if it can be known without waiting:
// local, cached, or stale while no upstream can be reached. now is the time of the query. It
// allocates nothing unless it starts a refresh.
func (f *Forwarder) AppendCached(dst []byte, q wire.Query, limit int, now time.Time) (answer []byte, ok bool) {
	s := f.settings.Load()
	var buf [wire.MaxKey]byte
	key := q.AppendKey(buf[:0], 0)
	name := wire.KeyName(key)
	route, depth := s.route(name)
	if s.SpecialNames {
		if answer, ok := appendSpecial(dst, q, name, depth); ok {
			f.stats.local.Add(1)
			return answer, true
		}
	}
	wire.SetKeyScope(key, route.Scope)
	if answer, ok := f.appendFresh(dst, q, key, route, limit, now); ok {
		f.stats.hits.Add(1)
		return answer, true
	}
	if !q.RD() {
		// Without RD the client asks for what is known here (RFC 1035, section 4.1.1).
		f.stats.notCached.Add(1)
		return wire.AppendError(dst, q, wire.Refused, errNotCached), true
	}
	answer, from := f.appendKnownFailure(dst, q, key, route, limit, now)
	return answer, from != Unknown
}

var errNotCached = wire.EDE{Code: wire.EDENotAuth, Text: "not cached, and recursion is not desired", Set: true}

// appendFresh answers from an entry within its lifetime.
func (f *Forwarder) appendFresh(dst []byte, q wire.Query, key []byte, route *Route, limit int, now time.Time) ([]byte, bool) {
	e, ok := f.cache.Acquire(key)
	if !ok {
		return dst, false
	}
	age := now.Unix() - e.Stored
	lifetime := int64(e.Lifetime / time.Second)
	if age < 0 || age >= lifetime { // the clock may have been set back
		e.Release()
		return dst, false
	}
	dst = wire.AppendAnswer(dst, q, wire.FromPacked(e.Value), uint32(age), limit)
	popular := f.settings.Load().Prefetch && e.Hits >= popularHits && (lifetime-age)*refreshShare <= lifetime
	due := popular && e.ClaimRefresh()
	e.Release()
	if due {
		f.refresh(q, key, route)
	}
	return dst, true
}

// appendKnownFailure answers from what is remembered of failures: with a stale entry
// if there is one, with the failure otherwise. While no upstream can be reached, a stale
// entry is answered at once even if this question has not failed yet.
func (f *Forwarder) appendKnownFailure(dst []byte, q wire.Query, key []byte, route *Route, limit int, now time.Time) ([]byte, Source) {
	failure, failed := f.appendFailure(dst, q, key, limit, now)
	if !failed && !route.Exchanger.Down() {
		return dst, Unknown
	}
	if answer, ok := f.appendStale(dst, q, key, limit, now); ok {
		if !failed {
			f.refresh(q, key, route)
		}
		f.stats.staleAtOnce.Add(1)
		return answer, Stale
	}
	if !failed {
		return dst, Unknown
	}
	f.stats.failuresCached.Add(1)
	return failure, KnownFailure
}

// appendFailure answers from a remembered failure.
func (f *Forwarder) appendFailure(dst []byte, q wire.Query, key []byte, limit int, now time.Time) ([]byte, bool) {
	wire.SetKeyFailure(key, true)
	e, ok := f.cache.Acquire(key)
	wire.SetKeyFailure(key, false)
	if !ok {
		return dst, false
	}
	defer e.Release()
	if age := now.Unix() - e.Stored; age < 0 || age >= int64(e.Lifetime/time.Second) {
		return dst, false
	}
	r := wire.FromPacked(e.Value)
	// The info code speaks of SERVFAIL alone (RFC 8914, section 4.14). A REFUSED or
	// NOTIMP stays as the upstream said it.
	cached := wire.EDE{Code: wire.EDECachedError, Set: r.RCode() == wire.ServFail}
	return wire.AppendStale(dst, q, r, staleTTL, cached, limit), true
}

// appendStale answers from an entry past its lifetime (RFC 8767).
func (f *Forwarder) appendStale(dst []byte, q wire.Query, key []byte, limit int, now time.Time) ([]byte, bool) {
	e, ok := f.cache.Acquire(key)
	if !ok {
		return dst, false
	}
	defer e.Release()
	age := now.Unix() - e.Stored
	if age < 0 || age > int64((e.Lifetime+f.settings.Load().ServeStale)/time.Second) {
		return dst, false
	}
	r := wire.FromPacked(e.Value)
	ede := wire.EDE{Code: wire.EDEStale, Set: true}
	if r.Kind() == wire.NoName {
		ede.Code = wire.EDEStaleNXDomain
	}
	f.stats.stale.Add(1)
	return wire.AppendStale(dst, q, r, staleTTL, ede, limit), true
}

// AppendAnswer appends the answer to q, waiting for it no longer than
// Settings.Timeout. It ends early, with a SERVFAIL, when ctx does.
func (f *Forwarder) AppendAnswer(ctx context.Context, dst []byte, q wire.Query, limit int) []byte {
	answer, _ := f.appendAwaited(ctx, dst, q, limit)
	return answer
}

// appendAwaited is AppendAnswer, and tells where the answer comes from.
func (f *Forwarder) appendAwaited(ctx context.Context, dst []byte, q wire.Query, limit int) ([]byte, Source) {
	s := f.settings.Load()
	key := q.AppendKey(make([]byte, 0, wire.MaxKey), 0)
	route, _ := s.route(wire.KeyName(key))
	wire.SetKeyScope(key, route.Scope)
	f.stats.misses.Add(1)

	fl, leader := f.flights.join(key)
	if !f.hasStale(key, s) {
		if leader {
			f.lead(ctx, fl, q, key, route, s)
		}
		return f.appendResult(ctx, dst, q, fl, limit)
	}
	if leader {
		f.leadInBackground(valuesOf{f.background, ctx}, fl, q, key, route, s, func() {})
	}
	wait, cancel := context.WithTimeout(ctx, staleWait)
	defer cancel()
	select {
	case <-fl.done:
	case <-wait.Done():
	}
	if r, ok := fl.landed(); ok && r.Kind() != wire.Failure {
		return wire.AppendAnswer(dst, q, r, 0, limit), Upstream
	}
	if answer, ok := f.appendStale(dst, q, key, limit, time.Now()); ok {
		return answer, Stale
	}
	return f.appendResult(ctx, dst, q, fl, limit)
}

// hasStale reports whether an entry could be answered from past its lifetime.
func (f *Forwarder) hasStale(key []byte, s *settings) bool {
	if s.ServeStale == 0 {
		return false
	}
	e, ok := f.cache.Acquire(key)
	if ok {
		ok = time.Now().Unix()-e.Stored <= int64((e.Lifetime+s.ServeStale)/time.Second)
		e.Release()
	}
	return ok
}

// appendResult appends what a flight brings.
func (f *Forwarder) appendResult(ctx context.Context, dst []byte, q wire.Query, fl *flight, limit int) ([]byte, Source) {
	select {
	case <-fl.done:
	case <-ctx.Done():
		return wire.AppendError(dst, q, wire.ServFail, wire.EDE{Code: wire.EDENotReady, Text: "shutting down", Set: true}), Nobody
	}
	from := Upstream
	if fl.failed {
		from = Nobody
	}
	return wire.AppendAnswer(dst, q, fl.response, 0, limit), from
}

// refresh starts a flight for q in the background, unless too many are under way.
func (f *Forwarder) refresh(q wire.Query, key []byte, route *Route) {
	select {
	case f.refreshes <- struct{}{}:
	default:
		return
	}
	fl, leader := f.flights.join(key)
	if !leader {
		<-f.refreshes
		return
	}
	f.stats.refreshes.Add(1)
	f.leadInBackground(f.background, fl, q, key, route, f.settings.Load(), func() { <-f.refreshes })
}

// leadInBackground leads a flight that the client does not wait for to the end,
// with copies of what is the client's, and calls done then.
func (f *Forwarder) leadInBackground(ctx context.Context, fl *flight, q wire.Query, key []byte, route *Route, s *settings, done func()) {
	ownQuery, ownKey := q.Clone(), bytes.Clone(key)
	f.running.Go(func() {
		defer done()
		f.lead(ctx, fl, ownQuery, ownKey, route, s)
	})
}
