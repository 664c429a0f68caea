// Package probe shows what answers at an upstream's address, and whether the
// daemon would use it: by the very checks of package dot, and within its times.
//
// It tells nothing to a peer that is not authenticated: such a one is looked at
// through a handshake, and gets no query. Nothing here is kept between two
// inspections, so that several can run at once.
package probe

import (
	"context"
	"crypto/tls"
	"time"

	"dnsproxy/internal/dot"
)

// Finding is what an inspection of one address found. Its names in JSON are for
// programs, and stay. Text in it can be printed as it is, whoever sent it.
type Finding struct {
	Upstream   string `json:"upstream"`
	Address    string `json:"address"`
	ServerName string `json:"server_name,omitempty"`

	Accepted      bool       `json:"accepted"`         // the daemon would use it
	Authenticated bool       `json:"authenticated"`    // it is who it should be, whether it answers or not
	Reason        dot.Reason `json:"reason,omitempty"` // why the daemon would not use it, as it says that itself
	Error         string     `json:"error,omitempty"`  // the same in full

	Session *Session      `json:"session,omitempty"` // nil: there was none, not even one to look at
	Times   Times         `json:"times"`
	Answers *Answers      `json:"answers,omitempty"` // nil: no query was sent, or none answered
	Chain   []Certificate `json:"chain,omitempty"`   // the leaf first
}

// Session is what was negotiated.
type Session struct {
	Version     string `json:"version"`
	Suite       string `json:"cipher_suite"`
	Group       string `json:"group,omitempty"`
	PostQuantum bool   `json:"post_quantum"`
	ALPN        string `json:"alpn,omitempty"`
	Resumes     bool   `json:"resumes"`               // a second session was resumed by ticket
	Pin         string `json:"pin,omitempty"`         // one of the constants below; "": not authenticated
	MatchedPin  string `json:"matched_pin,omitempty"` // that authenticated it
}

// What became of the pins of an authenticated session.
const (
	PinMatched  = "matched"
	PinMismatch = "mismatch" // which is reported only
	NoPin       = "none configured"
)

// Times says how long what took, in seconds; 0: it was not done.
type Times struct {
	Connect   float64 `json:"connect_seconds,omitempty"`
	Handshake float64 `json:"handshake_seconds,omitempty"`
	Resumed   float64 `json:"resumed_handshake_seconds,omitempty"`
	Answer    float64 `json:"answer_seconds,omitempty"` // one query alone
	Burst     float64 `json:"burst_seconds,omitempty"`  // all answers to the burst
}

// Answers is how the upstream answers.
type Answers struct {
	RCode     string   `json:"rcode"`
	Octets    int      `json:"octets"`
	Padded    bool     `json:"padded"`
	Keepalive *float64 `json:"keepalive_seconds"` // announced by edns-tcp-keepalive; null: none

	Burst      int    `json:"burst_queries"` // sent at once
	Answered   int    `json:"burst_answered"`
	OutOfOrder bool   `json:"out_of_order"`          // answers overtook each other
	BurstError string `json:"burst_error,omitempty"` // why not all of them were answered
}

// inspection is one at work.
type inspection struct {
	e       dot.Endpoint
	prober  *dot.Prober
	timeout time.Duration // for each step
	found   *Finding
}

// Inspect probes e: it opens two sessions as the daemon does, with a query on the first and a
// burst on the second. If it cannot, it looks at what is presented. Each step may take
// timeout; connecting and shaking hands, no longer than the daemon allows.
func Inspect(ctx context.Context, e dot.Endpoint, timeout time.Duration) *Finding {
	i := &inspection{e, dot.NewProber(e), timeout, &Finding{Upstream: e.Upstream, Address: e.Addr.String(), ServerName: e.ServerName}}
	err := i.use(ctx)
	if err == nil {
		i.found.Accepted = true
		return i.found
	}
	i.refused(err)
	if !i.found.Authenticated && i.found.Times.Connect > 0 {
		i.look(ctx)
	}
	return i.found
}

func (i *inspection) refused(err error) {
	i.found.Reason, i.found.Error = dot.ReasonOf(err), causeOf(err)
}

// causeOf returns an error's text without the upstream's name, which is known.
func causeOf(err error) string {
	return plain(dot.CauseOf(err), maxError)
}

// use does as the daemon does.
func (i *inspection) use(ctx context.Context) error {
	conn, err := i.open(ctx)
	if err != nil {
		return err
	}
	err = i.ask(conn)
	conn.Close()
	if err != nil {
		return err
	}
	if conn, err = i.open(ctx); err != nil {
		return err
	}
	defer conn.Close()
	return i.burst(conn)
}

// open opens a session, and notes the first and how long it took to resume it.
func (i *inspection) open(ctx context.Context) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, i.timeout)
	defer cancel()
	conn, h, err := i.prober.Open(ctx)
	i.note(h)
	if err != nil || i.found.Authenticated {
		return conn, err
	}
	i.found.Authenticated = true
	switch pin, ok := i.prober.Matched(h.State); {
	case len(i.e.Pins) == 0:
		i.found.Session.Pin = NoPin
	case !ok:
		i.found.Session.Pin = PinMismatch
	default:
		i.found.Session.Pin, i.found.Session.MatchedPin = PinMatched, pin.String()
	}
	return conn, nil
}

// look shakes hands twice without trust.
func (i *inspection) look(ctx context.Context) {
	for range 2 {
		ctx, cancel := context.WithTimeout(ctx, i.timeout)
		h, err := i.prober.Look(ctx)
		cancel()
		i.note(h)
		if err != nil || h.State.Version < tls.VersionTLS13 {
			return
		}
	}
}

// note takes down a handshake.
func (i *inspection) note(h dot.Handshake) {
	f := i.found
	if f.Times.Connect == 0 {
		f.Times.Connect = seconds(h.Connect)
	}
	switch {
	case h.Took == 0: // it failed
	case f.Session == nil:
		f.Times.Handshake = seconds(h.Took)
		f.Session = &Session{
			Version: tls.VersionName(h.State.Version), Suite: tls.CipherSuiteName(h.State.CipherSuite), ALPN: h.State.NegotiatedProtocol,
		}
		if h.State.CurveID != 0 { // TLS 1.2 does without one, too
			f.Session.Group, f.Session.PostQuantum = dot.GroupName(h.State.CurveID), h.PostQuantum
		}
		f.Chain = chainOf(h.State, i.e.Pins)
	case h.State.DidResume:
		f.Session.Resumes, f.Times.Resumed = true, seconds(h.Took)
	}
}

func seconds(d time.Duration) float64 { return d.Round(time.Microsecond).Seconds() }

// Pinnable returns what of the chain is best pinned: the leaf, and its issuer, whose key outlives
// it. Either may be missing.
func (f *Finding) Pinnable() (leaf, issuer *Certificate) {
	for i := range f.Chain {
		switch c := &f.Chain[i]; c.Role {
		case Leaf:
			leaf = c
		case Issuer:
			issuer = c
		}
	}
	return leaf, issuer
}
