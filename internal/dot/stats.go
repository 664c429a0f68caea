package dot

import (
	"crypto/tls"
	"errors"
	"maps"
	"time"

	"dnsproxy/internal/spki"
)

// closer is who ended a session, and why, as statistics and logs say it.
type closer string

const (
	oursIdle   closer = "idle"          // by us
	theirsIdle closer = "idle-upstream" // by the upstream
	theirsBusy closer = "closed"        // by the upstream, with queries in flight
	theirsGone closer = "stale"         // outlived a suspension of the machine
	wasReset   closer = "reset"
	timedOut   closer = "timeout"  // TCP gave up
	misbehaved closer = "protocol" // the upstream broke the rules
	replaced   closer = "replaced" // silent, another took over
	drained    closer = "drained"  // finished what was in flight and no more
	shutdown   closer = "shutdown"
	broken     closer = "error"
)

// Closers returns all that Stats.Closed may have.
func Closers() (all []string) {
	for _, c := range []closer{
		oursIdle, theirsIdle, theirsBusy, theirsGone, wasReset, timedOut, misbehaved, replaced, drained, shutdown, broken,
	} {
		all = append(all, string(c))
	}
	return all
}

// unexpected reports whether a session that ended so is likely to be missed.
func (w closer) unexpected() bool {
	switch w {
	case theirsBusy, wasReset, timedOut, misbehaved, broken:
		return true
	default:
		return false
	}
}

func closerOf(r Reason) closer {
	switch r {
	case Closed:
		return theirsBusy
	case Reset:
		return wasReset
	case Timeout:
		return timedOut
	default:
		return broken
	}
}

// Stats is a snapshot of what a client has done.
type Stats struct {
	Queries   uint64 // that Send was given
	Responses uint64 // delivered
	Cancelled uint64 // queries given up by their senders
	Late      uint64 // responses to queries that were given up or answered before
	Resent    uint64 // queries sent a second time, on a replacement

	Attempts  uint64            // to open a session
	Failed    uint64            // of those
	FailedBy  map[Reason]uint64 // the same, by reason
	Opened    uint64            // sessions
	Resumed   uint64            // of those, by ticket
	Warmed    uint64            // sessions opened ahead of need
	Suspected uint64            // times a session was silent for too long
	Closed    map[string]uint64 // sessions, by why: "idle", "reset" and so on

	NotAfter time.Time // end of the certificate that was presented last; zero: none was accepted yet

	Session *Session // the one that takes queries, nil if there is none
}

// Session describes one.
type Session struct {
	Since    time.Time
	Version  uint16
	Suite    uint16
	Group    tls.CurveID
	ALPN     string
	Resumed  bool
	Pinned   bool          // a pin matched
	Pin      spki.Pin      // that pin
	NotAfter time.Time     // end of the certificate
	Timeout  time.Duration // idle timeout in force
	Queries  uint64
}

// Stats returns what the client has done so far.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.stats
	st.Closed, st.FailedBy = maps.Clone(c.stats.Closed), maps.Clone(c.stats.FailedBy)
	if c.current != nil {
		info := c.e.describe(c.current)
		st.Session = &info
	}
	return st
}

func (e *Endpoint) describe(s *session) Session {
	cs := s.state
	info := Session{
		Since: s.opened, Version: cs.Version, Suite: cs.CipherSuite, Group: cs.CurveID,
		ALPN: cs.NegotiatedProtocol, Resumed: cs.DidResume,
		Timeout: s.idleLimitLocked(), Queries: s.written,
	}
	if len(cs.PeerCertificates) > 0 {
		info.NotAfter = cs.PeerCertificates[0].NotAfter
	}
	if len(e.Pins) > 0 {
		info.Pin, info.Pinned = e.pinned(cs)
	}
	return info
}

// journal is what the log has been told. The client's mutex guards it.
type journal struct {
	down     Reason // why the upstream is down, "" if it is up
	since    time.Time
	session  [4]string // parameters of the session that was logged last
	mismatch bool      // a pin that is only reported does not match
	protocol bool      // the upstream has misbehaved
	ending   bool      // its certificate ends soon
}

