package metrics_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"dnsproxy/internal/histogram"
	"dnsproxy/internal/metrics"
)

// The examples are written by the format's description, not by what is written here.
func TestText(t *testing.T) {
	var p metrics.Text
	p.One("a_total", metrics.Counter, "Things that\nhappened \\ occurred.", 3)
	p.Family("b_seconds", metrics.Gauge, `Time "left".`)
	p.Sample(0.25, "path", `C:\"x"`+"\n", "more", "\xffé")
	p.Sample(1e21)
	var h histogram.Live
	h.Add(1<<20-1, 2)
	h.Add(1<<21, 1)
	snapshot := h.Snapshot()
	p.Family("c_seconds", metrics.Histogram, "Times.")
	p.Durations(&snapshot, 20, 22, "upstream", "x")
	want := `# HELP a_total Things that\nhappened \\ occurred.
# TYPE a_total counter
a_total 3
# HELP b_seconds Time "left".
# TYPE b_seconds gauge
b_seconds{path="C:\\\"x\"\n",more="?é"} 0.25
b_seconds 1e+21
# HELP c_seconds Times.
# TYPE c_seconds histogram
c_seconds_bucket{upstream="x",le="0.001048576"} 2
c_seconds_bucket{upstream="x",le="0.002097152"} 2
c_seconds_bucket{upstream="x",le="0.004194304"} 3
c_seconds_bucket{upstream="x",le="+Inf"} 3
c_seconds_sum{upstream="x"} 0.004194302
c_seconds_count{upstream="x"} 3
`
	if got := string(p.Bytes()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func serve(t *testing.T) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		metrics.Serve(ctx, []net.Listener{l}, func(p *metrics.Text) { p.One("up", metrics.Gauge, "Up.", 1) }, slog.New(slog.DiscardHandler))
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func TestServe(t *testing.T) {
	addr, stop := serve(t)
	get := func(method, path string) (int, string, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, answer.Header.Get("Content-Type"), string(body)
	}
	for range 20 { // more than are served at once: each gives its place back
		code, format, body := get("GET", "/metrics")
		if code != 200 || format != "text/plain; version=0.0.4; charset=utf-8" || !strings.HasSuffix(body, "\nup 1\n") {
			t.Fatalf("%d %s\n%s", code, format, body)
		}
	}
	if code, _, _ := get("GET", "/"); code != 404 {
		t.Errorf("GET /: %d", code)
	}
	if code, _, _ := get("POST", "/metrics"); code != 405 {
		t.Errorf("POST: %d", code)
	}
	stop()
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("still listening")
	}
}

// Clients that say nothing hold no goroutine for long, and do not keep the daemon from ending.
func TestSilentClientsAreBounded(t *testing.T) {
	addr, stop := serve(t)
	for range 20 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("ended after %v", took)
	}
}
