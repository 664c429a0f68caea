package metrics

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of what clients may take.
const (
	maxClients = 8 // at once; others wait in the socket's queue
	maxHeader  = 8 << 10
	patience   = 5 * time.Second // for a client to ask, and to read
)

// Serve answers GET /metrics with what write writes, until ctx ends.
func Serve(ctx context.Context, listeners []net.Listener, write func(*Text), log *slog.Logger) {
	s := &http.Server{
		Handler:           handler(write),
		ReadHeaderTimeout: patience, ReadTimeout: patience, WriteTimeout: patience,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.SetKeepAlivesEnabled(false) // so that a client gives its place back
	var running sync.WaitGroup
	places := make(chan struct{}, maxClients)
	for _, l := range listeners {
		running.Go(func() {
			if err := s.Serve(&bounded{Listener: l, places: places, closing: ctx.Done()}); err != nil && ctx.Err() == nil {
				log.Warn("metrics socket", "err", err)
			}
		})
	}
	<-ctx.Done()
	s.Close()
	running.Wait()
}

func handler(write func(*Text)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		var t Text
		write(&t)
		w.Header().Set("Content-Type", contentType)
		w.Write(t.Bytes())
	})
	return mux
}

// bounded is a listener that accepts no more than its places.
type bounded struct {
	net.Listener
	places  chan struct{} // holds a token for each client
	closing <-chan struct{}
}

// Accept waits for a place, then for a client.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.places <- struct{}{}:
	case <-b.closing:
		return nil, net.ErrClosed
	}
	conn, err := b.Listener.Accept()
	if err != nil {
		<-b.places
		return nil, err
	}
	return &placed{Conn: conn, leave: sync.OnceFunc(func() { <-b.places })}, nil
}

// placed is a client's connection.
type placed struct {
	net.Conn
	leave func()
}

// Close gives the place back.
func (p *placed) Close() error {
	defer p.leave()
	return p.Conn.Close()
}
