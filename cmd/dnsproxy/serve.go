package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"dnsproxy/internal/config"
	"dnsproxy/internal/journal"
	"dnsproxy/internal/systemd"
)

const serveHelp = `[--config=FILE] [--listen=ADDR:PORT ...]

Forwards queries until SIGTERM or SIGINT; SIGHUP reads the configuration
again. Sockets come from systemd; without systemd, from --listen or the
configuration's "listen".

  --config=FILE       the configuration (` + defaultConfig + `)
  --listen=ADDR:PORT  serve UDP and TCP there instead of the addresses in the
                      configuration; may be repeated`

// serve is the command "serve".
func serve(args []string, stdout, stderr io.Writer) error {
	o := newOptions("serve", serveHelp, stdout)
	path := o.config()
	var addrs []netip.AddrPort
	o.Func("listen", "", func(s string) error {
		addr, err := config.ParseListen(s)
		addrs = append(addrs, addr)
		return err
	})
	if err := o.parse(args, stderr); err != nil {
		return err
	}
	level := new(slog.LevelVar)
	log := slog.New(journal.New(os.Stderr, level))
	d := &daemon{log: log, level: level, load: func() (*config.Config, error) { return config.Load(*path) }}
	if err := d.serve(addrs); err != nil {
		for line := range strings.Lines(err.Error()) {
			log.Error(strings.TrimSpace(line))
		}
		return errReported
	}
	return nil
}

// serve runs the daemon as a service: with the service manager's sockets or, if it passed none,
// with its own on addrs or, if that is empty, where the configuration says.
func (d *daemon) serve(addrs []netip.AddrPort) error {
	notify, err := systemd.NewNotifier()
	if err != nil {
		return err
	}
	d.notify = notify
	passed, err := systemd.Listen()
	if err != nil {
		return err
	}
	if d.interval, err = systemd.WatchdogInterval(); err != nil {
		return err
	}
	cfg, err := d.load()
	if err != nil {
		return err
	}
	d.operator.control, d.operator.metrics = passed.Control, passed.Metrics
	if d.sockets = passedSockets(passed); passed.Passed() {
		d.warnIgnored(addrs, cfg.Listen)
	} else {
		if len(addrs) == 0 {
			addrs = cfg.Listen
		}
		if d.sockets, err = listen(addrs); err != nil {
			return err
		}
	}
	defer closeSockets(d.sockets)
	warnEnvironment(d.log)
	// Who read standard error may go away; the daemon stays (os/signal, "SIGPIPE").
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := untilSignal(syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return d.run(ctx, cfg)
}

// warnIgnored says that addresses were given twice, and which count.
func (d *daemon) warnIgnored(option, file []netip.AddrPort) {
	serving := addresses(d.sockets)
	same := func(addrs []netip.AddrPort) bool {
		return !slices.ContainsFunc(addrs, func(a netip.AddrPort) bool { return !slices.Contains(serving, a) })
	}
	switch {
	case len(option) > 0:
		d.log.Warn("--listen ignored, since systemd passed sockets", "ignored", join(option), "serving", join(serving))
	case !same(file) && !slices.Equal(file, config.DefaultListen()):
		d.log.Warn("listen in the configuration ignored, since systemd passed sockets", "ignored", join(file), "serving", join(serving))
	}
}

// untilSignal returns a context that ends with any of ends. A second signal ends the
// process.
func untilSignal(ends ...os.Signal) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, ends...)
	go func() {
		select {
		case s := <-signals:
			signal.Reset(ends...)
			cancel(fmt.Errorf("received %v: %w", s, context.Canceled))
		case <-ctx.Done():
			signal.Stop(signals)
		}
	}()
	return ctx, func() { cancel(errors.New("done")) }
}
