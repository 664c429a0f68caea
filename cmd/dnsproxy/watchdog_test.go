package main_test

import (
	"bytes"
	"log/slog"
	"net"
	"testing"
	"time"

	main "dnsproxy/cmd/dnsproxy"
	"dnsproxy/internal/frontend"
)

// bindUDP binds a listener that nobody reads but the test.
func bindUDP(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// A flood fills the queue of a listener, and the kernel drops our query with most others. The daemon
// works all the same, and must not be ended for it.
func TestSignOfLifeOutlastsLoss(t *testing.T) {
	const dropped = 10
	c := bindUDP(t)
	beaten := make(chan error, 1)
	go func() { beaten <- main.Beat(frontend.Sockets{UDP: []*net.UDPConn{c}}, patience/4) }()
	buf := make([]byte, 512)
	for range dropped {
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	n, from, err := c.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.WriteToUDPAddrPort(buf[:n], from); err != nil {
		t.Fatal(err)
	}
	if err := <-beaten; err != nil {
		t.Errorf("got %v after %d lost queries", err, dropped)
	}
}

// While the daemon drains, nobody reads the sockets, and the watchdog's query stays unanswered. It must
// neither hold up the end nor be told as a fault: the next daemon starts only after it.
func TestWatchdogDoesNotHoldUpTheEnd(t *testing.T) {
	c := bindUDP(t)
	var log bytes.Buffer
	stop, err := main.StartWatchdog(frontend.Sockets{UDP: []*net.UDPConn{c}}, time.Hour, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 512)); err != nil { // now it waits for an answer
		t.Fatal(err)
	}
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > time.Second {
		t.Errorf("stopping took %v", took)
	}
	if log.Len() > 0 {
		t.Errorf("logged %s", log.String())
	}
}
