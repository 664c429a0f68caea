package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dnsproxy/internal/control"
)

const statusHelp = `[--watch] [--json] [--socket=PATH]

Shows what the running daemon does: its configuration, what confines it, how
each upstream fares and over what, the cache, the clients; on a terminal also
the last hour.

  --watch        again each second, in place, until Ctrl-C
  --json         print JSON
  --socket=PATH  the daemon's control socket (` + control.Path + `)

The exit code is 1 if no daemon answers.`

// status is the command "status".
func status(args []string, stdout, stderr io.Writer) error {
	o := newOptions("status", statusHelp, stdout)
	watch := o.Bool("watch", false, "")
	asJSON := o.Bool("json", false, "")
	path := o.socket()
	if err := o.parse(args, stderr); err != nil {
		return err
	}
	ctx, stop := untilSignal(syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if *watch {
		return watchStatus(ctx, *path, *asJSON, stdout)
	}
	s, err := askStatus(ctx, *path)
	if err != nil {
		return err
	}
	return showStatus(stdout, s, screenOf(stdout), *asJSON)
}

func askStatus(ctx context.Context, path string) (*control.Status, error) {
	s := new(control.Status)
	return s, control.Ask(ctx, path, control.Request{Command: control.CommandStatus}, s)
}

func showStatus(w io.Writer, s *control.Status, on screen, asJSON bool) error {
	if asJSON {
		return writeJSON(w, s)
	}
	_, err := w.Write(statusText(s, on))
	return err
}

// watchStatus shows the status each second until ctx ends. A daemon that does not answer, as while it is restarted, is
// shown as that, but for the first time.
func watchStatus(ctx context.Context, path string, asJSON bool, w io.Writer) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for shown := false; ; shown = true {
		s, err := askStatus(ctx, path)
		on := screenOf(w)
		var frame bytes.Buffer
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !shown:
			return err
		case err != nil:
			fmt.Fprintln(&frame, err)
		default:
			if err := showStatus(&frame, s, on, asJSON); err != nil {
				return err
			}
		}
		if err := showFrame(w, frame.Bytes(), on, shown); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// showFrame writes a frame over the last one on a terminal, and behind it elsewhere.
func showFrame(w io.Writer, frame []byte, on screen, again bool) error {
	// What of ECMA-48 every terminal knows: erase the display, cursor to the first
	// line; then line by line, erasing what is left of the old one, so that nothing flickers.
	const clear, home, eraseLine, eraseBelow = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"
	var out bytes.Buffer
	switch {
	case on.terminal:
		if !again {
			out.WriteString(clear)
		}
		out.WriteString(home)
		lines := bytes.SplitAfter(bytes.TrimSuffix(frame, []byte("\n")), []byte("\n"))
		for i, line := range lines[:min(len(lines), max(1, on.height-1))] {
			if i > 0 {
				out.WriteByte('\n')
			}
			out.Write(bytes.TrimSuffix(line, []byte("\n")))
			out.WriteString(eraseLine)
		}
		out.WriteString("\n" + eraseBelow)
	default:
		if again {
			out.WriteByte('\n')
		}
		out.Write(frame)
	}
	_, err := w.Write(out.Bytes())
	return err
}

// screen is what is known of where text is shown.
type screen struct {
	terminal      bool
	width, height int // in characters
}

// screenOf returns what w is.
func screenOf(w io.Writer) screen {
	plain := screen{width: 80, height: 24}
	f, ok := w.(*os.File)
	if !ok {
		return plain
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return plain
	}
	on := screen{terminal: true, width: int(size.Col), height: int(size.Row)}
	if on.width == 0 { // a terminal that does not know
		on.width, on.height = plain.width, plain.height
	}
	return on
}

// ask is [control.Ask] until a signal ends it.
func ask(path string, r control.Request, into any) error {
	ctx, stop := untilSignal(syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := control.Ask(ctx, path, r, into)
	if errors.Is(err, context.Canceled) {
		return context.Cause(ctx)
	}
	return err
}
