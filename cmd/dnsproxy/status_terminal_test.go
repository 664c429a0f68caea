package main_test

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dnsproxy/internal/dottest"
)

// terminal returns both ends of a pseudoterminal of that size (pty(7)).
func terminal(t *testing.T, columns, rows uint16) (screen, program *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows})
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return screen, program
}

// On a terminal the status is drawn again in place: the screen is cleared once, each frame begins at its top
// and fits it.
func TestStatusIsWatchedInPlace(t *testing.T) {
	const columns, rows = 100, 40
	o := operate(t, toUpstream("test", dottest.New(t)))
	o.types("explain www.example")
	screen, stdout := terminal(t, columns, rows)
	cmd := program(t, "status", "--watch", "--socket="+o.control)
	cmd.Stdout = stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	drawn := bufio.NewReader(screen)
	frame := func() string {
		text, err := drawn.ReadString('J') // of "erase below", with which a frame ends
		if err == nil && !strings.HasSuffix(text, "\x1b[J") {
			t.Fatalf("got %q", text)
		}
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if first, err := drawn.ReadString('J'); err != nil || first != "\x1b[2J" {
		t.Errorf("%q comes first (%v), want the display erased", first, err)
	}
	for range 2 {
		text := frame()
		if !strings.HasPrefix(text, "\x1b[H") || strings.Contains(text, "\x1b[2J") {
			t.Errorf("not drawn in place: %q", text)
		}
		expectIn(t, text, "last hour", "queries/s     ", " now ")
		if !strings.ContainsAny(text, "▁▂▃▄▅▆▇█") {
			t.Error("no history is drawn")
		}
		if n := strings.Count(text, "\n"); n >= rows {
			t.Errorf("%d lines on a screen of %d", n, rows)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
