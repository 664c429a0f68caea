package upstream

import (
	"sync/atomic"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/histogram"
)

// Stats is what a pool has counted since it was made.
type Stats struct {
	Queries   uint64 // exchanges begun
	Failed    uint64 // exchanges that ended without a response
	Retries   uint64 // repeated on the same address: its session ended, fell silent, or lost the query
	Failovers uint64 // sent to another address since the first had failed
	Hedges    uint64 // sent to another address while the first might still answer
	Crossed   uint64 // those of Hedges that another upstream saw
	Explored  uint64 // copies sent so that an address's answer time becomes known
	Clients   []ClientStats
}

// ClientStats is what one address did since it came into use.
type ClientStats struct {
	Endpoint dot.Endpoint
	Health   dot.Health
	Dot      dot.Stats
	InUse    bool // a first choice for queries, as far as its health goes
	Sends    uint64
	Answers  uint64
	Failures map[Reason]uint64
	Times    histogram.Histogram // of answers, from the send that was answered
}

// tally is a pool's counters.
type tally struct {
	queries, failed, retries, failovers, hedges, crossed, explored atomic.Uint64
}

// counters is a candidate's counters.
type counters struct {
	sends    atomic.Uint64
	failures [reasons]atomic.Uint64
	times    histogram.Live // of answers
}

// stats returns what the candidate has counted.
func (c *candidate) stats() ClientStats {
	s := ClientStats{
		Endpoint: c.endpoint,
		Health:   c.client.Health(),
		Dot:      c.client.Stats(),
		InUse:    c.shunnedAt.Load() == 0,
		Sends:    c.counters.sends.Load(),
		Failures: map[Reason]uint64{},
	}
	for r := range c.counters.failures {
		if n := c.counters.failures[r].Load(); n > 0 {
			s.Failures[Reason(r)] = n
		}
	}
	s.Times = c.counters.times.Snapshot()
	s.Answers = s.Times.Count()
	return s
}
