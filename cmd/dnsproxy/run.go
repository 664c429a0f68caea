package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"dnsproxy/internal/cache"
	"dnsproxy/internal/config"
	"dnsproxy/internal/forwarder"
	"dnsproxy/internal/frontend"
	"dnsproxy/internal/sandbox"
	"dnsproxy/internal/systemd"
	"dnsproxy/internal/upstream"
)

// drain is how long answers that are due may take once the daemon is told to
// stop. Most take less; and for as long, nobody reads the sockets.
const drain = time.Second

// daemon is the whole program at work.
//
// Its goroutines, by owner: frontend.Run has a reader for each UDP socket and each listener, one
// for each TCP client, and those that wait for answers, at most limits.pending; a dot.Client has two for each session
// and one for each that is opened or closed; the forwarder has its refreshes, at most 128; control.Serve and
// metrics.Serve have one for each of at most 8 clients, and the history has one; run has one for
// SIGHUP and one for the watchdog. Each owner waits for its own.
type daemon struct {
	log      *slog.Logger
	level    *slog.LevelVar
	load     func() (*config.Config, error) // reads the configuration again; nil: there is no file
	sockets  frontend.Sockets
	notify   *systemd.Notifier
	interval time.Duration // of the watchdog; 0: none
	ready    func()        // called once serving has begun, if not nil

	operator operator
	reloads  chan *reloadRequest

	cfg     *config.Config // in force
	granted sandbox.Policy
	pool    *upstream.Pool
	cache   *cache.Cache
	forward *forwarder.Forwarder
	front   *frontend.Frontend
}

// run serves with cfg until ctx ends. Its order is the design: build, seal, serve.
func (d *daemon) run(ctx context.Context, cfg *config.Config) error {
	d.warn(cfg)
	if err := cfg.CheckLoop(addresses(d.sockets)); err != nil {
		return err
	}
	d.level.Set(cfg.LogLevel)
	d.pool = upstream.NewPool(d.log)
	defer d.pool.Close()
	d.pool.Update(cfg.Upstreams, cfg.Selection)
	d.cache = cache.New(cfg.CacheSize)
	d.forward = forwarder.New(d.cache, d.forwarding(cfg), d.log)
	defer d.forward.Close()
	d.front = frontend.New(d.sockets, d.forward, cfg.Frontend, d.log)
	d.cfg = cfg
	d.operator.inForce(cfg)
	pulse, err := newPulse(d.sockets)
	if err != nil {
		return err
	}
	defer pulse.close()
	d.reloads = make(chan *reloadRequest)
	hangup := make(chan os.Signal, 1)
	if d.load != nil {
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
	}

	if err := d.seal(cfg); err != nil {
		return err
	}
	// From here on, bytes from the network are read.
	return d.serveSealed(ctx, hangup, pulse)
}

func (d *daemon) warn(cfg *config.Config) {
	for _, w := range cfg.Warnings {
		d.log.Warn(w)
	}
}

// seal confines the process to what cfg needs.
func (d *daemon) seal(cfg *config.Config) (err error) {
	if d.granted, err = cfg.Policy(); err != nil {
		return err
	}
	report, err := sandbox.Seal(d.granted, cfg.Sandbox)
	if err != nil {
		return fmt.Errorf("sealing the process: %w", err)
	}
	d.operator.sealed(report)
	if report.Complete() {
		d.log.Info("sandbox", "enforced", report.String())
	} else {
		d.log.Warn("sandbox", "enforced", report.String())
	}
	return nil
}

// serveSealed serves until ctx ends, and tells the service manager of it.
func (d *daemon) serveSealed(ctx context.Context, hangup <-chan os.Signal, pulse *pulse) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- d.front.Run(ctx, drain) }()
	d.log.Info("serving", "version", buildVersion(), "addresses", join(addresses(d.sockets)), "upstreams", names(d.cfg.Upstreams), "policy", d.cfg.Selection.Policy)
	d.notify.Ready(d.status())
	if d.ready != nil {
		d.ready()
	}
	watchdog := newWatchdog(d.interval, pulse, d.notify, d.log)
	defer watchdog.stop()
	defer d.answerOperator(ctx)()
	for {
		select {
		case <-hangup:
			d.reload()
		case r := <-d.reloads:
			r.result, r.err = d.reload()
			close(r.done)
		case <-ctx.Done():
			watchdog.stop() // nobody answers it from here on
			d.notify.Stopping()
			d.log.Info("stopping", "why", strings.TrimSuffix(context.Cause(ctx).Error(), ": "+context.Canceled.Error()))
			return <-served
		case err := <-served:
			d.notify.Stopping()
			return err
		}
	}
}

// status is what "systemctl status" shows.
func (d *daemon) status() string {
	return fmt.Sprintf("serving on %s; upstreams %s (%s)", join(addresses(d.sockets)), names(d.cfg.Upstreams), d.cfg.Selection.Policy)
}

func names(ups []upstream.Upstream) string {
	all := make([]string, len(ups))
	for i, u := range ups {
		all[i] = u.Name
	}
	return strings.Join(all, ", ")
}

// forwarding returns the forwarder's settings, routes included. The pool must have been updated.
func (d *daemon) forwarding(cfg *config.Config) forwarder.Settings {
	s := cfg.Forwarder
	add := func(domain string, upstreams []string) {
		s.Routes = append(s.Routes, forwarder.Route{Domain: domain, Scope: scope(cfg, upstreams), Exchanger: d.pool.Group(upstreams...)})
	}
	add("", cfg.DefaultUpstreams())
	for _, r := range cfg.Routes {
		for _, domain := range r.Domains {
			if domain != "" {
				add(domain, r.Upstreams)
			}
		}
	}
	return s
}

// scope identifies a set of upstreams and how they are authenticated, in whatever order they are asked. What
// was learnt from one set is not given to those who are to be answered by another.
func scope(cfg *config.Config, upstreams []string) uint32 {
	var set []string
	for _, name := range upstreams {
		for _, u := range cfg.Upstreams {
			if u.Name != name {
				continue
			}
			for _, e := range u.Endpoints {
				set = append(set, fmt.Sprintf("%v|%s|%s|%v|%v\n", e.Addr, e.ServerName, e.RootsID, e.Pins, e.ReportOnly))
			}
		}
	}
	slices.Sort(set)
	h := fnv.New32a()
	for _, endpoint := range set {
		io.WriteString(h, endpoint)
	}
	return h.Sum32()
}
