package systemd_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"dnsproxy/internal/systemd"
)

// manager is the socket that a service manager listens on.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Setenv("NOTIFY_SOCKET", name)
	return c
}

// sd_notify(3): assignments separated by newlines, those that belong together in one
// datagram; the socket may be an abstract one.
func TestNotifications(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@dnsproxy-test-%d", os.Getpid())} {
		m := manager(t, name)
		n, err := systemd.NewNotifier()
		if err != nil {
			t.Fatal(err)
		}
		if os.Getenv("NOTIFY_SOCKET") != "" {
			t.Error("the socket's name is left in the environment")
		}
		for _, tt := range []struct {
			send func()
			want string
		}{
			{func() { n.Ready("serving") }, `READY=1\nSTATUS=serving`},
			{n.Reloading, `RELOADING=1\nMONOTONIC_USEC=[0-9]+`},
			{func() { n.Status("two\nlines") }, `STATUS=two lines`},
			{n.Alive, `WATCHDOG=1`},
			{n.Stopping, `STOPPING=1`},
		} {
			tt.send()
			buf := make([]byte, 4096)
			k, err := m.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile("^" + tt.want + "$").Match(buf[:k]) {
				t.Errorf("got %q, want %s", buf[:k], tt.want)
			}
		}
	}
}

// A manager that reads nothing costs its notifications, not the daemon.
func TestStalledManagerIsNotWaitedForEndlessly(t *testing.T) {
	manager(t, filepath.Join(t.TempDir(), "notify"))
	n, err := systemd.NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	stalled := make(chan struct{})
	go func() {
		defer close(stalled)
		for waited := time.Duration(0); waited < time.Second; { // until the queue is full
			begun := time.Now()
			n.Status("again")
			waited = time.Since(begun)
		}
	}()
	select {
	case <-stalled:
	case <-time.After(30 * time.Second):
		t.Error("still waiting")
	}
}

func TestNoManagerIsNoError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n, err := systemd.NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	n.Ready("nobody listens")
	n.Stopping()
}

// sd_watchdog_enabled(3).
func TestWatchdogInterval(t *testing.T) {
	for _, tt := range []struct {
		usec, pid string
		want      time.Duration
		fails     bool
	}{
		{"", "", 0, false},
		{"30000000", "", 30 * time.Second, false},
		{"30000000", fmt.Sprint(os.Getpid()), 30 * time.Second, false},
		{"30000000", "1", 0, false},
		{"soon", "", 0, true},
	} {
		t.Setenv("WATCHDOG_USEC", tt.usec)
		t.Setenv("WATCHDOG_PID", tt.pid)
		if got, err := systemd.WatchdogInterval(); got != tt.want || (err != nil) != tt.fails {
			t.Errorf("%+v: got %v, %v", tt, got, err)
		}
	}
}
