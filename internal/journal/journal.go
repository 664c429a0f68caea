// Package journal writes log records where their reader is: as fields to the
// systemd journal when standard error is connected to it, as lines of text
// otherwise.
//
// It decides nothing about what is logged. Its handlers are safe for concurrent use.
package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is where the journal takes entries (systemd-journald.service(8)).
const Socket = "/run/systemd/journal/socket"

// New returns the handler for a daemon whose standard error is stderr: the
// journal's if stderr is connected to it, text otherwise. The journal's socket is opened
// here, so that a sandbox may forbid it later.
func New(stderr *os.File, level slog.Leveler) slog.Handler {
	if connected(stderr) {
		if h, err := NewNative(Socket, level); err == nil {
			return h
		}
	}
	return NewText(stderr, level)
}

// connected reports whether stderr is the stream that JOURNAL_STREAM names
// (systemd.exec(5)).
func connected(stderr *os.File) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(stderr.Fd()), &st); err != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// record is a log record on its way: attributes flattened, in order.
type record struct {
	text   strings.Builder // message and attributes, readable alone
	fields []field
}

type field struct{ name, value string }

// handler is what both handlers share: the attributes and groups that With added.
type handler struct {
	level slog.Leveler
	group string // prefix of names, with its dot
	attrs []field
}

// Enabled reports whether records of that level are written.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level.Level() }

func (h *handler) with(attrs []slog.Attr) *handler {
	n := *h
	n.attrs = append([]field(nil), h.attrs...)
	for _, a := range attrs {
		n.attrs = appendAttr(n.attrs, h.group, a)
	}
	return &n
}

func (h *handler) grouped(name string) *handler {
	n := *h
	if name != "" {
		n.group += name + "."
	}
	return &n
}

// flatten makes one line of text and a list of fields of r.
func (h *handler) flatten(r slog.Record) *record {
	out := &record{fields: append([]field(nil), h.attrs...)}
	r.Attrs(func(a slog.Attr) bool {
		out.fields = appendAttr(out.fields, h.group, a)
		return true
	})
	out.text.WriteString(escape(r.Message))
	for i, f := range out.fields {
		if i == 0 {
			out.text.WriteByte(':')
		}
		out.text.WriteByte(' ')
		out.text.WriteString(f.name)
		out.text.WriteByte('=')
		out.text.WriteString(quote(f.value))
	}
	return out
}

func appendAttr(fields []field, group string, a slog.Attr) []field {
	v := a.Value.Resolve()
	switch {
	case v.Kind() == slog.KindGroup:
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, sub := range v.Group() {
			fields = appendAttr(fields, group, sub)
		}
		return fields
	case a.Key == "" || v.Kind() == slog.KindAny && v.Any() == nil:
		return fields // an error that is nil, say, tells nothing
	default:
		return append(fields, field{group + a.Key, v.String()})
	}
}

// quote returns s as it is if a reader can tell where it ends, and quoted otherwise.
func quote(s string) string {
	if s == "" || strings.ContainsAny(s, " \"=") || escape(s) != s {
		return strconv.Quote(s)
	}
	return s
}

// escape makes control characters visible: what comes from the network must not
// forge lines or drive a terminal.
func escape(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			q := strconv.Quote(s)
			return q[1 : len(q)-1]
		}
	}
	return s
}

// Text writes lines.
type Text struct {
	*handler
	out *output
}

// output is a writer that nobody waits for long: a pipe may be full, and who should read it
// asleep.
type output struct {
	w    io.Writer
	turn chan struct{} // holds a token while a line is being written
	lost atomic.Int64  // lines that were not written since one was
}

// NewText returns a handler that writes lines of time, level, message and attributes to w.
func NewText(w io.Writer, level slog.Leveler) *Text {
	return &Text{&handler{level: level}, &output{w: w, turn: make(chan struct{}, 1)}}
}

// Handle writes a line.
func (t *Text) Handle(_ context.Context, r slog.Record) error {
	err := t.out.write(t.line(r))
	if err != nil {
		return err
	}
	if lost := t.out.lost.Swap(0); lost > 0 {
		note := slog.NewRecord(time.Now(), slog.LevelWarn, "lines were not written", 0)
		note.Add("lost", lost)
		return t.out.write((&Text{handler: &handler{}}).line(note))
	}
	return nil
}

func (t *Text) line(r slog.Record) string {
	return fmt.Sprintf("%s %-5s %s\n", r.Time.Format(time.RFC3339), r.Level, t.flatten(r).text.String())
}

