package frontend

import (
	"sync/atomic"

	"dnsproxy/internal/histogram"
)

// Stats are counts since New, and what is open now.
type Stats struct {
	UDPQueries uint64
	TCPQueries uint64
	Refused    uint64 // clients that are not allowed
	Malformed  uint64 // answered with the RCODE that they deserve
	Ignored    uint64 // not answered: no header, or a response
	Shed       uint64 // no place among the pending
	TCPShed    uint64 // connections for which there was no place, and no idle one to close for them
	Pending    int64
	TCPClients int

	// From when a query was received until its answer was ready: answers that were known at
	// once (over UDP: with the kernel), and those that had to be waited for.
	KnownTimes  histogram.Histogram
	WaitedTimes histogram.Histogram
}

type counters struct {
	udpQueries, tcpQueries, refused, malformed, ignored, shed, tcpShed atomic.Uint64

	known, waited histogram.Live // times of answers
}

// Stats returns the counts.
func (f *Frontend) Stats() Stats {
	c := &f.stats
	return Stats{
		UDPQueries: c.udpQueries.Load(), TCPQueries: c.tcpQueries.Load(),
		Refused: c.refused.Load(), Malformed: c.malformed.Load(), Ignored: c.ignored.Load(), Shed: c.shed.Load(), TCPShed: c.tcpShed.Load(),
		Pending: f.pending.Load(), TCPClients: f.clients.count(),
		KnownTimes: c.known.Snapshot(), WaitedTimes: c.waited.Snapshot(),
	}
}
