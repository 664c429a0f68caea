package forwarder_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/forwarder"
	"dnsproxy/internal/wire"
)

type markKey struct{}

// marked is an upstream that notices whether the context is the asker's.
type marked struct {
	upstream
	seen atomic.Int64
}

func (m *marked) Exchange(ctx context.Context, q wire.Query) (wire.Response, error) {
	if ctx.Value(markKey{}) != nil {
		m.seen.Add(1)
	}
	return m.upstream.Exchange(ctx, q)
}

// explain asks why, with a context that is marked.
func (a *asker) explain(name string, qtype uint16) (forwarder.Explanation, *dns.Msg) {
	a.t.Helper()
	raw, err := question(name, qtype).Pack()
	if err != nil {
		a.t.Fatal(err)
	}
	q, err := wire.ParseQuery(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	e := a.Explain(context.WithValue(a.t.Context(), markKey{}, true), q, dns.MaxMsgSize)
	m := new(dns.Msg)
	if err := m.Unpack(e.Answer); err != nil {
		a.t.Fatal(err)
	}
	return e, m
}

func TestExplainTellsTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &marked{upstream: upstream{answer: records(t, 0, "www.example. 100 A 192.0.2.1")}}
		corp := &upstream{answer: failing}
		s := settings(up)
		s.Routes = append(s.Routes, forwarder.Route{Domain: "corp.example", Scope: 1, Exchanger: corp})
		a := newAsker(t, s)
		type row struct {
			after  time.Duration
			name   string
			qtype  uint16
			source forwarder.Source
			entry  bool
			age    time.Duration
			domain string
			rcode  int
		}
		for i, want := range []row{
			{0, "localhost.", dns.TypeA, forwarder.Local, false, 0, "", dns.RcodeSuccess},
			{0, "www.example.", dns.TypeA, forwarder.Upstream, false, 0, "", dns.RcodeSuccess},
			{30 * time.Second, "WWW.example.", dns.TypeA, forwarder.Cached, true, 30 * time.Second, "", dns.RcodeSuccess},
			{71 * time.Second, "www.example.", dns.TypeA, forwarder.Upstream, true, 101 * time.Second, "", dns.RcodeSuccess},
			{0, "www.corp.example.", dns.TypeA, forwarder.Nobody, false, 0, "corp.example", dns.RcodeServerFailure},
			{0, "www.corp.example.", dns.TypeA, forwarder.KnownFailure, false, 0, "corp.example", dns.RcodeServerFailure},
			{2 * time.Second, "www.corp.example.", dns.TypeA, forwarder.Nobody, false, 0, "corp.example", dns.RcodeServerFailure},
		} {
			time.Sleep(want.after)
			e, m := a.explain(want.name, want.qtype)
			if e.Source != want.source || (e.Entry != nil) != want.entry || e.Domain != want.domain || m.Rcode != want.rcode {
				t.Errorf("row %d: got %+v and %v", i, e, m)
			}
			if e.Entry != nil && (e.Entry.Age != want.age || e.Entry.Fresh() != (want.source == forwarder.Cached)) {
				t.Errorf("row %d: entry %+v, want one of %v", i, e.Entry, want.age)
			}
			if known := want.source == forwarder.KnownFailure; (e.Failure != nil) != known {
				t.Errorf("row %d: failure %+v", i, e.Failure)
			}
		}
		// The second question found an expired entry, so that its flight was led in the background.
		if got := up.seen.Load(); got != 2 {
			t.Errorf("the context reached the exchanger %d times, want 2", got)
		}
		up.answer = failing
		time.Sleep(101 * time.Second)
		if e, m := a.explain("www.example.", dns.TypeA); e.Source != forwarder.Stale || e.Entry.Fresh() {
			t.Errorf("got %+v and %v", e, m)
		}
	})
}
