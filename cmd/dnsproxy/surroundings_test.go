package main_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"dnsproxy/internal/dottest"
)

// A log's reader may end, as "dnsproxy serve 2>&1 | head" has it. DNS goes on.
func TestOutlivesTheReaderOfItsLog(t *testing.T) {
	up := dottest.New(t)
	addr := freePort(t, "127.0.0.1")
	config := writeConfig(t, upstreamAt("test", up.Addr().String(), `pins = ["`+up.Pin().String()+`"]`))
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := program(t, "serve", "--config="+config, "--listen="+addr)
	cmd.Stderr = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	var log strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(log.String(), "serving"); {
		n, err := read.Read(buf)
		if err != nil {
			t.Fatalf("%v after %s", err, log.String())
		}
		log.Write(buf[:n])
	}
	read.Close()
	expectAddress(t, exchange(t, "udp", addr, queryFor("www.example.", dns.TypeA)), "192.0.2.1") // "session opened" is told
	expectAddress(t, exchange(t, "udp", addr, queryFor("two.example.", dns.TypeA)), "192.0.2.1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
}

// Nobody would know of a demo whose terminal is closed (signal(7), SIGHUP).
func TestDemoEndsWithItsTerminal(t *testing.T) {
	r := launch(t, program(t, "demo", "--listen="+freePort(t, "127.0.0.1")))
	r.stdout.await(t, "Ctrl-C ends the demo")
	r.signal(syscall.SIGHUP)
	if code := r.wait(); code != 0 {
		t.Errorf("exit code %d after SIGHUP, want 0", code)
	}
}

// Other order, same trust: what was learnt stays. Other pins: it does not, though the address is the same.
func TestReloadKeepsWhatTheSameUpstreamsTold(t *testing.T) {
	a, b := pairOfUpstreams(t)
	s := serve(t, toUpstream("a", a)+toUpstream("b", b))
	expectAddress(t, s.ask("www.example.", dns.TypeA), "192.0.2.1")
	s.rewrite(toUpstream("b", b) + toUpstream("a", a))
	s.reload()
	expectAddress(t, s.ask("www.example.", dns.TypeA), "192.0.2.1") // b would say 192.0.2.2

	backup := dottest.NewCA(t).Pin().String()
	s.rewrite(upstreamAt("b", b.Addr().String(), `pins = ["`+b.Pin().String()+`", "`+backup+`"]`) + toUpstream("a", a))
	s.reload()
	expectAddress(t, s.ask("www.example.", dns.TypeA), "192.0.2.2")
}

func TestTellsOfAnEnvironmentThatChangesTLS(t *testing.T) {
	for value, want := range map[string]int{
		"rsa1024min=0":                     1,
		"madvdontneed=1,tlsmlkem=0":        1,
		"x509negativeserial=1,tlsmlkem=0":  2,
		"madvdontneed=1,gotypesalias=tls0": 0,
	} {
		t.Run(value, func(t *testing.T) {
			cmd := program(t, "serve", "--listen="+freePort(t, "127.0.0.1"),
				"--config="+writeConfig(t, upstreamAt("test", "127.0.0.1:853", `server_name = "dns.example"`)))
			cmd.Env = append(cmd.Env, "GODEBUG="+value)
			r := launch(t, cmd)
			r.stderr.await(t, "serving")
			if found := r.stderr.lines("GODEBUG changes TLS"); len(found) != want {
				t.Errorf("told %d times, want %d", len(found), want)
			}
			r.terminate()
		})
	}
}
