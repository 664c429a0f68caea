package dot_test

import (
	"context"
	"crypto/tls"
	"testing"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/dottest"
	"dnsproxy/internal/spki"
	"dnsproxy/internal/wire"
)

func TestProberOpensAsAClientDoes(t *testing.T) {
	s := dottest.New(t)
	e := s.Endpoint()
	e.Pins = spki.Set{{1}, s.CA().Pin()}
	p := dot.NewProber(e)
	for _, resumed := range []bool{false, true} {
		conn, h, err := p.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if pin, ok := p.Matched(h.State); !ok || pin != s.CA().Pin() {
			t.Errorf("matched %v, %v", pin, ok)
		}
		if h.State.DidResume != resumed || h.State.Version != tls.VersionTLS13 || h.Connect <= 0 || h.Took <= 0 {
			t.Errorf("got %+v, want resumed %v", h, resumed)
		}
		awaitTicket(t, conn)
		conn.Close()
	}
	s.KeepTickets(s.CA().Issue(dottest.Leaf{Name: "other.example"}))
	if _, _, err := dot.NewProber(e).Open(t.Context()); dot.ReasonOf(err) != dot.Authentication {
		t.Errorf("wrong name: got %v", err)
	}
	s.Stop()
	if _, h, err := p.Open(t.Context()); dot.ReasonOf(err) != dot.Refused || h.Connect != 0 {
		t.Errorf("nobody there: got %+v, %v", h, err)
	}
}

// awaitTicket reads until a ticket has come: the server sends it ahead of the first answer.
func awaitTicket(t *testing.T, conn *tls.Conn) {
	t.Helper()
	if _, err := conn.Write(wire.AppendUpstream(nil, query(t, "www.example"), 1, true)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
}

// What is not authenticated, or not even allowed, is looked at, and told nothing.
func TestProberLooksWithoutAQuery(t *testing.T) {
	for name, change := range map[string]func(*tls.Config){
		"sound":   func(*tls.Config) {},
		"TLS 1.2": func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
		"P-521":   func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP521} },
	} {
		t.Run(name, func(t *testing.T) {
			s := dottest.New(t, dottest.WithTLS(change))
			e := s.Endpoint()
			e.ServerName, e.Groups, e.Pins = "other.example", []tls.CurveID{tls.X25519}, spki.Set{{1}}
			p := dot.NewProber(e)
			if _, _, err := p.Open(t.Context()); err == nil {
				t.Fatal("opened")
			}
			h, err := p.Look(t.Context())
			if err != nil || len(h.State.PeerCertificates) != 1 || spki.Of(h.State.PeerCertificates[0]) != s.Pin() || h.Connect <= 0 || h.Took <= 0 {
				t.Fatalf("got %+v, %v", h, err)
			}
			if h, err := p.Look(t.Context()); err != nil || h.State.Version == tls.VersionTLS13 && !h.State.DidResume {
				t.Errorf("the second time: resumed %v, %v", h.State.DidResume, err)
			}
			if n := s.Stats().Queries; n != 0 {
				t.Errorf("%d queries sent", n)
			}
		})
	}
}

// Whoever looks sets the time for it.
func TestProberLooksForAsLongAsItIsLet(t *testing.T) {
	s := dottest.New(t, dottest.InMemory())
	s.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	if _, err := dot.NewProber(s.Endpoint()).Look(ctx); dot.ReasonOf(err) != dot.Timeout {
		t.Errorf("got %v", err)
	}
}