// write writes a line, or counts it as lost if the one before it is still under way. A line
// that has begun is written to its end, however long that takes.
func (o *output) write(line string) error {
	wait := time.NewTimer(patienceAfter(o.lost.Load()))
	defer wait.Stop()
	select {
	case o.turn <- struct{}{}:
	case <-wait.C:
		o.lost.Add(1)
		return errStalled
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.WriteString(o.w, line)
		<-o.turn
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-wait.C:
		return nil
	}
}

var errStalled = errors.New("the line before it is still being written")

// WithAttrs returns a handler that adds attrs to each record.
func (t *Text) WithAttrs(attrs []slog.Attr) slog.Handler { return &Text{t.with(attrs), t.out} }

// WithGroup returns a handler that puts name before the names of attributes.
func (t *Text) WithGroup(name string) slog.Handler { return &Text{t.grouped(name), t.out} }

// Native sends entries by the journal's native protocol
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL).
type Native struct {
	*handler
	*socket
}

// socket is a connection to the journal that does not wait for it long.
type socket struct {
	conn net.Conn
	lost atomic.Int64 // entries that the journal did not take since it last took one
}

// patienceAfter is how long to wait for a reader that has stalled, if so much was lost already. Who
// logs may be answering a client: such a reader costs entries, not answers.
func patienceAfter(lost int64) time.Duration {
	if lost > 0 {
		return time.Millisecond // it has been waited for
	}
	return 100 * time.Millisecond
}

// write sends an entry, or counts it as lost.
func (s *socket) write(entry []byte) error {
	s.conn.SetWriteDeadline(time.Now().Add(patienceAfter(s.lost.Load())))
	_, err := s.conn.Write(entry)
	if err != nil {
		s.lost.Add(1)
	}
	return err
}

// NewNative returns a handler that sends entries to the journal's socket at path.
func NewNative(path string, level slog.Leveler) (*Native, error) {
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		return nil, fmt.Errorf("connecting to the journal: %w", err)
	}
	return &Native{&handler{level: level}, &socket{conn: conn}}, nil
}

// Priorities of syslog(3).
const (
	priorityError   = "3"
	priorityWarning = "4"
	priorityInfo    = "6"
	priorityDebug   = "7"
)

func priority(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return priorityError
	case level >= slog.LevelWarn:
		return priorityWarning
	case level >= slog.LevelInfo:
		return priorityInfo
	default:
		return priorityDebug
	}
}

// maxEntry bounds an entry, in octets: larger ones would need a file descriptor to pass.
const maxEntry = 32 << 10

// Handle sends an entry. MESSAGE can be read alone; each attribute is a field besides.
func (n *Native) Handle(_ context.Context, r slog.Record) error {
	if err := n.write(n.entry(r)); err != nil {
		return err
	}
	if lost := n.lost.Swap(0); lost > 0 {
		note := slog.NewRecord(time.Now(), slog.LevelWarn, "the journal did not take entries", 0)
		note.Add("lost", lost)
		return n.write((&Native{handler: &handler{}}).entry(note))
	}
	return nil
}

// entry returns r as an entry.
func (n *Native) entry(r slog.Record) []byte {
	flat := n.flatten(r)
	entry := appendField(nil, "PRIORITY", priority(r.Level))
	entry = appendField(entry, "SYSLOG_IDENTIFIER", "dnsproxy")
	text := flat.text.String()
	entry = appendField(entry, "MESSAGE", text[:min(len(text), maxEntry/2)])
	entry = appendField(entry, "DNSPROXY_EVENT", escape(r.Message))
	for _, f := range flat.fields {
		if len(entry)+len(f.name)+len(f.value) < maxEntry {
			entry = appendField(entry, fieldName(f.name), f.value)
		}
	}
	return entry
}

// WithAttrs returns a handler that adds attrs to each entry.
func (n *Native) WithAttrs(attrs []slog.Attr) slog.Handler { return &Native{n.with(attrs), n.socket} }

// WithGroup returns a handler that puts name before the names of attributes.
func (n *Native) WithGroup(name string) slog.Handler { return &Native{n.grouped(name), n.socket} }

// fieldName makes an attribute's name a field's: upper-case letters, digits and
// underscores, under a prefix of our own.
func fieldName(name string) string {
	return "DNSPROXY_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, name)
}

// appendField appends a field; a value with newlines goes behind its length.
func appendField(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	if strings.Contains(value, "\n") {
		dst = append(dst, '\n')
		dst = binary.LittleEndian.AppendUint64(dst, uint64(len(value)))
	} else {
		dst = append(dst, '=')
	}
	dst = append(dst, value...)
	return append(dst, '\n')
}
