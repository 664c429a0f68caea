package dot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Reason is the kind of an error: a stable word for logs, metrics and whoever
// decides what to do next.
type Reason string

// The reasons why a query has no response. After Closed and Reset the same
// client is worth another attempt at once, on a fresh session; after the others, another client is.
const (
	Closed         Reason = "closed"         // the upstream closed the session
	Reset          Reason = "reset"          // the upstream, or something between, reset it
	Timeout        Reason = "timeout"        // connecting or shaking hands took too long, or TCP gave up
	Refused        Reason = "refused"        // nothing listens at the address
	Unreachable    Reason = "unreachable"    // no way leads to the address
	Authentication Reason = "authentication" // a certificate, name or pin that does not match
	Policy         Reason = "policy"         // a version, cipher suite, group or protocol that is not allowed
	Protocol       Reason = "protocol"       // the upstream does not keep to TLS or DNS
	Busy           Reason = "busy"           // no message ID is free
	Shutdown       Reason = "shutdown"       // the client is closed
	Other          Reason = "other"
)

// Error says which upstream gave no response, and why.
type Error struct {
	Reason   Reason
	Upstream string
	Addr     netip.AddrPort
	Doing    string // "connecting", "TLS handshake"; "" if the cause says enough
	Err      error
}

// Error returns the upstream, its address and the cause.
func (e *Error) Error() string {
	return fmt.Sprintf("upstream %q (%s): %s", e.Upstream, e.Addr, e.Cause())
}

// Cause returns what Error does, but for the upstream and its address.
func (e *Error) Cause() string {
	if e.Doing == "" {
		return e.Err.Error()
	}
	return e.Doing + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf returns the kind of err: that of the [Error] in it, or Other.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return Other
}

// CauseOf returns what err says, without the upstream and address that it is told beside. It is empty for nil.
func CauseOf(err error) string {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Cause()
	default:
		return err.Error()
	}
}

func (c *Client) errorf(r Reason, doing string, err error) *Error {
	return &Error{Reason: r, Upstream: c.e.Upstream, Addr: c.e.Addr, Doing: doing, Err: err}
}

var (
	errClosedByUpstream = errors.New("session ended: the upstream closed it")
	errTruncated        = errors.New("session ended: the upstream closed it inside a message")
	errUnknownID        = errors.New("session ended: the upstream sent a response that nobody asked for")
	errNoID             = errors.New("no message ID is free: too many queries in flight")
	errShutdown         = errors.New("shutting down")
	errEnded            = errors.New("session ended")
)

// reasonOfIO returns the kind of an error of connecting, reading or writing.
func reasonOfIO(err error) Reason {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return Closed
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return Reset
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH),
		errors.Is(err, syscall.ENETDOWN), errors.Is(err, syscall.EADDRNOTAVAIL),
		errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return Unreachable
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, syscall.ETIMEDOUT):
		return Timeout
	default:
		return Other
	}
}
