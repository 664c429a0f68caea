package main

import (
	"runtime"
	runtimemetrics "runtime/metrics"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/metrics"
	"dnsproxy/internal/upstream"
)

// Where the buckets of answer times begin and end, as powers of two of nanoseconds: from 8 µs to 8.6 s for
// clients, from 1 ms to 4.3 s for upstreams.
const (
	clientsFirst, clientsLast     = 13, 33
	upstreamsFirst, upstreamsLast = 20, 32
)

// writeMetrics writes all that is counted. There is no label whose values clients choose.
func (d *daemon) writeMetrics(t *metrics.Text) {
	now := time.Now()
	d.clientMetrics(t)
	d.cacheMetrics(t)
	pool := d.pool.Stats()
	poolMetrics(t, &pool)
	addressMetrics(t, pool.Clients)
	sessionMetrics(t, pool.Clients, now)
	d.operator.metricsOf(t)
	processMetrics(t)
}

// clientMetrics tells of clients, their queries and the answers.
func (d *daemon) clientMetrics(t *metrics.Text) {
	front, forward := d.front.Stats(), d.forward.Stats()
	t.Family("dnsproxy_queries_total", metrics.Counter, "Messages received from clients, by transport.")
	t.Sample(float64(front.UDPQueries), "transport", "udp")
	t.Sample(float64(front.TCPQueries), "transport", "tcp")
	t.Family("dnsproxy_query_outcomes_total", metrics.Counter, "What became of clients' messages; upstream means that they had to wait for one, stale that they did not.")
	for _, o := range []struct {
		name  string
		count uint64
	}{
		{"hit", forward.Hits}, {"upstream", forward.Misses}, {"local", forward.Local}, {"remembered_failure", forward.FailuresCached},
		{"stale", forward.StaleAtOnce}, {"not_cached", forward.NotCached},
		{"refused", front.Refused}, {"malformed", front.Malformed}, {"ignored", front.Ignored}, {"shed", front.Shed},
	} {
		t.Sample(float64(o.count), "outcome", o.name)
	}
	t.Family("dnsproxy_answer_duration_seconds", metrics.Histogram, "Time from query to answer; waited tells whether it had to come from an upstream.")
	t.Durations(&front.KnownTimes, clientsFirst, clientsLast, "waited", "no")
	t.Durations(&front.WaitedTimes, clientsFirst, clientsLast, "waited", "yes")
	t.One("dnsproxy_pending_queries", metrics.Gauge, "Queries that wait for an upstream now.", float64(front.Pending))
	t.One("dnsproxy_tcp_clients", metrics.Gauge, "TCP connections of clients that are open now.", float64(front.TCPClients))
	t.One("dnsproxy_tcp_clients_shed_total", metrics.Counter, "TCP connections turned away, as there were too many and none was idle.", float64(front.TCPShed))
}

// cacheMetrics tells of the cache.
func (d *daemon) cacheMetrics(t *metrics.Text) {
	kept, forward := d.cache.Stats(), d.forward.Stats()
	t.One("dnsproxy_cache_entries", metrics.Gauge, "Entries in the cache.", float64(kept.Entries))
	t.One("dnsproxy_cache_bytes", metrics.Gauge, "Memory that the cache uses.", float64(kept.Bytes))
	t.One("dnsproxy_cache_max_bytes", metrics.Gauge, "Memory that the cache may use.", float64(kept.MaxBytes))
	t.One("dnsproxy_cache_evictions_total", metrics.Counter, "Entries dropped to make room.", float64(kept.Evictions))
	t.One("dnsproxy_cache_prefetches_total", metrics.Counter, "Entries refreshed before anybody had to wait.", float64(forward.Refreshes))
	t.One("dnsproxy_stale_answers_total", metrics.Counter, "Answers from entries past their lifetime, since no upstream gave one.", float64(forward.Stale))
}

// poolMetrics tells of what upstreams were asked, all together.
func poolMetrics(t *metrics.Text, s *upstream.Stats) {
	t.One("dnsproxy_exchanges_total", metrics.Counter, "Questions that upstreams were asked.", float64(s.Queries))
	t.One("dnsproxy_exchanges_failed_total", metrics.Counter, "Questions to which no upstream gave a response in time.", float64(s.Failed))
	t.Family("dnsproxy_repeated_queries_total", metrics.Counter, "Queries sent once more, by why.")
	t.Sample(float64(s.Retries), "why", "retry")
	t.Sample(float64(s.Failovers), "why", "failover")
	t.Sample(float64(s.Hedges), "why", "hedge")
	t.Sample(float64(s.Explored), "why", "explore")
	t.One("dnsproxy_crossed_hedges_total", metrics.Counter, "Hedges that another upstream saw.", float64(s.Crossed))
}

// labelsOf returns the labels of one address of an upstream, and more.
func labelsOf(c *upstream.ClientStats, more ...string) []string {
	return append([]string{"upstream", c.Endpoint.Upstream, "address", c.Endpoint.Addr.String()}, more...)
}

