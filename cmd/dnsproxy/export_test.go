package main

import (
	"log/slog"
	"time"

	"dnsproxy/internal/control"
	"dnsproxy/internal/frontend"
	"dnsproxy/internal/wire"
)

// Main is the program, for the test binary that runs as it.
func Main() { main() }

// Beat asks one of s a query of the daemon's own, as the watchdog does.
func Beat(s frontend.Sockets, timeout time.Duration) error {
	p, err := newPulse(s)
	if err != nil {
		return err
	}
	defer p.close()
	return p.beat(timeout)
}

// StartWatchdog starts one that feeds nobody, and returns its stop.
func StartWatchdog(s frontend.Sockets, interval time.Duration, log *slog.Logger) (stop func(), err error) {
	p, err := newPulse(s)
	if err != nil {
		return nil, err
	}
	return newWatchdog(interval, p, nil, log).stop, nil
}

// QueryOf is what the daemon makes of a request to explain.
func QueryOf(r control.Request) (wire.Query, error) { return queryOf(r) }
