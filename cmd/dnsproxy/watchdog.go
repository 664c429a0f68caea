package main

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"dnsproxy/internal/frontend"
	"dnsproxy/internal/systemd"
)

// pulse asks the daemon a query of its own by the way that clients' queries take: through the
// network and a listening socket.
type pulse struct {
	conn *net.UDPConn
	id   uint16
}

// newPulse connects to the first UDP socket. It must come before the sandbox forbids that.
func newPulse(s frontend.Sockets) (*pulse, error) {
	if len(s.UDP) == 0 {
		return nil, errors.New("no UDP socket to serve")
	}
	addr := addresses(s)[0]
	switch {
	case addr.Addr() == netip.IPv4Unspecified():
		addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port())
	case addr.Addr() == netip.IPv6Unspecified():
		addr = netip.AddrPortFrom(netip.IPv6Loopback(), addr.Port())
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	return &pulse{conn: conn}, nil
}

func (p *pulse) close() { p.conn.Close() }

// attempts is how often a beat asks before it gives up. A flood that fills the listener's queue
// loses most of what comes, ours as well, and is no reason to end a daemon that works it off.
const attempts = 50

// beat reports whether a query is answered within timeout. The query does not desire recursion, so
// that the answer depends on no upstream; any will do.
func (p *pulse) beat(timeout time.Duration) (err error) {
	p.id++
	query := binary.BigEndian.AppendUint16(nil, p.id)
	query = append(query, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	query = append(query, "\x09localhost\x00\x00\x01\x00\x01"...)
	for range attempts {
		p.conn.SetDeadline(time.Now().Add(timeout / attempts))
		if _, err = p.conn.Write(query); err != nil {
			return err
		}
		if err = p.answered(); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return err
}

// answered waits for the answer to the present query.
func (p *pulse) answered() error {
	answer := make([]byte, 512)
	for {
		n, err := p.conn.Read(answer)
		if err != nil {
			return err
		}
		if n >= 2 && binary.BigEndian.Uint16(answer) == p.id {
			return nil
		}
	}
}

// watchdog tells the service manager that the daemon serves, as long as it does.
type watchdog struct {
	pulse *pulse
	done  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
}

// newWatchdog starts it, if the manager wants to hear from it at some interval.
func newWatchdog(interval time.Duration, p *pulse, n *systemd.Notifier, log *slog.Logger) *watchdog {
	w := &watchdog{pulse: p, done: make(chan struct{})}
	if interval > 0 {
		w.wg.Go(func() { w.run(interval, n, log) })
	}
	return w
}

func (w *watchdog) run(interval time.Duration, n *systemd.Notifier, log *slog.Logger) {
	tick := time.NewTicker(interval / 3) // two may be missed
	defer tick.Stop()
	for {
		switch err := w.pulse.beat(interval / 4); {
		case err == nil:
			n.Alive()
		case !w.stopped():
			log.Error("own query not answered", "err", err)
		}
		select {
		case <-tick.C:
		case <-w.done:
			return
		}
	}
}

func (w *watchdog) stopped() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// stop ends it at once, a beat under way included. It may be called again.
func (w *watchdog) stop() {
	w.once.Do(func() {
		close(w.done)
		w.pulse.close()
	})
	w.wg.Wait()
}
