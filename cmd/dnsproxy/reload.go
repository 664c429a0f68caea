package main

import (
	"errors"
	"fmt"
	"strings"

	"dnsproxy/internal/config"
	"dnsproxy/internal/sandbox"
)

// reload reads the configuration again and puts it in force, all of it or, if there is any fault, nothing. Sessions to
// upstreams that stay as they are go on, the cache stays, and queries under way end on what they began with.
func (d *daemon) reload() {
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
		return
	}
	d.apply(next)
	d.notify.Ready(d.status())
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

// apply puts next in force. Nothing in it can fail.
func (d *daemon) apply(next *config.Config) {
	d.warn(next)
	changes := config.Diff(d.cfg, next)
	for _, change := range changes {
		d.log.Info("configuration changed", "change", change)
	}
	for _, key := range config.NeedsRestart(d.cfg, next) {
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
}
