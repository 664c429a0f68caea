package forwarder

import "sync/atomic"

// Stats are counts since New.
type Stats struct {
	Hits           uint64 // answered from an entry within its lifetime
	Misses         uint64 // had to wait for an upstream, alone or together with others
	Local          uint64 // special-use names
	Stale          uint64 // answered from an entry past its lifetime, at once or after waiting
	StaleAtOnce    uint64 // those of Stale that did not wait
	NotCached      uint64 // refused, since recursion was not desired and there was no entry
	FailuresCached uint64 // answered from a remembered failure
	Failures       uint64 // no upstream gave a response
	Refreshes      uint64 // entries refreshed in the background
}

type counters struct {
	hits, misses, local, stale, staleAtOnce, notCached, failuresCached, failures, refreshes atomic.Uint64
}

// Stats returns the counts.
func (f *Forwarder) Stats() Stats {
	c := &f.stats
	return Stats{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Local: c.local.Load(), Stale: c.stale.Load(), StaleAtOnce: c.staleAtOnce.Load(), NotCached: c.notCached.Load(),

		FailuresCached: c.failuresCached.Load(), Failures: c.failures.Load(), Refreshes: c.refreshes.Load(),
	}
}
