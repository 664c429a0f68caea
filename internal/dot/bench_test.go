package dot_test

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"testing"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/dottest"
)

// echoServer answers each query with its own bytes and QR set, as cheaply as can be, so that
// benchmarks measure the client.
func echoServer(t testing.TB) dot.Endpoint {
	t.Helper()
	ca := dottest.NewCA(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{ca.Issue(dottest.Leaf{})}, NextProtos: []string{"dot"},
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go echo(conn)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return dot.Endpoint{
		Upstream: "echo", Addr: l.Addr().(*net.TCPAddr).AddrPort(), ServerName: dottest.Name, Roots: ca.Pool(),
		Suites: []uint16{tls.TLS_AES_128_GCM_SHA256},
	}
}

func echo(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 64<<10)
	end := 0
	for {
		n, err := conn.Read(buf[end:])
		if err != nil {
			return
		}
		end += n
		whole := 0
		for end-whole >= 2 {
			size := 2 + int(binary.BigEndian.Uint16(buf[whole:]))
			if end-whole < size {
				break
			}
			buf[whole+4] |= 0x80
			whole += size
		}
		if _, err := conn.Write(buf[:whole]); err != nil {
			return
		}
		end = copy(buf, buf[whole:end])
	}
}

// BenchmarkExchange is the whole of a query in the client and the echo server, with so many in
// flight.
func BenchmarkExchange(b *testing.B) {
	for _, inFlight := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("%d in flight", inFlight), func(b *testing.B) {
			c := newClient(b, echoServer(b))
			q := query(b, "www.name.example")
			results := make(chan dot.Result, inFlight)
			c.Send(q, results)
			receive(b, results)
			b.ReportAllocs()
			b.ResetTimer()
			sent := 0
			for ; sent < min(inFlight, b.N); sent++ {
				c.Send(q, results)
			}
			for range b.N {
				if r := <-results; r.Err != nil {
					b.Fatal(r.Err)
				}
				if sent < b.N {
					c.Send(q, results)
					sent++
				}
			}
		})
	}
}

// TestQueryAllocatesOnlyItsResponse: the packed response, which the cache keeps, is the one
// allocation that a query costs.
func TestQueryAllocatesOnlyItsResponse(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c := newClient(t, echoServer(t))
	q := query(t, "www.name.example")
	results := make(chan dot.Result, 64)
	batch := func() {
		for range cap(results) {
			c.Send(q, results)
		}
		for range cap(results) {
			if r := <-results; r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	for range 20 {
		batch()
	}
	var before, after runtime.MemStats
	const rounds = 100
	runtime.ReadMemStats(&before)
	for range rounds {
		batch()
	}
	runtime.ReadMemStats(&after)
	perQuery := float64(after.Mallocs-before.Mallocs) / float64(rounds*cap(results))
	// What TLS allocates for each record is shared by the batch; the echo server's part is in it, too.
	if perQuery > 1.5 {
		t.Errorf("%.2f allocations for each query, want the packed response and little else", perQuery)
	}
	t.Logf("%.2f allocations for each query", perQuery)
}

// BenchmarkParallel has as many goroutines that each wait for their answer.
func BenchmarkParallel(b *testing.B) {
	c := newClient(b, echoServer(b))
	q := query(b, "www.name.example")
	b.SetParallelism(64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		results := make(chan dot.Result, 1)
		for pb.Next() {
			c.Send(q, results)
			if r := <-results; r.Err != nil {
				b.Error(r.Err)
				return
			}
		}
	})
}
