package probe_test

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// listen has serve handle each connection, counted from 1, and returns where it listens.
func listen(t *testing.T, serve func(n int, conn net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 1; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				serve(n, conn)
			})
		}
	})
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// relay carries bytes between conn and addr until either ends.
func relay(t *testing.T, conn net.Conn, addr string) {
	up, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer up.Close()
	go func() {
		io.Copy(up, conn)
		up.Close()
	}()
	io.Copy(conn, up)
}