// states are all that an address of an upstream may be in.
var states = [...]dot.State{dot.Idle, dot.Connecting, dot.Ready, dot.Suspect, dot.BackingOff}

// reasons are all why a query to an address may have failed.
var reasons = [...]upstream.Reason{upstream.Closed, upstream.Unreachable, upstream.Connecting, upstream.Silent, upstream.Unanswered, upstream.Busy}

// addressMetrics tells how each address fares.
func addressMetrics(t *metrics.Text, all []upstream.ClientStats) {
	each := func(name string, kind metrics.Kind, help string, value func(*upstream.ClientStats) float64) {
		t.Family(name, kind, help)
		for i := range all {
			t.Sample(value(&all[i]), labelsOf(&all[i])...)
		}
	}
	each("dnsproxy_upstream_in_use", metrics.Gauge, "Whether the address is a first choice for queries, as far as its health goes.",
		func(c *upstream.ClientStats) float64 { return truth(c.InUse) })
	t.Family("dnsproxy_upstream_state", metrics.Gauge, "Whether the address is in that state.")
	for i := range all {
		for _, s := range states {
			t.Sample(truth(all[i].Health.State == s), labelsOf(&all[i], "state", word(s.String()))...)
		}
	}
	each("dnsproxy_upstream_pending_queries", metrics.Gauge, "Queries in flight.", func(c *upstream.ClientStats) float64 { return float64(c.Health.Pending) })
	each("dnsproxy_upstream_backoff_seconds", metrics.Gauge, "Time until another attempt to open a session may be made.",
		func(c *upstream.ClientStats) float64 {
			if c.Health.Until.IsZero() {
				return 0
			}
			return max(0, time.Until(c.Health.Until).Seconds())
		})
	each("dnsproxy_upstream_queries_total", metrics.Counter, "Queries sent.", func(c *upstream.ClientStats) float64 { return float64(c.Sends) })
	t.Family("dnsproxy_upstream_failures_total", metrics.Counter, "Queries without a response, by reason.")
	for i := range all {
		for _, r := range reasons {
			t.Sample(float64(all[i].Failures[r]), labelsOf(&all[i], "reason", word(r.String()))...)
		}
	}
	t.Family("dnsproxy_upstream_answer_duration_seconds", metrics.Histogram, "Time from query to response.")
	for i := range all {
		t.Durations(&all[i].Times, upstreamsFirst, upstreamsLast, labelsOf(&all[i])...)
	}
}

// metricsOf tells of the daemon's configuration and sandbox.
func (o *operator) metricsOf(t *metrics.Text) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t.Family("dnsproxy_build_info", metrics.Gauge, "The version that runs.")
	t.Sample(1, "version", buildVersion(), "goversion", runtime.Version())
	t.One("dnsproxy_config_last_reload_successful", metrics.Gauge, "Whether the last reload put its configuration in force.", truth(o.lastErr == nil))
	t.One("dnsproxy_config_loaded_timestamp_seconds", metrics.Gauge, "When the configuration in force was loaded.", float64(o.loaded.Unix()))
	t.Family("dnsproxy_config_reloads_total", metrics.Counter, "Reloads, by result.")
	t.Sample(float64(o.reloads), "result", "success")
	t.Sample(float64(o.failures), "result", "failure")
	t.One("dnsproxy_sandbox_complete", metrics.Gauge, "Whether every part of the sandbox is enforced.", truth(o.report.Complete()))
	t.One("process_start_time_seconds", metrics.Gauge, "When the process began to serve.", float64(o.started.Unix()))
}

// processMetrics tells of the process itself, without /proc, which the sandbox closes. The names
// are those of Prometheus' own libraries where they mean the same.
func processMetrics(t *metrics.Text) {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err == nil {
		seconds := func(tv unix.Timeval) float64 {
			return time.Duration(syscall.TimevalToNsec(syscall.Timeval(tv))).Seconds()
		}
		t.One("process_cpu_seconds_total", metrics.Counter, "CPU time, user and system.", seconds(used.Utime)+seconds(used.Stime))
		t.One("dnsproxy_memory_peak_bytes", metrics.Gauge, "The most resident memory so far.", float64(used.Maxrss)*1024)
	}
	samples := []runtimemetrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
		{Name: "/sched/goroutines:goroutines"}, {Name: "/gc/cycles/total:gc-cycles"},
	}
	runtimemetrics.Read(samples)
	value := func(i int) float64 {
		if samples[i].Value.Kind() != runtimemetrics.KindUint64 {
			return 0 // a runtime that does not know it
		}
		return float64(samples[i].Value.Uint64())
	}
	t.One("dnsproxy_memory_runtime_bytes", metrics.Gauge, "Memory that Go's runtime holds, the cache aside.", value(0)-value(1))
	t.One("dnsproxy_gc_cycles_total", metrics.Counter, "Garbage collections.", value(3))
	t.One("go_goroutines", metrics.Gauge, "Goroutines.", value(2))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