// openedLocked counts a session, and logs it if it is the first or unlike the one before.
func (c *Client) openedLocked(s *session, now time.Time) {
	c.stats.Opened++
	if s.state.DidResume {
		c.stats.Resumed++
	} else if t, ok := c.tls.ClientSessionCache.(*tickets); ok {
		t.authenticated(now)
	}
	info := c.e.describe(s)
	c.stats.NotAfter = info.NotAfter
	facts := [4]string{
		tls.VersionName(info.Version), tls.CipherSuiteName(info.Suite), GroupName(info.Group), "none",
	}
	if info.Pinned {
		facts[3] = info.Pin.String()
	}
	level := c.log.Debug
	if facts != c.journal.session {
		level = c.log.Info
	}
	c.journal.session = facts
	level("session opened", "version", facts[0], "suite", facts[1], "group", facts[2], "pin", facts[3], "resumed", info.Resumed)
	c.reportPinLocked(info)
	c.reportEndLocked(s, now)
}

// reportPinLocked tells of a pin that is only reported when it ceases or begins to match.
func (c *Client) reportPinLocked(info Session) {
	mismatch := c.e.ReportOnly && len(c.e.Pins) > 0 && !info.Pinned
	if mismatch == c.journal.mismatch {
		return
	}
	c.journal.mismatch = mismatch
	if mismatch {
		c.log.Warn("pin mismatch", "err", c.e.errNoPin(), "mode", "report")
		return
	}
	c.log.Warn("pin matches again", "pin", info.Pin.String())
}

// reportEndLocked tells of a certificate that ought to have been renewed: less is left of it than three days or, if it
// is a short-lived one, a quarter of its lifetime.
func (c *Client) reportEndLocked(s *session, now time.Time) {
	if len(s.state.PeerCertificates) == 0 {
		return
	}
	leaf := s.state.PeerCertificates[0]
	left := leaf.NotAfter.Sub(now)
	ending := left < min(3*24*time.Hour, leaf.NotAfter.Sub(leaf.NotBefore)/4)
	if ending == c.journal.ending {
		return
	}
	c.journal.ending = ending
	if ending {
		c.log.Warn("certificate ends soon", "ends", leaf.NotAfter.UTC().Format(time.RFC3339), "left", left.Round(time.Minute))
		return
	}
	c.log.Warn("certificate renewed", "ends", leaf.NotAfter.UTC().Format(time.RFC3339))
}

// downLocked logs that no session can be opened, once for each reason.
func (c *Client) downLocked(err error, now time.Time) {
	reason := ReasonOf(err)
	if c.journal.down == "" {
		c.journal.since = now
	}
	if c.journal.down == reason {
		return
	}
	c.journal.down = reason
	var e *Error
	if errors.As(err, &e) {
		c.log.Warn("upstream down", "reason", string(reason), "err", e.Cause())
	}
}

// upLocked logs that the upstream answers again, at the level of what it ends: who looks for
// warnings finds both.
func (c *Client) upLocked(now time.Time) {
	if c.journal.down != "" {
		c.journal.down = ""
		c.log.Warn("upstream up", "after", now.Sub(c.journal.since).Round(time.Millisecond))
	}
}

// misbehavedLocked logs that the upstream broke the protocol, the first time since it last behaved.
func (c *Client) misbehavedLocked(err error) {
	if c.journal.protocol {
		return
	}
	c.journal.protocol = true
	c.log.Warn("upstream misbehaves", "err", err)
}

// closedLocked counts and notes the end of a session. One that ended without a single
// response to its queries counts as a failed attempt.
func (c *Client) closedLocked(s *session, why closer, err error, now time.Time) {
	if c.stats.Closed == nil {
		c.stats.Closed = make(map[string]uint64)
	}
	c.stats.Closed[string(why)]++
	c.log.Debug("session closed", "why", string(why), "queries", s.written, "responses", s.responses,
		"age", now.Sub(s.opened).Round(time.Millisecond), "err", err)
	if why != misbehaved && s.responses > 0 {
		c.journal.protocol = false
	}
	if why == shutdown || s.responses > 0 && why != misbehaved || s.written == 0 && why != wasReset {
		return
	}
	c.attempt.failed(err, now)
}
