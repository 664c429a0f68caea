package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"dnsproxy/internal/frontend"
	"dnsproxy/internal/systemd"
)

// receiveBuffer is what is asked for UDP sockets that are bound here, in octets: some
// thousand queries. The kernel gives as much as net.core.rmem_max.
const receiveBuffer = 1 << 20

// listen binds a UDP and a TCP socket to each address.
func listen(addrs []netip.AddrPort) (s frontend.Sockets, err error) {
	defer func() {
		if err != nil {
			closeSockets(s)
		}
	}()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // which the sandbox could not confine
	for _, addr := range addrs {
		family := "4"
		if addr.Addr().Is6() {
			family = "6" // and only that: 0.0.0.0 and [::] may both be listed
		}
		udp, err := lc.ListenPacket(context.Background(), "udp"+family, addr.String())
		if err != nil {
			return s, explainListen("UDP", addr, err)
		}
		conn := udp.(*net.UDPConn)
		s.UDP = append(s.UDP, conn)
		if err := conn.SetReadBuffer(receiveBuffer); err != nil {
			return s, fmt.Errorf("sizing the receive buffer of %v: %w", addr, err)
		}
		tcp, err := lc.Listen(context.Background(), "tcp"+family, addr.String())
		if err != nil {
			return s, explainListen("TCP", addr, err)
		}
		s.TCP = append(s.TCP, tcp.(*net.TCPListener))
	}
	return s, nil
}

func explainListen(transport string, addr netip.AddrPort, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = fmt.Sprintf("; another program has that address: \"ss -lnp 'sport = :%d'\" tells which", addr.Port())
	case errors.Is(err, syscall.EACCES):
		hint = "; let systemd pass the sockets (systemctl enable --now dnsproxy.socket), or listen on a port above 1023"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "; no interface of this machine has that address"
	}
	var cause syscall.Errno
	if errors.As(err, &cause) {
		err = cause
	}
	return fmt.Errorf("listening on %v (%s): %w%s", addr, transport, err, hint)
}

func closeSockets(s frontend.Sockets) {
	for _, c := range s.UDP {
		c.Close()
	}
	for _, l := range s.TCP {
		l.Close()
	}
}

// addresses returns where UDP sockets are bound, each once.
func addresses(s frontend.Sockets) (addrs []netip.AddrPort) {
	seen := map[netip.AddrPort]bool{}
	for _, c := range s.UDP {
		a := c.LocalAddr().(*net.UDPAddr).AddrPort()
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if !seen[a] {
			seen[a] = true
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// join lists addresses for people.
func join(addrs []netip.AddrPort) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

// passedSockets returns what the service manager passed for queries.
func passedSockets(s *systemd.Sockets) frontend.Sockets {
	return frontend.Sockets{UDP: s.UDP, TCP: s.TCP}
}
