package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// The names by which the manager passes sockets that are not for queries
// (FileDescriptorName= in systemd.socket(5)).
const (
	controlName = "control"
	metricsName = "metrics"
)

// Sockets are those that the manager passed. All fields are empty if there are none.
type Sockets struct {
	UDP     []*net.UDPConn
	TCP     []*net.TCPListener
	Control []*net.UnixListener
	Metrics []net.Listener
}

// Passed reports whether any socket for queries was passed.
func (s *Sockets) Passed() bool { return len(s.UDP) > 0 }

// Listen takes the sockets that the manager passed (sd_listen_fds(3)) out of the environment, once. They are told apart by
// what they are and, where they are not for queries, by name; their order means nothing. Several
// of one address are legal (ReusePort= in systemd.socket(5)).
//
// A descriptor of another kind is an error, and so are UDP sockets without TCP
// sockets or the other way round: half a resolver fails at the worst time.
func Listen() (*Sockets, error) {
	s := new(Sockets)
	for i, f := range activation.Files(true) {
		err := s.take(f)
		f.Close() // what take keeps is a duplicate
		if err != nil {
			return nil, fmt.Errorf("socket %d (%q) passed by the service manager: %w", i+1, f.Name(), err)
		}
	}
	switch {
	case len(s.UDP) > 0 && len(s.TCP) == 0:
		return nil, errors.New("the service manager passed UDP sockets but no TCP socket: add ListenStream= beside each ListenDatagram= in the .socket unit")
	case len(s.TCP) > 0 && len(s.UDP) == 0:
		return nil, errors.New("the service manager passed TCP sockets but no UDP socket: add ListenDatagram= beside each ListenStream= in the .socket unit")
	}
	return s, nil
}

// take sorts one descriptor in. f.Close is left to the caller.
func (s *Sockets) take(f *os.File) error {
	kind, err := kindOf(f)
	if err != nil {
		return err
	}
	switch {
	case f.Name() == controlName && kind == (kindOfSocket{unix.AF_UNIX, unix.SOCK_STREAM, true}):
		l, err := net.FileListener(f)
		if err != nil {
			return err
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false) // the path is the manager's
		s.Control = append(s.Control, l.(*net.UnixListener))
	case f.Name() == metricsName && kind.typ == unix.SOCK_STREAM && kind.listening:
		l, err := net.FileListener(f)
		if err != nil {
			return err
		}
		s.Metrics = append(s.Metrics, l)
	case f.Name() == controlName || f.Name() == metricsName || !kind.internet():
		return fmt.Errorf("is %v; want what this name stands for, or a UDP or listening TCP socket", kind)
	case kind.typ == unix.SOCK_DGRAM:
		c, err := net.FilePacketConn(f)
		if err != nil {
			return err
		}
		s.UDP = append(s.UDP, c.(*net.UDPConn))
	case kind.typ == unix.SOCK_STREAM && kind.listening:
		l, err := net.FileListener(f)
		if err != nil {
			return err
		}
		s.TCP = append(s.TCP, l.(*net.TCPListener))
	default:
		return fmt.Errorf("is %v; want UDP sockets and listening TCP sockets (Accept=no)", kind)
	}
	return nil
}

// kindOfSocket is what socket(7) tells of a socket.
type kindOfSocket struct {
	domain, typ int
	listening   bool
}

func (k kindOfSocket) internet() bool { return k.domain == unix.AF_INET || k.domain == unix.AF_INET6 }

func (k kindOfSocket) String() string {
	family := map[int]string{unix.AF_INET: "an IPv4", unix.AF_INET6: "an IPv6", unix.AF_UNIX: "a Unix"}[k.domain]
	if family == "" {
		family = fmt.Sprintf("a family %d", k.domain)
	}
	typ := map[int]string{unix.SOCK_DGRAM: "datagram", unix.SOCK_STREAM: "stream", unix.SOCK_SEQPACKET: "sequential packet"}[k.typ]
	if k.listening {
		typ = "listening " + typ
	}
	return family + " " + typ + " socket"
}

func kindOf(f *os.File) (k kindOfSocket, err error) {
	raw, err := f.SyscallConn() // f.Fd would make the socket block
	if err != nil {
		return k, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		get := func(option int) (v int) {
			if err == nil {
				v, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, option)
			}
			return v
		}
		k = kindOfSocket{domain: get(unix.SO_DOMAIN), typ: get(unix.SO_TYPE), listening: get(unix.SO_ACCEPTCONN) == 1}
	})
	if errors.Is(err, syscall.ENOTSOCK) {
		err = errors.New("is not a socket")
	}
	return k, errors.Join(err, controlErr)
}
