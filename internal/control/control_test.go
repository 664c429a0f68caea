package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dnsproxy/internal/control"
)

// serve serves handle on a socket of its own and returns the socket's path.
func serve(t testing.TB, handle control.Handler) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		control.Serve(ctx, []*net.UnixListener{l}, handle, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		l.Close()
	})
	return path
}

// echo answers with the request, or with the error that its name spells.
func echo(_ context.Context, r control.Request) (any, error) {
	if text, ok := strings.CutPrefix(r.Name, "fail "); ok {
		return nil, errors.New(text)
	}
	return r, nil
}

func TestAsk(t *testing.T) {
	path := serve(t, echo)
	want := control.Request{Command: "flush", Name: "www.example.", Subtree: true}
	var got control.Request
	if err := control.Ask(t.Context(), path, want, &got); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := control.Ask(t.Context(), path, control.Request{Command: "x", Name: "fail because"}, &got); err == nil || err.Error() != "because" {
		t.Errorf("got %v", err)
	}
}

func TestManyClientsAreAllServed(t *testing.T) {
	path := serve(t, func(ctx context.Context, r control.Request) (any, error) {
		return map[string]string{"pad": strings.Repeat("x", 100_000)}, nil
	})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			var got map[string]string
			if err := control.Ask(t.Context(), path, control.Request{Command: "status"}, &got); err != nil || len(got["pad"]) != 100_000 {
				t.Errorf("%d octets, %v", len(got["pad"]), err)
			}
		})
	}
	wg.Wait()
}

// A client that says nothing keeps no other from being served, and no daemon from ending.
func TestSilentClientHoldsNothingUp(t *testing.T) {
	path := serve(t, echo)
	silent, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var got control.Request
	if err := control.Ask(t.Context(), path, control.Request{Command: "status"}, &got); err != nil {
		t.Error(err)
	}
}

func TestEndOfTheDaemonEndsTheWork(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() {
		var got any
		asked <- control.Ask(t.Context(), path, control.Request{Command: "status"}, &got)
	}()
	control.Serve(ctx, []*net.UnixListener{l}, func(ctx context.Context, r control.Request) (any, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}, slog.New(slog.DiscardHandler))
	if err := <-asked; err == nil {
		t.Error("an answer though the daemon ended")
	}
}

func TestRequestsThatCannotBeRead(t *testing.T) {
	path := serve(t, echo)
	for line, want := range map[string]string{
		"status\n": "no line of JSON", "{}\n": "no command", `{"command":`: "no line of JSON", "\n": "no line of JSON",
		`{"command":"` + strings.Repeat("x", 5000) + "\"}\n": "longer than 4096 octets",
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		conn.Write([]byte(line))
		conn.(*net.UnixConn).CloseWrite()
		var buf [500]byte
		n, _ := conn.Read(buf[:])
		conn.Close()
		if !strings.Contains(string(buf[:n]), want) {
			t.Errorf("%.20q: %s", line, buf[:n])
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	ask := func(path string) string {
		var got any
		err := control.Ask(t.Context(), path, control.Request{Command: "status"}, &got)
		if err == nil {
			t.Fatal("no error")
		}
		return err.Error()
	}
	if got := ask(filepath.Join(dir, "none")); !strings.Contains(got, "no daemon listens") || !strings.Contains(got, "systemctl start") || strings.Contains(got, "\n") {
		t.Errorf("got %q", got)
	}
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if got := ask(dead); !strings.Contains(got, "no daemon listens") {
		t.Errorf("got %q", got)
	}
	other, err := net.Listen("unix", filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		for _, says := range []string{"hello\n", ""} {
			conn, err := other.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 100))
			conn.Write([]byte(says))
			conn.Close()
		}
	}()
	if got := ask(other.Addr().String()); !strings.Contains(got, "not dnsproxy") {
		t.Errorf("got %q", got)
	}
	if got := ask(other.Addr().String()); !strings.Contains(got, "ended before it answered") {
		t.Errorf("got %q", got)
	}
	if os.Geteuid() != 0 {
		if err := os.Chmod(dir, 0); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(dir, 0o700)
		if got := ask(dead); !strings.Contains(got, "you may not") {
			t.Errorf("got %q", got)
		}
	}
}

// Whatever is sent, the daemon says one line of JSON or nothing, and lives on.
func FuzzRequest(f *testing.F) {
	path := serve(f, echo)
	for _, s := range []string{`{"command":"status"}` + "\n", "{}\n", "\x00\n", `{"command":1}` + "\n", `[[[[`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		conn.Write(b)
		conn.(*net.UnixConn).CloseWrite()
		var buf bytes.Buffer
		buf.ReadFrom(conn) // a reset is fine where more was sent than is read
		if buf.Len() > 0 && (!json.Valid(buf.Bytes()) || bytes.Count(buf.Bytes(), []byte("\n")) != 1) {
			t.Errorf("%q: %q", b, buf.Bytes())
		}
	})
}
