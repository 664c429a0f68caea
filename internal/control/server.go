package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// maxClients is how many are served at once. Others wait in the socket's queue.
	maxClients = 8
	// acceptPause is how long to wait when no descriptor is left for a client.
	acceptPause = 100 * time.Millisecond
)

// past is a deadline that interrupts whoever reads, writes or accepts.
var past = time.Unix(1, 0)

// Handler answers a request with what is to be sent as JSON. ctx ends when nobody waits any more.
type Handler func(ctx context.Context, r Request) (any, error)

// Serve answers clients until ctx ends, and returns when all of it has ended. Closing the listeners is left to the caller.
func Serve(ctx context.Context, listeners []*net.UnixListener, handle Handler, log *slog.Logger) {
	s := &server{handle: handle, log: log, places: make(chan struct{}, maxClients)}
	for _, l := range listeners {
		s.running.Go(func() { s.accept(ctx, l) })
	}
	s.running.Wait()
}

type server struct {
	handle  Handler
	log     *slog.Logger
	places  chan struct{} // holds a token for each client
	running sync.WaitGroup
}

// accept serves the clients of one listener.
func (s *server) accept(ctx context.Context, l *net.UnixListener) {
	defer context.AfterFunc(ctx, func() { l.SetDeadline(past) })()
	for {
		select {
		case s.places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		conn, err := l.AcceptUnix()
		switch {
		case err == nil:
			s.running.Go(func() {
				defer func() { <-s.places }()
				s.serve(ctx, conn)
			})
			continue
		case ctx.Err() != nil, errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			<-s.places
			return
		}
		<-s.places
		s.log.Warn("control socket", "err", err)
		select {
		case <-time.After(acceptPause):
		case <-ctx.Done():
		}
	}
}

// serve answers the one request of a connection.
func (s *server) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(past) })()
	conn.SetDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadBytes('\n')
	switch {
	case len(line) == 0 || errors.Is(err, os.ErrDeadlineExceeded):
		return // as those do who only look whether somebody listens
	case err != nil && len(line) == maxRequest:
		s.write(conn, answer{Error: fmt.Sprintf("the request is longer than %d octets", maxRequest)})
		return
	}
	s.write(conn, s.answer(ctx, line))
}

// answer returns what is to be said to one line.
func (s *server) answer(ctx context.Context, line []byte) answer {
	r, err := parseRequest(line)
	if err != nil {
		return answer{Error: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, workTime(r.Command))
	defer cancel()
	result, err := s.handle(ctx, r)
	if err != nil {
		return answer{Error: err.Error()}
	}
	text, err := json.Marshal(result)
	if err != nil {
		return answer{Error: fmt.Sprintf("writing the answer: %v", err)}
	}
	return answer{Answer: text}
}

func (s *server) write(conn *net.UnixConn, a answer) {
	text, err := json.Marshal(a)
	if err != nil {
		s.log.Warn("control socket", "err", err)
		return
	}
	conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := conn.Write(append(text, '\n')); err != nil {
		s.log.Debug("control client gone", "err", err)
	}
}
