package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"dnsproxy/internal/config"
	"dnsproxy/internal/control"
	"dnsproxy/internal/systemd"
)

const reloadHelp = `[--quiet] [--config=FILE] [--socket=PATH] [--pid=PID]

Has the daemon read its configuration again, and prints what changed. Every
fault goes to standard error, with file, line and key; then the exit code is 1,
and the daemon goes on as before. This is what "systemctl reload dnsproxy" runs.

  --quiet        print nothing but faults
  --config=FILE  the configuration (` + defaultConfig + `)
  --socket=PATH  the daemon's control socket (` + control.Path + `)
  --pid=PID      the daemon's process ($MAINPID, which systemd sets): without a
                 control socket it gets SIGHUP, if the file is good`

// reloadCommand is the command "reload".
func reloadCommand(args []string, stdout, stderr io.Writer) error {
	o := newOptions("reload", reloadHelp, stdout)
	quiet := o.Bool("quiet", false, "")
	path, socket := o.config(), o.socket()
	process := o.String("pid", os.Getenv("MAINPID"), "")
	if err := o.parse(args, stderr); err != nil {
		return err
	}
	pid, err := strconv.Atoi(*process)
	if *process != "" && (err != nil || pid <= 1) {
		return o.wrong(fmt.Errorf("--pid %q is no daemon's", *process), stderr)
	}
	done, found, err := reloadOver(*socket, *path)
	switch {
	case !found && pid > 1:
		return hangUp(pid, *path)
	case err != nil:
		return err
	case *quiet:
		return nil
	}
	_, err = io.WriteString(stdout, reloadedText(done))
	return err
}

var errNothingChanged = errors.New("nothing changed, the daemon keeps its configuration")

// reloadOver reloads the daemon that listens at socket, if its configuration is the file at path. It
// reports whether that one was found.
func reloadOver(socket, path string) (done *control.Reloaded, found bool, err error) {
	ctx, stop := untilSignal(syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s, err := askStatus(ctx, socket)
	var unreachable *control.UnreachableError
	switch {
	case err != nil:
		return nil, !errors.As(err, &unreachable), err
	case !sameFile(s.Config.File, path):
		return nil, false, fmt.Errorf("the daemon at %s has the configuration %s, not %s; name the other one's socket with --socket",
			socket, s.Config.File, path)
	}
	done = new(control.Reloaded)
	err = control.Ask(ctx, socket, control.Request{Command: control.CommandReload}, done)
	var refused *control.RefusedError
	switch {
	case errors.Is(err, context.Canceled):
		err = context.Cause(ctx)
	case errors.As(err, &refused):
		err = errors.Join(errNothingChanged, err)
	}
	return done, true, err
}

func sameFile(a, b string) bool {
	a, aErr := filepath.Abs(a)
	b, bErr := filepath.Abs(b)
	return aErr == nil && bErr == nil && a == b
}

func reloadedText(done *control.Reloaded) string {
	var b strings.Builder
	for _, change := range done.Changes {
		b.WriteString("changed: " + printable(change) + "\n")
	}
	for _, key := range done.NeedsRestart {
		b.WriteString("needs a restart: " + printable(key) + "\n")
	}
	if b.Len() == 0 {
		b.WriteString("read again, and nothing is different\n")
	}
	return b.String()
}

// hangUp sends SIGHUP if the configuration at path is good. A signal has no answer, so the file is judged
// here; what the daemon alone can find stands in its journal and in its status.
func hangUp(pid int, path string) error {
	if _, err := config.Load(path); err != nil {
		return errors.Join(errNothingChanged, err)
	}
	notify, err := systemd.NewNotifier()
	if err != nil {
		return err
	}
	// systemd takes the reload for done when this process ends, unless it has heard of one that
	// has begun. The daemon says so too, but maybe too late. Its READY=1 ends either.
	notify.Reloading()
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		notify.Ready("the reload failed: " + strings.ToLower(err.Error()))
		return fmt.Errorf("sending SIGHUP to process %d: %w", pid, err)
	}
	return nil
}
