package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/config"
	"dnsproxy/internal/control"
	"dnsproxy/internal/metrics"
	"dnsproxy/internal/sandbox"
)

// operator is the daemon's side of what its operator may ask: the sockets that the service manager passed
// for that, and what the daemon remembers of its own life.
type operator struct {
	control []*net.UnixListener
	metrics []net.Listener
	history history

	mu       sync.Mutex // guards the fields below
	started  time.Time
	cfg      *config.Config // in force
	loaded   time.Time
	reloads  uint64 // that were put in force
	failures uint64 // that were not
	lastErr  error  // of the last reload
	failedAt time.Time
	report   sandbox.Report
}

// inForce notes that cfg is, from its start or a reload on.
func (o *operator) inForce(cfg *config.Config) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if o.cfg == nil {
		o.started = now
	} else {
		o.reloads++
	}
	o.cfg, o.loaded, o.lastErr = cfg, now, nil
}

// refused notes why a reload changed nothing.
func (o *operator) refused(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures++
	o.lastErr, o.failedAt = err, time.Now()
}

// sealed notes what the sandbox enforces.
func (o *operator) sealed(r sandbox.Report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.report = r
}

// answerOperator serves the control and the metrics sockets, if there are any, until stop is called,
// which waits for what is being answered.
func (d *daemon) answerOperator(ctx context.Context) (stop func()) {
	o := &d.operator
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	if len(o.control) > 0 {
		running.Go(func() { control.Serve(ctx, o.control, d.answer, d.log) })
		running.Go(func() { o.history.keep(ctx, d.sample) })
	}
	if len(o.metrics) > 0 {
		running.Go(func() { metrics.Serve(ctx, o.metrics, d.writeMetrics, d.log) })
	}
	return func() {
		cancel()
		running.Wait()
	}
}

// answer answers a request over a control socket.
func (d *daemon) answer(ctx context.Context, r control.Request) (any, error) {
	switch r.Command {
	case control.CommandStatus:
		return d.snapshot(), nil
	case control.CommandFlush:
		return d.flush(r)
	case control.CommandExplain:
		return d.explain(ctx, r)
	case control.CommandReload:
		return d.reloadNow(ctx)
	default:
		return nil, fmt.Errorf("this daemon, version %s, does not know the command %q", buildVersion(), r.Command)
	}
}

// flush drops what the cache has of a name, of a subtree, or of all.
func (d *daemon) flush(r control.Request) (control.Flushed, error) {
	match := func([]byte) bool { return true }
	if r.Name != "" {
		name, err := wireName(r.Name)
		if err != nil {
			return control.Flushed{}, err
		}
		match = isAtOrUnder(name, r.Subtree)
	}
	n := d.cache.Remove(match)
	d.log.Info("cache flushed", "entries", n, "all", r.Name == "")
	d.log.Debug("cache flushed", "name", r.Name, "subtree", r.Subtree)
	return control.Flushed{Entries: n}, nil
}

// wireName returns a domain name in wire form and lower case.
func wireName(name string) ([]byte, error) {
	buf := make([]byte, 256)
	n, err := dns.PackDomainName(strings.ToLower(dns.Fqdn(name)), buf, 0, nil, false)
	if err != nil || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("%q is no domain name (as it goes over the wire: letters beyond ASCII as xn--)", name)
	}
	return buf[:n], nil
}
