package dot_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/dottest"
)

func TestSocketNoticesAPeerThatIsGone(t *testing.T) {
	s := dottest.New(t)
	conn, err := dot.DialTCP(t.Context(), s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if mp, err := conn.(*net.TCPConn).MultipathTCP(); mp || err != nil {
		t.Errorf("Multipath TCP is in use: %v, %v", mp, err)
	}
	socket, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name          string
		level, option int
		least, most   int
	}{
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, 1},
		{"TCP_USER_TIMEOUT in ms, above a query's 4 s", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 4000, 10000},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, 1},
		{"TCP_KEEPIDLE in s, below the idle timeout", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 1, 29},
	} {
		socket.Control(func(fd uintptr) {
			got, err := unix.GetsockoptInt(int(fd), tt.level, tt.option)
			if err != nil || got < tt.least || got > tt.most {
				t.Errorf("%s: got %d, %v, want %d to %d", tt.name, got, err, tt.least, tt.most)
			}
		})
	}
}
