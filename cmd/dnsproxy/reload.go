package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dnsproxy/internal/config"
	"dnsproxy/internal/control"
	"dnsproxy/internal/sandbox"
)

// reload reads the configuration again and puts it in force, all of it or, if there is any fault, nothing. Sessions to
// upstreams that stay as they are go on, the cache stays, and queries under way end on what they began with.
func (d *daemon) reload() (*control.Reloaded, error) {
	d.notify.Reloading()
	next, err := d.load()
	if err == nil {
		err = d.acceptable(next)
	}
	if err != nil {
		d.operator.refused(err)
		first := ""
		for line := range strings.Lines(err.Error()) {
			line = strings.TrimSpace(line)
			d.log.Error("reload failed", "err", line)
			if first == "" {
				first = line
			}
		}
		d.notify.Ready("running previous configuration: " + first)
		return nil, err
	}
	done := d.apply(next)
	d.notify.Ready(d.status())
	return done, nil
}

// reloadRequest is one that the operator waits for.
type reloadRequest struct {
	result *control.Reloaded
	err    error
	done   chan struct{} // closed once the fields above are set
}

// reloadNow has the configuration read again, and waits for it.
func (d *daemon) reloadNow(ctx context.Context) (*control.Reloaded, error) {
	if d.load == nil {
		return nil, errors.New("this daemon has no configuration file to read again")
	}
	r := &reloadRequest{done: make(chan struct{})}
	select {
	case d.reloads <- r:
		<-r.done
	case <-ctx.Done():
		return nil, errors.New("the daemon is stopping, or busy with another reload")
	}
	return r.result, r.err
}

// acceptable reports what speaks against putting next in force without a restart.
func (d *daemon) acceptable(next *config.Config) error {
	if err := next.CheckLoop(addresses(d.sockets)); err != nil {
		return err
	}
	if d.cfg.Sandbox == sandbox.Off {
		return nil
	}
	needed, err := next.Policy()
	if err != nil {
		return err
	}
	if !d.granted.Covers(needed) {
		return fmt.Errorf("the sandbox allows connections to ports %v and files in %s only: %w",
			d.granted.ConnectPorts, strings.Join(d.granted.ReadDirs, ", "), errNeedsRestart)
	}
	return nil
}

var errNeedsRestart = errors.New("this change needs a restart")

// apply puts next in force, and returns what that changes. Nothing in it can fail.
func (d *daemon) apply(next *config.Config) *control.Reloaded {
	d.warn(next)
	changes, restart := config.Diff(d.cfg, next), config.NeedsRestart(d.cfg, next)
	for _, change := range changes {
		d.log.Info("configuration changed", "change", change)
	}
	for _, key := range restart {
		d.log.Warn("configuration changed, but needs a restart", "change", key)
	}
	// What needs a restart stays as it is until then, and is told of again.
	next.Listen, next.Sandbox = d.cfg.Listen, d.cfg.Sandbox
	d.cfg = next
	d.operator.inForce(next)
	d.level.Set(next.LogLevel)
	d.pool.Update(next.Upstreams, next.Selection)
	d.cache.Resize(next.CacheSize)
	d.forward.Apply(d.forwarding(next))
	d.front.Apply(next.Frontend)
	d.log.Info("configuration loaded", "changes", len(changes))
	return &control.Reloaded{Changes: changes, NeedsRestart: restart}
}
