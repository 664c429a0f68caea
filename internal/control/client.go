package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"
)

// UnreachableError says that nobody listens, or not to the caller.
type UnreachableError struct{ text string }

// Error says what to do about it.
func (e *UnreachableError) Error() string { return e.text }

// RefusedError is what the daemon said against a request.
type RefusedError struct{ text string }

// Error returns its words.
func (e *RefusedError) Error() string { return e.text }

// Ask sends r to the daemon that listens at path, and reads its answer into what into points
// to. The error says in one line what is wrong and what to do.
func Ask(ctx context.Context, path string, r Request, into any) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing the request: %w", err)
	}
	limit := 2*patience + workTime(r.Command)
	text, err := exchange(ctx, path, append(line, '\n'), limit)
	if err != nil {
		return explain(path, err, limit)
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return fmt.Errorf("what answers at %s is not dnsproxy: %w", path, err)
	}
	if a.Error != "" {
		return &RefusedError{a.Error}
	}
	if err := json.Unmarshal(a.Answer, into); err != nil {
		return fmt.Errorf("reading the daemon's answer, which may be of another version: %w", err)
	}
	return nil
}

// exchange sends one request and returns all that comes back.
func exchange(ctx context.Context, path string, request []byte, limit time.Duration) ([]byte, error) {
	var d net.Dialer
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(past) })()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(conn, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) == 0:
		return nil, io.ErrUnexpectedEOF
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("its answer is longer than %d octets", maxAnswer)
	}
	return text, nil
}

// explain says why nobody answers at path, and what to do.
func explain(path string, err error, limit time.Duration) error {
	var ne net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &UnreachableError{"no daemon listens at " + path +
			`; run "systemctl start dnsproxy-control.socket dnsproxy.service", or name the socket with --socket`}
	case errors.Is(err, fs.ErrPermission):
		return &UnreachableError{"you may not ask the daemon at " + path +
			`; run this as root or as a member of the group that owns the socket ("ls -l ` + path + `" tells)`}
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &ne) && ne.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf(`the daemon at %s does not answer within %s; "systemctl status dnsproxy" may tell why`, path, limit)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("the daemon at %s ended before it answered", path)
	default:
		return fmt.Errorf("asking the daemon at %s: %w", path, err)
	}
}
