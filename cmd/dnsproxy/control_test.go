package main_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// operated is a service with a control and a metrics socket.
type operated struct {
	*service
	control string // path
	metrics string // address
}

// socketDir returns a folder whose path is short, as a socket's has to be (unix(7)).
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dnsproxy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// operate starts a service with this configuration.
func operate(t *testing.T, config string) *operated {
	t.Helper()
	o := &operated{control: filepath.Join(socketDir(t), "control")}
	sockets := bindPair(t, "127.0.0.1")
	control, err := net.ListenUnix("unix", &net.UnixAddr{Name: o.control, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	control.SetUnlinkOnClose(false)
	sockets.keep(t, control)
	metrics, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.metrics = metrics.Addr().String()
	sockets.keep(t, metrics.(*net.TCPListener))
	o.service = serveOn(t, sockets, writeConfig(t, config), "LISTEN_FDNAMES=dns:dns:control:metrics")
	return o
}

// types has the user type a command that talks to the daemon, and returns what it prints.
func (o *operated) types(line string) (stdout string) {
	o.t.Helper()
	code, stdout, stderr := types(o.t, append(strings.Fields(line), "--socket="+o.control)...)
	if code != 0 || stderr != "" {
		o.t.Errorf("%s: exit code %d: %s", line, code, stderr)
	}
	return stdout
}

// types runs the program to its end.
func types(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	r := launch(t, program(t, args...))
	code = r.wait()
	return code, r.stdout.String(), r.stderr.String()
}

// unfolded returns a page with each run of blanks and line ends as one blank.
func unfolded(text string) string { return strings.Join(strings.Fields(text), " ") }

// expectIn fails the test unless text contains all of these.
func expectIn(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}
