package frontend

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams one system call reads or writes at most.
const batchSize = 64

const (
	maxQuery    = 4096 // octets of a query over UDP; real ones have some dozens
	addressLen  = unix.SizeofSockaddrInet6
	controlLen  = 48 // room for one IPV6_PKTINFO with its header: unix.CmsgSpace(unix.SizeofInet6Pktinfo) is 40
	linkLocalV6 = 0xfe80
)

// peer is where a datagram came from and goes back to, as the kernel writes it:
// the client's address, and on a wildcard socket the one of ours that was asked.
type peer struct {
	address    [addressLen]byte
	control    [controlLen]byte
	addressLen uint32
	controlLen uint32
}

// addr returns the client's address.
func (p *peer) addr() netip.Addr {
	if binary.NativeEndian.Uint16(p.address[:]) == unix.AF_INET {
		return netip.AddrFrom4([4]byte(p.address[4:8]))
	}
	return netip.AddrFrom16([16]byte(p.address[8:24])).Unmap()
}

// hasPort reports whether the client can be answered at all.
func (p *peer) hasPort() bool { return p.address[2]|p.address[3] != 0 }

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// vector is the argument of recvmmsg(2) and sendmmsg(2).
type vector struct {
	headers [batchSize]mmsghdr
	slices  [batchSize]unix.Iovec
}

// set makes message i of the vector these bytes, from or to p.
func (v *vector) set(i int, b []byte, p *peer, controlLen uint32) {
	v.slices[i].Base = unsafe.SliceData(b)
	v.slices[i].SetLen(len(b))
	h := &v.headers[i].hdr
	h.Name, h.Namelen = &p.address[0], p.addressLen
	h.Iov, h.Iovlen = &v.slices[i], 1
	h.Control = nil
	if controlLen > 0 {
		h.Control = &p.control[0]
	}
	h.SetControllen(int(controlLen))
}

// receiver reads datagrams from a socket, many at a time.
type receiver struct {
	raw     syscall.RawConn
	vector  vector
	peers   [batchSize]peer
	buffers [batchSize][maxQuery]byte
	control uint32 // size of control data to ask for; 0: the socket has one address

	recv func(fd uintptr) (n int, errno syscall.Errno) // recvmmsg(2)
	full int                                           // batches in a row that were full
}

// tellEvery is after how many full batches in a row the scheduler is told of one call: that wakes
// the runtime's monitor thread, which sees to it that others are served by a machine
// that has no time left.
const tellEvery = 64

func newReceiver(raw syscall.RawConn, wildcard bool) *receiver {
	r := &receiver{raw: raw}
	if wildcard {
		r.control = controlLen
	}
	r.recv = func(fd uintptr) (int, syscall.Errno) {
		// The socket does not block, so that the scheduler need not know of the call, mostly.
		if r.full == tellEvery {
			r.full = 0
			n, _, errno := syscall.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.vector.headers[0])), batchSize, 0, 0, 0)
			return int(n), errno
		}
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.vector.headers[0])), batchSize, 0, 0, 0)
		return int(n), errno
	}
	return r
}

// each calls handle with the number of datagrams of each batch, until that reports
// false or the socket cannot be read: closed, or its deadline passed.
func (r *receiver) each(handle func(n int) (more bool)) error {
	return r.raw.Read(func(fd uintptr) (done bool) {
		for {
			r.prepare()
			n, errno := r.recv(fd)
			switch {
			case errno == syscall.EAGAIN:
				return false
			case errno != 0:
				continue // an ICMP error that an answer of ours met (ip(7)); the socket is fine
			case !handle(n):
				return true
			case n == batchSize:
				r.full++
			default:
				r.full = 0
				// The socket is empty. To wait without another look is safe within one call of Read, which
				// does not forget what wakes it: the next datagram does (epoll(7), edge-triggered).
				return false
			}
		}
	})
}

func (r *receiver) prepare() {
	for i := range batchSize {
		p := &r.peers[i]
		p.addressLen = addressLen
		r.vector.set(i, r.buffers[i][:], p, r.control)
	}
}

// message returns datagram i. One that was cut short is returned as it is: its end is missing, and it
// will be found malformed.
func (r *receiver) message(i int) ([]byte, *peer) {
	h, p := &r.vector.headers[i], &r.peers[i]
	p.addressLen = h.hdr.Namelen
	p.controlLen = 0
	if r.control > 0 {
		p.controlLen = uint32(h.hdr.Controllen)
		p.forgetInterface()
	}
	return r.buffers[i][:h.len], p
}

// forgetInterface makes the answer leave by the route to the client, not by the
// interface that the query came in by, except where an address means nothing
// without its interface (RFC 4007).
func (p *peer) forgetInterface() {
	const data = unix.SizeofCmsghdr
	level := binary.NativeEndian.Uint32(p.control[data-8:])
	switch {
	case level == unix.IPPROTO_IP:
		clear(p.control[data : data+4])
	case level == unix.IPPROTO_IPV6 && binary.BigEndian.Uint16(p.control[data:])&0xffc0 != linkLocalV6:
		clear(p.control[data+16 : data+20])
	}
}

// sender writes datagrams to a socket, many at a time.
type sender struct {
	raw    syscall.RawConn
	vector vector
	n      int // datagrams in the vector
	sent   int
	errno  syscall.Errno
	write  func(fd uintptr) bool
}

func newSender(raw syscall.RawConn) *sender {
	s := &sender{raw: raw}
	s.write = func(fd uintptr) bool {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.vector.headers[s.sent])), uintptr(s.n-s.sent), 0, 0, 0)
		if errno == 0 {
			s.sent += int(n)
		}
		s.errno = errno
		return errno != syscall.EAGAIN
	}
	return s
}

// add puts a datagram into the vector, which must have room. b and p must not change until send.
func (s *sender) add(b []byte, p *peer) {
	s.vector.set(s.n, b, p, p.controlLen)
	s.n++
}

// send writes what was added. A datagram that cannot be sent is skipped, as if
// the network had lost it.
func (s *sender) send() {
	s.sent = 0
	for s.sent < s.n {
		if err := s.raw.Write(s.write); err != nil {
			break // closed
		}
		if s.errno != 0 {
			s.sent++
		}
	}
	s.n = 0
}

// packetInfo makes the kernel say which of our addresses each datagram was sent to
// (ip(7), ipv6(7)), if conn is bound to a wildcard address, so that the answer can leave from there.
func packetInfo(conn *net.UDPConn, raw syscall.RawConn) (wildcard bool, err error) {
	local := conn.LocalAddr().(*net.UDPAddr)
	if !local.IP.IsUnspecified() {
		return false, nil
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		family, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		switch {
		case err != nil:
			failed = err
		case family == unix.AF_INET6:
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		default:
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	})
	if err == nil {
		err = failed
	}
	return true, err
}
