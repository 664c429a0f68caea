package journal_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"dnsproxy/internal/journal"
)

// logAll logs what the tests look for.
func logAll(h slog.Handler) {
	log := slog.New(h)
	log.With("upstream", "google").WithGroup("tls").Warn("upstream down", "version", "TLS 1.3", "err", errors.New("connection refused"), "none", error(nil))
	log.Info("forged\nline \x1b[31m", "value", "two\nlines")
	log.Debug("not wanted")
}

func TestTextIsOneReadableLineForEachRecord(t *testing.T) {
	var b bytes.Buffer
	logAll(journal.NewText(&b, slog.LevelInfo))
	want := []string{
		`WARN  upstream down: upstream=google tls.version="TLS 1.3" tls.err="connection refused"`,
		`INFO  forged\nline \x1b[31m: value="two\nlines"`,
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("got %q", lines)
	}
	for i, line := range lines {
		at, rest, _ := strings.Cut(line, " ")
		if _, err := time.Parse(time.RFC3339, at); err != nil || rest != want[i] {
			t.Errorf("got %q, want %q", line, want[i])
		}
	}
}

// journald is the journal's end of its socket.
func journald(t *testing.T) (path string, next func() map[string]string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "socket")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return path, func() map[string]string {
		t.Helper()
		buf := make([]byte, 1<<16)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, buf[:n])
	}
}

// parse reads an entry as https://systemd.io/JOURNAL_NATIVE_PROTOCOL has it.
func parse(t *testing.T, entry []byte) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for len(entry) > 0 {
		line, rest, _ := bytes.Cut(entry, []byte("\n"))
		name, value, simple := strings.Cut(string(line), "=")
		if !simple {
			n := binary.LittleEndian.Uint64(rest)
			value, rest = string(rest[8:8+n]), rest[8+n+1:]
		}
		if !regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`).MatchString(name) {
			t.Errorf("field name %q", name)
		}
		fields[name], entry = value, rest
	}
	return fields
}

func TestNativeEntriesHaveFields(t *testing.T) {
	path, next := journald(t)
	h, err := journal.NewNative(path, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	logAll(h)
	for _, want := range []map[string]string{{
		"PRIORITY": "4", "SYSLOG_IDENTIFIER": "dnsproxy", "DNSPROXY_EVENT": "upstream down", "DNSPROXY_UPSTREAM": "google",
		"DNSPROXY_TLS_VERSION": "TLS 1.3", "DNSPROXY_TLS_ERR": "connection refused",
		"MESSAGE": `upstream down: upstream=google tls.version="TLS 1.3" tls.err="connection refused"`,
	}, {
		"PRIORITY": "6", "SYSLOG_IDENTIFIER": "dnsproxy", "DNSPROXY_EVENT": `forged\nline \x1b[31m`, "DNSPROXY_VALUE": "two\nlines",
		"MESSAGE": `forged\nline \x1b[31m: value="two\nlines"`,
	}} {
		if got := next(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
}

func TestPriorities(t *testing.T) {
	path, next := journald(t)
	h, err := journal.NewNative(path, slog.LevelDebug)
	if err != nil {
		t.Fatal(err)
	}
	for level, want := range map[slog.Level]string{slog.LevelDebug: "7", slog.LevelInfo: "6", slog.LevelWarn: "4", slog.LevelError: "3"} {
		slog.New(h).Log(t.Context(), level, "x")
		if got := next()["PRIORITY"]; got != want {
			t.Errorf("%v: got %s, want %s", level, got, want)
		}
	}
}

func TestLargeEntriesFitIntoADatagram(t *testing.T) {
	path, next := journald(t)
	h, err := journal.NewNative(path, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	slog.New(h).Info("x", "big", strings.Repeat("y", 1<<20))
	if got := next(); got["DNSPROXY_EVENT"] != "x" || len(got["MESSAGE"]) == 0 {
		t.Errorf("got %d fields", len(got))
	}
}

// A journal that stalls, on a disk for example, must not stall who logs. What it missed is
// told once it takes entries again.
func TestStalledJournalCostsEntriesNotTime(t *testing.T) {
	path, next := journald(t)
	h, err := journal.NewNative(path, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(h)
	begun, taken := time.Now(), 0
	for full := false; !full; { // until its queue is, whatever net.unix.max_dgram_qlen says
		r := slog.NewRecord(time.Now(), slog.LevelInfo, "before", 0)
		if full = h.Handle(t.Context(), r) != nil; !full {
			taken++
		}
	}
	for range 20 {
		log.Info("lost")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	for range taken {
		if got := next()["MESSAGE"]; got != "before" {
			t.Fatalf("got %q", got)
		}
	}
	log.Info("after")
	for _, want := range []string{"after", "the journal did not take entries: lost=21"} {
		if got := next()["MESSAGE"]; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A pipe that nobody reads must not stall who logs either. A container's standard error is one.
func TestUnreadPipeCostsLinesNotTime(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := syscall.SetNonblock(int(w.Fd()), false); err != nil { // as standard error is
		t.Fatal(err)
	}
	h := journal.NewText(w, slog.LevelInfo)
	log := slog.New(h)
	filler := strings.Repeat("x", 4000)
	begun := time.Now()
	for full := false; !full; {
		full = h.Handle(t.Context(), slog.NewRecord(time.Now(), slog.LevelInfo, filler, 0)) != nil
	}
	for range 20 {
		log.Info("lost")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	read := make(chan string, 2)
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			if line := lines.Text(); !strings.Contains(line, filler) {
				read <- line
			}
		}
	}()
	for h.Handle(t.Context(), slog.NewRecord(time.Now(), slog.LevelInfo, "after", 0)) != nil {
	}
	w.Close()
	if first, second := <-read, <-read; !strings.Contains(first, "INFO  after") || !regexp.MustCompile(`WARN  lines were not written: lost=2[1-9]`).MatchString(second) {
		t.Errorf("got %q and %q", first, second)
	}
}

// systemd.exec(5): JOURNAL_STREAM holds device and inode of the stream that is the journal.
func TestStandardErrorElsewhereIsText(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	t.Setenv("JOURNAL_STREAM", "1:1")
	slog.New(journal.New(f, slog.LevelInfo)).Info("to the file")
	if b, err := os.ReadFile(f.Name()); err != nil || !strings.Contains(string(b), "to the file") {
		t.Errorf("got %q, %v", b, err)
	}
}
