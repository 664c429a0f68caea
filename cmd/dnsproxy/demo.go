package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"syscall"

	"dnsproxy/internal/config"
	"dnsproxy/internal/frontend"
	"dnsproxy/internal/journal"
)

const demoHelp = `[--listen=ADDR:PORT]

Runs the daemon that "serve" runs, beside an upstream of its own on loopback,
until Ctrl-C. It needs no root, no network and no file.

  --listen=ADDR:PORT  serve there (127.0.0.1:5353, or the next free port)`

// demo is the command "demo".
func demo(args []string, stdout, stderr io.Writer) error {
	o := newOptions("demo", demoHelp, stdout)
	var wanted netip.AddrPort
	o.Func("listen", "", func(s string) (err error) {
		wanted, err = config.ParseListen(s)
		return err
	})
	if err := o.parse(args, stderr); err != nil {
		return err
	}
	up, err := newDemoUpstream()
	if err != nil {
		return fmt.Errorf("starting the upstream: %w", err)
	}
	defer up.close()
	sockets, err := listenFrom(wanted)
	if err != nil {
		return err
	}
	defer closeSockets(sockets)

	addr := addresses(sockets)[0]
	text := up.configuration(addr)
	cfg, err := config.Parse([]byte(text), "demo.toml", os.ReadFile)
	if err != nil {
		return err
	}
	cfg.Warnings = nil // of the single pin: the key lives as long as the demo
	cfg.File = ""      // there is none, and so no directory to keep readable
	level := new(slog.LevelVar)
	d := &daemon{
		log: slog.New(journal.NewText(stderr, level)), level: level, sockets: sockets,
		ready: func() { introduce(stdout, text, addr) },
	}
	// It ends with its terminal, too: nobody would know that it runs.
	ctx, stop := untilSignal(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	if err := d.run(ctx, cfg); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "\nThe demo has ended.")
	return nil
}

// listenFrom binds wanted or, if that is the zero value, the first free port from 5353 on.
func listenFrom(wanted netip.AddrPort) (s frontend.Sockets, err error) {
	const first, last = 5353, 5453
	if wanted.IsValid() {
		return listen([]netip.AddrPort{wanted})
	}
	for port := uint16(first); port <= last; port++ {
		s, err = listen([]netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)})
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return s, err
}

// introduce says what runs and what to try.
func introduce(w io.Writer, text string, addr netip.AddrPort) {
	fmt.Fprintf(w, `
This configuration was made for the demo:

%s
dnsproxy answers on %v, over UDP and TCP. Try, in another terminal:

  dig @%v -p %d www.example.com A
  dig @%v -p %d +tcp tls.demo.test TXT

The second tells how the query reached the upstream. Ctrl-C ends the demo.

`, text, addr, addr.Addr(), addr.Port(), addr.Addr(), addr.Port())
}
