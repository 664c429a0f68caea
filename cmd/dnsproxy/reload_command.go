package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"dnsproxy/internal/config"
	"dnsproxy/internal/systemd"
)

const reloadHelp = `[--config=FILE] [--pid=PID]

Checks the configuration and, if it is good, has the daemon read it. Every
fault goes to standard error, with file, line and key; then the exit code is 1
and the daemon is left alone. This is what "systemctl reload dnsproxy" runs.

  --config=FILE  the configuration (` + defaultConfig + `)
  --pid=PID      the daemon's process ($MAINPID, which systemd sets)`

// reloadCommand is the command "reload". A signal has no answer, so the file is judged here, by the
// code that the daemon judges it by, before the signal is sent.
func reloadCommand(args []string, stdout, stderr io.Writer) error {
	o := newOptions("reload", reloadHelp, stdout)
	path := o.config()
	daemon := o.String("pid", os.Getenv("MAINPID"), "")
	if err := o.parse(args, stderr); err != nil {
		return err
	}
	pid, err := strconv.Atoi(*daemon)
	if err != nil || pid <= 1 {
		fmt.Fprintln(stderr, `dnsproxy reload: no --pid of a daemon; run "systemctl reload dnsproxy" instead`)
		return errUsage
	}
	if _, err := config.Load(*path); err != nil {
		return errors.Join(errors.New("nothing changed, the daemon keeps its configuration"), err)
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
