package upstream

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"dnsproxy/internal/dot"
)

// Reason is why an attempt gave no response.
type Reason uint8

// The reasons.
const (
	NoReason    Reason = iota
	Closed             // the session ended before the response
	Unreachable        // no session could be opened: not reached, refused, or not authenticated
	Connecting         // no session was open in time
	Silent             // the session received nothing at all
	Unanswered         // the session answered other queries
	Busy               // too many queries are in flight there
	reasons
)

// String returns the reason in a few words.
func (r Reason) String() string {
	switch r {
	case Closed:
		return "session closed"
	case Unreachable:
		return "no session"
	case Connecting:
		return "slow to connect"
	case Silent:
		return "silent"
	case Unanswered:
		return "no response"
	case Busy:
		return "busy"
	default:
		return "not asked"
	}
}

// Attempt is what became of a query at one address.
type Attempt struct {
	Upstream string
	Addr     netip.AddrPort
	Reason   Reason
	Err      error         // what package dot said, if anything
	Sends    int           // how often the query was sent there; 0: not at all, since the address was backing off
	After    time.Duration // from the first send to the failure, or to the end
}

// Error says why there is no response: what each address did.
type Error struct {
	Attempts []Attempt     // in the order of the configuration
	Took     time.Duration // from the start to the end
	Cause    error         // why Exchange gave up: the context's error, or ErrNone
}

// maxEDEText bounds an extended error's text, which shares a UDP answer with the rest.
const maxEDEText = 160

// Error returns one line.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "asking upstreams for %s: %v", round(e.Took), e.Cause)
	for i, a := range e.Attempts {
		b.WriteString([]string{": ", "; "}[min(i, 1)])
		a.append(&b)
	}
	return b.String()
}

func (a Attempt) append(b *strings.Builder) {
	fmt.Fprintf(b, "%q (%v): %v", a.Upstream, a.Addr, a.Reason)
	if a.Sends > 0 {
		fmt.Fprintf(b, " after %s", round(a.After))
	}
	if a.Sends > 1 {
		fmt.Fprintf(b, ", asked %d times", a.Sends)
	}
	if a.Err != nil {
		fmt.Fprintf(b, " (%s)", strings.Map(printable, dot.CauseOf(a.Err)))
	}
}

// Unwrap returns Cause.
func (e *Error) Unwrap() error { return e.Cause }

// EDE returns an info code and a text for the client: 22 (No Reachable Authority) if no
// upstream could be reached, 23 (Network Error) otherwise (RFC 8914, sections 4.23 and 4.24).
func (e *Error) EDE() (code uint16, text string) {
	code = 22
	var b strings.Builder
	for i, a := range e.Attempts {
		if a.reached() {
			code = 23
		}
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s %v: %v", a.Upstream, a.Addr, a.Reason)
	}
	text = b.String()
	if len(text) > maxEDEText {
		text = strings.ToValidUTF8(text[:maxEDEText-3], "") + "..."
	}
	return code, text
}

// reached reports whether a session was up.
func (a Attempt) reached() bool {
	return a.Reason == Closed || a.Reason == Silent || a.Reason == Unanswered || a.Reason == Busy
}

// printable keeps a line one line.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
