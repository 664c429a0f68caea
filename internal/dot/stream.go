package dot

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// stream reads and writes a TCP connection with system calls of which the
// scheduler is not told. They do not block, since the socket does not; and telling
// it would wake, twice for each query of a quiet daemon, the runtime's monitor
// thread (runtime.sysmon), which then looks about every 20 µs for a while: more
// work than the query.
//
// One goroutine reads, one writes. Until quiet is set, before either, the calls
// are net's.
type stream struct {
	net.Conn
	raw   syscall.RawConn
	quiet bool

	in, out transfer
}

// transfer is the arguments and the result of one direction's call.
type transfer struct {
	b     []byte
	n     int
	errno syscall.Errno
	call  func(fd uintptr) (done bool) // made once: a closure for each call would be garbage
}

func newStream(conn net.Conn, raw syscall.RawConn) *stream {
	s := &stream{Conn: conn, raw: raw}
	s.in.call = s.in.caller(syscall.SYS_READ)
	s.out.call = s.out.caller(syscall.SYS_WRITE)
	return s
}

// caller returns a function that makes the call once, and is done unless it has to wait.
func (t *transfer) caller(trap uintptr) func(fd uintptr) bool {
	return func(fd uintptr) bool {
		for {
			n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.b))), uintptr(len(t.b)))
			if errno == syscall.EINTR {
				continue
			}
			t.n, t.errno = int(n), errno
			return errno != syscall.EAGAIN
		}
	}
}

// Read reads what there is, waiting for something.
func (s *stream) Read(b []byte) (int, error) {
	if !s.quiet || len(b) == 0 {
		return s.Conn.Read(b)
	}
	s.in.b = b
	err := s.raw.Read(s.in.call)
	s.in.b = nil
	switch {
	case err != nil:
		return 0, err
	case s.in.errno != 0:
		return 0, os.NewSyscallError("read", s.in.errno)
	case s.in.n == 0:
		return 0, io.EOF
	default:
		return s.in.n, nil
	}
}

// Write writes all of b.
func (s *stream) Write(b []byte) (written int, err error) {
	if !s.quiet {
		return s.Conn.Write(b)
	}
	for len(b) > 0 {
		s.out.b = b
		err := s.raw.Write(s.out.call)
		s.out.b = nil
		switch {
		case err != nil:
			return written, err
		case s.out.errno != 0:
			return written, os.NewSyscallError("write", s.out.errno)
		}
		written += s.out.n
		b = b[s.out.n:]
	}
	return written, nil
}
