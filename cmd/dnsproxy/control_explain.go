package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/control"
	"dnsproxy/internal/dot"
	"dnsproxy/internal/forwarder"
	"dnsproxy/internal/upstream"
	"dnsproxy/internal/wire"
)

// explain answers a query as a client's, and tells its way.
func (d *daemon) explain(ctx context.Context, r control.Request) (*control.Explanation, error) {
	q, err := queryOf(r)
	if err != nil {
		return nil, err
	}
	trace := new(upstream.Trace)
	began := time.Now()
	found := d.forward.Explain(upstream.WithTrace(ctx, trace), q, dns.MaxMsgSize)
	e := &control.Explanation{
		Name: dns.Fqdn(r.Name), Type: dns.Type(q.QType()).String(), Route: dns.Fqdn(found.Domain),
		Via: []control.Via{}, Took: control.SecondsOf(time.Since(began)),
		Source: sourceNames[found.Source], Message: found.Answer,
	}
	e.RCode, e.EDE = outcomeOf(found.Answer)
	if found.Source == forwarder.Local {
		e.Local = strings.Join(e.EDE, "; ")
		return e, nil // neither the cache nor upstreams have a say
	}
	e.Entry, e.Failure = storedOf(found.Entry), storedOf(found.Failure)
	if g, ok := found.Exchanger.(*upstream.Group); ok {
		for _, c := range g.Stats() {
			e.Via = append(e.Via, control.Via{
				Upstream: c.Endpoint.Upstream, Address: c.Endpoint.Addr.String(),
				State: c.Health.State.String(), Error: dot.CauseOf(c.Health.Err),
			})
		}
	}
	for _, s := range trace.Steps() {
		e.Steps = append(e.Steps, stepOf(s))
	}
	return e, nil
}

// sourceNames are forwarder's sources in the words of package control.
var sourceNames = [...]string{
	forwarder.Local: control.SourceLocal, forwarder.Cached: control.SourceCache, forwarder.Stale: control.SourceStale,
	forwarder.KnownFailure: control.SourceFailure, forwarder.Upstream: control.SourceUpstream, forwarder.Nobody: control.SourceNone,
}

// queryOf returns what a client would send.
func queryOf(r control.Request) (wire.Query, error) {
	if _, err := wireName(r.Name); err != nil {
		return wire.Query{}, err
	}
	qtype, err := parseType(r.Type)
	if err != nil {
		return wire.Query{}, err
	}
	m := new(dns.Msg).SetQuestion(dns.Fqdn(r.Name), qtype)
	m.SetEdns0(1232, r.DNSSEC)
	raw, err := m.Pack()
	if err != nil {
		return wire.Query{}, fmt.Errorf("writing the query: %w", err)
	}
	q, err := wire.ParseQuery(raw)
	if err != nil {
		return wire.Query{}, fmt.Errorf("a query of type %s is not forwarded, but answered with %w", dns.Type(qtype), err)
	}
	return q, nil
}

// parseType returns the QTYPE that a mnemonic or, as in RFC 3597, TYPE and a number stand for.
func parseType(s string) (uint16, error) {
	s = strings.ToUpper(s)
	if t, ok := dns.StringToType[s]; ok {
		return t, nil
	}
	if n, err := strconv.ParseUint(strings.TrimPrefix(s, "TYPE"), 10, 16); err == nil {
		return uint16(n), nil
	}
	if s == "" {
		return dns.TypeA, nil
	}
	return 0, fmt.Errorf("%q is no type of records; want one such as A, AAAA, HTTPS or TYPE65280", s)
}

// outcomeOf returns the RCODE and the extended errors of an answer.
func outcomeOf(msg []byte) (rcode string, ede []string) {
	m := new(dns.Msg)
	_ = m.Unpack(msg) // what it could read stands in m; the rest may be of types that it does not know
	rcode = wire.RCode(m.Rcode).Error()
	opt := m.IsEdns0()
	if opt == nil {
		return rcode, nil
	}
	for _, o := range opt.Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok {
			text := fmt.Sprintf("%d (%s)", e.InfoCode, dns.ExtendedErrorCodeToString[e.InfoCode])
			if e.ExtraText != "" {
				text += ": " + e.ExtraText
			}
			ede = append(ede, text)
		}
	}
	return rcode, ede
}

func storedOf(s *forwarder.Stored) *control.Stored {
	if s == nil {
		return nil
	}
	return &control.Stored{
		RCode: s.RCode.Error(), Fresh: s.Fresh(), Hits: s.Hits, Age: control.SecondsOf(s.Age),
		Lifetime: control.SecondsOf(s.Lifetime), Left: control.SecondsOf(s.Lifetime - s.Age),
	}
}

func stepOf(s upstream.Step) control.Step {
	step := control.Step{
		After: control.SecondsOf(s.After), Upstream: s.Upstream, Address: s.Addr.String(),
		Event: string(s.Event), State: s.State.String(), Error: dot.CauseOf(s.Err),
	}
	if s.Reason != upstream.NoReason {
		step.Reason = s.Reason.String()
	}
	return step
}
