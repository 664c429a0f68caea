package dot

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// unackedTimeout is for how long data may go unacknowledged until the kernel ends the
	// connection (TCP_USER_TIMEOUT, tcp(7)): somewhat longer than any query lives.
	unackedTimeout = 6 * time.Second

	// While nothing is sent, the kernel finds out within 25 s that the peer is gone.
	probeAfter    = 15 * time.Second
	probeInterval = 5 * time.Second
	probeCount    = 2
)

// dialTCP connects to addr.
func dialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeAfter, Interval: probeInterval, Count: probeCount},
		Control:         setUserTimeout,
	}
	// Landlock's rules about ports do not see Multipath TCP.
	d.SetMultipathTCP(false)
	return d.DialContext(ctx, "tcp", addr.String()) // Go sets TCP_NODELAY
}

func setUserTimeout(_, _ string, raw syscall.RawConn) error {
	var err error
	if e := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedTimeout.Milliseconds()))
	}); e != nil {
		return e
	}
	return err
}

// acknowledge makes the kernel acknowledge at once what it has received, and what it
// receives next. Without it, responses may come later; so an error is no matter.
func acknowledge(socket syscall.RawConn) {
	_ = socket.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	})
}
