package systemd

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Notifier tells the service manager how the daemon fares (sd_notify(3)). The zero value
// and nil tell nobody.
type Notifier struct {
	conn *net.UnixConn
}

// NewNotifier connects to the manager's socket, and takes its name out of the environment. The
// socket stays open, so that a sandbox may forbid to open another.
func NewNotifier() (*Notifier, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	os.Unsetenv("NOTIFY_SOCKET")
	if name == "" {
		return nil, nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("connecting to the service manager's notification socket: %w", err)
	}
	return &Notifier{conn}, nil
}

// patience is how long a manager is waited for that does not read its socket.
const patience = 5 * time.Second

// send sends assignments in one datagram. What the manager does not take is lost: the daemon serves all the same.
func (n *Notifier) send(assignments ...string) {
	if n != nil && n.conn != nil {
		n.conn.SetWriteDeadline(time.Now().Add(patience))
		n.conn.Write([]byte(strings.Join(assignments, "\n")))
	}
}

// Ready says that the daemon serves, after its start or a reload, and how.
func (n *Notifier) Ready(status string) { n.send(daemon.SdNotifyReady, statusLine(status)) }

// Status says how the daemon fares.
func (n *Notifier) Status(status string) { n.send(statusLine(status)) }

func statusLine(status string) string {
	return "STATUS=" + strings.ReplaceAll(status, "\n", " ")
}

// Reloading says that a reload has begun, which Ready ends. The time goes with it, as
// Type=notify-reload in systemd.service(5) wants.
func (n *Notifier) Reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return
	}
	n.send(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)))
}

// Stopping says that the daemon is about to end.
func (n *Notifier) Stopping() { n.send(daemon.SdNotifyStopping) }

// Alive keeps the watchdog quiet.
func (n *Notifier) Alive() { n.send(daemon.SdNotifyWatchdog) }

// WatchdogInterval returns within which time the manager wants to hear Alive, 0
// if it does not (sd_watchdog_enabled(3)), and takes that out of the environment.
func WatchdogInterval() (time.Duration, error) {
	interval, err := daemon.SdWatchdogEnabled(true)
	if err != nil {
		return 0, fmt.Errorf("reading the watchdog's interval: %w", err)
	}
	return interval, nil
}
