//go:build servers

package main_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// daemonAddr is where the daemon under test listens, over UDP and TCP, unless a test says otherwise.
const daemonAddr = "127.0.0.1:15400"

// freeListen is an address of its own for each daemon that runs beside others.
func (r *rig) freeListen() string {
	return fmt.Sprintf("127.0.0.1:%d", 15460+r.listeners.Add(1))
}

// daemon is a dnsproxy that serves.
type daemon struct {
	*process
	listen string
	config string // path of the file
}

// startDaemon serves with a configuration that begins with table-less keys of
// its own and goes on with text.
func (r *rig) startDaemon(t *testing.T, text string) *daemon {
	t.Helper()
	return r.startDaemonAt(t, daemonAddr, "", text)
}

// startDaemonAt also takes keys that stand before the first table.
func (r *rig) startDaemonAt(t *testing.T, listen, keys, text string) *daemon {
	t.Helper()
	d := &daemon{listen: listen, config: filepath.Join(t.TempDir(), "dnsproxy.toml")}
	write(t, d.config, fmt.Sprintf("listen = [%q]\n%s\n%s", listen, keys, text))
	d.process = startCommand(t, exec.Command(r.daemon, "serve", "--config="+d.config))
	d.awaitServing(t)
	return d
}

// awaitServing waits until the daemon answers what needs no upstream.
func (d *daemon) awaitServing(t *testing.T) {
	t.Helper()
	d.awaitDNS(t, d.listen, "localhost.", dns.TypeA)
}

// rewrite replaces the configuration, but not the listener.
func (d *daemon) rewrite(t *testing.T, keys, text string) {
	t.Helper()
	fresh := d.config + ".new"
	write(t, fresh, fmt.Sprintf("listen = [%q]\n%s\n%s", d.listen, keys, text))
	if err := os.Rename(fresh, d.config); err != nil {
		t.Fatal(err)
	}
}

func (d *daemon) hangup(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// rss is the resident memory in bytes.
func (d *daemon) rss(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	t.Fatal("no VmRSS in /proc/PID/status")
	return 0
}

// upstreamTable is an [[upstream]] that is authenticated by the usual name; more lines may follow.
func upstreamTable(name, addr, caFile string, more ...string) string {
	return fmt.Sprintf("[[upstream]]\nname = %q\naddresses = [%q]\nserver_name = %q\nca_file = %q\n%s\n",
		name, addr, dotName, caFile, strings.Join(more, "\n"))
}

// resolves asks the daemon once over UDP and returns the answer.
func (d *daemon) resolves(t *testing.T, qname string) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(qname, dns.TypeA)
	q.SetEdns0(1232, false)
	m, _, err := (&dns.Client{Timeout: 6 * time.Second}).Exchange(q, d.listen)
	if err != nil {
		t.Fatalf("asking the daemon for %s: %v\n%s", qname, err, tail(d.log(), 30))
	}
	return m
}

// awaitTCP waits until something listens.
func (p *process) awaitTCP(t *testing.T, addr string) {
	t.Helper()
	p.await(t, "a listener on "+addr, func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}
