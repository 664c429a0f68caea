package main

import (
	"crypto/tls"
	"runtime"
	"strings"
	"time"

	"dnsproxy/internal/control"
	"dnsproxy/internal/dot"
	"dnsproxy/internal/histogram"
	"dnsproxy/internal/sandbox"
	"dnsproxy/internal/upstream"
)

// snapshot gathers all that the daemon knows of itself. It reads counters, and asks nobody.
func (d *daemon) snapshot() control.Status {
	now := time.Now()
	pool := d.pool.Stats()
	s := control.Status{
		Version: buildVersion(), Go: runtime.Version(), Now: now,
		Queries: control.Queries{
			Exchanges: pool.Queries, Failed: pool.Failed, Retries: pool.Retries, Failovers: pool.Failovers,
			Hedges: pool.Hedges, Crossed: pool.Crossed,
		},
		Upstreams: []control.Address{},
		Cache:     d.cacheStatus(),
		Clients:   d.clientStatus(),
		History:   d.operator.history.tell(d.sample()),
	}
	for _, addr := range addresses(d.sockets) {
		s.Serving = append(s.Serving, addr.String())
	}
	for i := range pool.Clients {
		s.Upstreams = append(s.Upstreams, addressStatus(&pool.Clients[i], now))
	}
	d.operator.describe(&s, now)
	return s
}

// describe fills in what the daemon remembers of its life.
func (o *operator) describe(s *control.Status, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.Started, s.Uptime = o.started, control.SecondsOf(now.Sub(o.started))
	s.Policy = string(o.cfg.Selection.Policy)
	s.Config = control.Config{File: o.cfg.File, Loaded: o.loaded, Reloads: o.reloads, Failures: o.failures, Warnings: o.cfg.Warnings}
	if o.lastErr != nil {
		s.Config.LastError, s.Config.FailedAt = o.lastErr.Error(), o.failedAt
	}
	s.Sandbox = control.Sandbox{Mode: string(o.cfg.Sandbox), Complete: o.report.Complete()}
	s.Sandbox.Enforced, _, _ = strings.Cut(o.report.String(), "; not enforced: ")
	for _, gap := range o.report.Gaps {
		missing := gap.String()
		if gap.Remedy != "" {
			missing += " (" + gap.Remedy + ")"
		}
		s.Sandbox.Missing = append(s.Sandbox.Missing, missing)
	}
	if o.report.Mode == "" || o.report.Mode == sandbox.Off {
		s.Sandbox.Mode = string(sandbox.Off)
	}
}

func (d *daemon) cacheStatus() control.Cache {
	kept, forward := d.cache.Stats(), d.forward.Stats()
	return control.Cache{
		Entries: kept.Entries, Bytes: kept.Bytes, MaxBytes: kept.MaxBytes, Evictions: kept.Evictions,
		Hits: forward.Hits, Misses: forward.Misses, HitRatio: ratio(forward.Hits, forward.Misses),
		Stale: forward.Stale, FailuresCached: forward.FailuresCached, Local: forward.Local, Prefetches: forward.Refreshes,
	}
}

func (d *daemon) clientStatus() control.Clients {
	f := d.front.Stats()
	return control.Clients{
		UDPQueries: f.UDPQueries, TCPQueries: f.TCPQueries, TCPNow: f.TCPClients, Pending: f.Pending,
		Refused: f.Refused, Malformed: f.Malformed, Ignored: f.Ignored, Shed: f.Shed, TCPShed: f.TCPShed,
		KnownTimes: times(&f.KnownTimes), WaitedTimes: times(&f.WaitedTimes),
	}
}

func times(h *histogram.Histogram) control.Times {
	return control.Times{
		P50: control.SecondsOf(h.Quantile(0.5)),
		P95: control.SecondsOf(h.Quantile(0.95)),
		P99: control.SecondsOf(h.Quantile(0.99)),
	}
}

// addressStatus tells of one address of an upstream.
func addressStatus(c *upstream.ClientStats, now time.Time) control.Address {
	a := control.Address{
		Upstream: c.Endpoint.Upstream, Address: c.Endpoint.Addr.String(), ServerName: c.Endpoint.ServerName,
		State: c.Health.State.String(), InUse: c.InUse, Until: c.Health.Until, Pending: c.Health.Pending,
		Queries: c.Sends, Answers: c.Answers, Times: times(&c.Times),
		Sessions: control.Sessions{
			Attempts: c.Dot.Attempts, Failed: c.Dot.Failed, Opened: c.Dot.Opened, Resumed: c.Dot.Resumed,
			Suspected: c.Dot.Suspected, Closed: c.Dot.Closed,
		},
	}
	a.Error = dot.CauseOf(c.Health.Err)
	if len(c.Failures) > 0 {
		a.Failures = make(map[string]uint64, len(c.Failures))
		for reason, n := range c.Failures {
			a.Failures[reason.String()] = n
		}
	}
	if s := c.Dot.Session; s != nil {
		a.Session = sessionStatus(s, &c.Endpoint, now)
	}
	return a
}

func sessionStatus(s *dot.Session, e *dot.Endpoint, now time.Time) *control.Session {
	status := &control.Session{
		Since: s.Since, Age: control.SecondsOf(now.Sub(s.Since)),
		Version: tls.VersionName(s.Version), Suite: tls.CipherSuiteName(s.Suite), Group: dot.GroupName(s.Group), ALPN: s.ALPN,
		Resumed: s.Resumed, Pin: control.PinNone,
		NotAfter: s.NotAfter, DaysLeft: s.NotAfter.Sub(now).Hours() / 24,
		IdleLimit: control.SecondsOf(s.Timeout), Queries: s.Queries,
	}
	switch {
	case s.Pinned:
		status.Pin, status.PinValue = control.PinMatched, s.Pin.String()
	case len(e.Pins) > 0:
		status.Pin = control.PinMismatch
	}
	return status
}
