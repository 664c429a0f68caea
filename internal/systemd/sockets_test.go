package systemd_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dnsproxy/internal/systemd"
)

// TestMain is also the daemon that a service manager starts: it prints what it was passed.
func TestMain(m *testing.M) {
	if os.Getenv("SYSTEMD_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	os.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
	s, err := systemd.Listen()
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(0)
	}
	for _, c := range s.UDP {
		fmt.Println("udp", c.LocalAddr())
	}
	for _, l := range s.TCP {
		fmt.Println("tcp", l.Addr())
	}
	for _, l := range s.Control {
		fmt.Println("control", l.Addr())
	}
	for _, l := range s.Metrics {
		fmt.Println("metrics", l.Addr())
	}
	fmt.Println("left:", os.Getenv("LISTEN_FDS")+os.Getenv("LISTEN_FDNAMES")+os.Getenv("LISTEN_PID"))
	os.Exit(0)
}

type passed struct {
	name string
	file interface{ File() (*os.File, error) }
}

// pass starts a child with these sockets, as systemd does, and returns what it prints.
func pass(t *testing.T, sockets ...passed) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	var names []string
	for _, s := range sockets {
		f, err := s.file.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		names = append(names, s.name)
	}
	cmd.Env = append(os.Environ(), "SYSTEMD_TEST_CHILD=1", fmt.Sprintf("LISTEN_FDS=%d", len(sockets)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return out.String()
}

func udp(t *testing.T, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

func listen[L net.Listener](t *testing.T, network, addr string) L {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(L)
}

func TestSocketsAreToldApartByWhatTheyAre(t *testing.T) {
	u4, u6 := udp(t, "127.0.0.1:0"), udp(t, "[::1]:0")
	t4, t6 := listen[*net.TCPListener](t, "tcp", "127.0.0.1:0"), listen[*net.TCPListener](t, "tcp", "[::1]:0")
	control := listen[*net.UnixListener](t, "unix", filepath.Join(t.TempDir(), "control"))
	metrics := listen[*net.TCPListener](t, "tcp", "127.0.0.1:0")
	const name = "dnsproxy.socket"
	got := pass(t, passed{name, t6}, passed{"metrics", metrics}, passed{name, u4}, passed{"control", control}, passed{name, t4}, passed{name, u6}, passed{name, u6})
	want := fmt.Sprintf("udp %v\nudp %v\nudp %v\ntcp %v\ntcp %v\ncontrol %v\nmetrics %v\nleft: \n",
		u4.LocalAddr(), u6.LocalAddr(), u6.LocalAddr(), t6.Addr(), t4.Addr(), control.Addr(), metrics.Addr())
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := os.Stat(control.Addr().String()); err != nil {
		t.Error("the daemon removed a path that is the manager's")
	}
}

func TestNothingPassedIsNoError(t *testing.T) {
	if got := pass(t); got != "left: \n" {
		t.Errorf("got %q", got)
	}
}

func TestWhatCannotBeServedIsAnError(t *testing.T) {
	u, l := udp(t, "127.0.0.1:0"), listen[*net.TCPListener](t, "tcp", "127.0.0.1:0")
	unix := listen[*net.UnixListener](t, "unix", filepath.Join(t.TempDir(), "s"))
	for name, tt := range map[string]struct {
		sockets []passed
		want    string
	}{
		"UDP alone":   {[]passed{{"dnsproxy.socket", u}}, "add ListenStream= beside each ListenDatagram="},
		"TCP alone":   {[]passed{{"dnsproxy.socket", l}}, "add ListenDatagram= beside each ListenStream="},
		"a Unix one":  {[]passed{{"dnsproxy.socket", u}, {"dnsproxy.socket", l}, {"dnsproxy.socket", unix}}, `socket 3 ("dnsproxy.socket") passed by the service manager: is a Unix listening stream socket; want`},
		"UDP control": {[]passed{{"control", u}}, `socket 1 ("control") passed by the service manager: is an IPv4 datagram socket; want`},
		"a file":      {[]passed{{"dnsproxy.socket", fileOf(t)}}, "is not a socket"},
	} {
		if got := pass(t, tt.sockets...); !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q in it", name, got, tt.want)
		}
	}
}

// file is passed by opening its path.
type file string

func (f file) File() (*os.File, error) { return os.Open(string(f)) }

func fileOf(t *testing.T) file {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return file(path)
}
