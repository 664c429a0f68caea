package frontend_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"dnsproxy/internal/frontend"
)

// A SERVFAIL would be the end of the query for its client. Silence makes the client ask again, and
// whoever serves the socket next will answer.
func TestQueriesOverUDPThatOutliveTheDrainGetNoAnswer(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h := newHandler()
	f := frontend.New(frontend.Sockets{UDP: []*net.UDPConn{conn.(*net.UDPConn)}}, h, limits(), slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx, time.Millisecond) }()

	c := dial(t, "udp", conn.LocalAddr().String())
	c.send(query("wait.example."))
	<-h.waiting
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	// What Run sent would be ahead of this.
	mark := query("mark.example.")
	packed, err := mark.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.WriteTo(packed, c.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if got := c.receive(); got.Id != mark.Id {
		t.Errorf("an answer was sent after the drain:\n%v", got)
	}
}
