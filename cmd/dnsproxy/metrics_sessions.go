package main

import (
	"crypto/tls"
	"strings"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/metrics"
	"dnsproxy/internal/upstream"
)

// attemptFailures are all why a session may not have come about.
var attemptFailures = [...]dot.Reason{
	dot.Closed, dot.Reset, dot.Timeout, dot.Refused, dot.Unreachable, dot.Authentication, dot.Policy, dot.Protocol, dot.Other,
}

// sessionMetrics tells of each address's sessions.
func sessionMetrics(t *metrics.Text, all []upstream.ClientStats, now time.Time) {
	each := func(name, help string, value func(*dot.Stats) uint64) {
		t.Family(name, metrics.Counter, help)
		for i := range all {
			t.Sample(float64(value(&all[i].Dot)), labelsOf(&all[i])...)
		}
	}
	each("dnsproxy_session_attempts_total", "Attempts to open a session.", func(s *dot.Stats) uint64 { return s.Attempts })
	t.Family("dnsproxy_session_attempts_failed_total", metrics.Counter, "Attempts to open a session that failed, by reason.")
	for i := range all {
		for _, r := range attemptFailures {
			t.Sample(float64(all[i].Dot.FailedBy[r]), labelsOf(&all[i], "reason", string(r))...)
		}
	}
	each("dnsproxy_sessions_opened_total", "Sessions opened.", func(s *dot.Stats) uint64 { return s.Opened })
	each("dnsproxy_sessions_resumed_total", "Sessions opened by resuming an earlier one.", func(s *dot.Stats) uint64 { return s.Resumed })
	each("dnsproxy_sessions_warmed_total", "Sessions opened ahead of need.", func(s *dot.Stats) uint64 { return s.Warmed })
	each("dnsproxy_sessions_suspected_total", "Times that a session was silent for longer than usual.", func(s *dot.Stats) uint64 { return s.Suspected })
	each("dnsproxy_session_queries_total", "Queries that were to go over a session; over sessions opened, the queries of each.", func(s *dot.Stats) uint64 { return s.Queries })
	t.Family("dnsproxy_sessions_closed_total", metrics.Counter, "Sessions that ended, by why.")
	for i := range all {
		for _, why := range dot.Closers() { // those without any, too, or the first would show no increase
			t.Sample(float64(all[i].Dot.Closed[why]), labelsOf(&all[i], "why", word(why))...)
		}
	}
	currentSessions(t, all, now)
}

// currentSessions tells of the sessions that take queries now, and of certificates.
func currentSessions(t *metrics.Text, all []upstream.ClientStats, now time.Time) {
	t.Family("dnsproxy_upstream_certificate_expiry_timestamp_seconds", metrics.Gauge, "When the certificate that was presented last ends.")
	for i := range all {
		if end := all[i].Dot.NotAfter; !end.IsZero() {
			t.Sample(float64(end.Unix()), labelsOf(&all[i])...)
		}
	}
	t.Family("dnsproxy_session_info", metrics.Gauge, "The session that takes queries, and what was agreed on.")
	for i := range all {
		if s := all[i].Dot.Session; s != nil {
			t.Sample(1, labelsOf(&all[i], "version", tls.VersionName(s.Version), "suite", tls.CipherSuiteName(s.Suite), "group", dot.GroupName(s.Group))...)
		}
	}
	t.Family("dnsproxy_session_age_seconds", metrics.Gauge, "Age of the session that takes queries.")
	for i := range all {
		if s := all[i].Dot.Session; s != nil {
			t.Sample(now.Sub(s.Since).Seconds(), labelsOf(&all[i])...)
		}
	}
	t.Family("dnsproxy_upstream_pin_mismatch", metrics.Gauge, "Whether the session's certificates match no pin, which pin_mode = report allows.")
	for i := range all {
		if s := all[i].Dot.Session; s != nil && len(all[i].Endpoint.Pins) > 0 {
			t.Sample(truth(!s.Pinned), labelsOf(&all[i])...)
		}
	}
}

// word makes a label's value of what people read.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return '_'
		}
		return r
	}, s)
}
