//go:build servers

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// worstAnswer is what a fault of one upstream may cost a query while another is
// well: 300 ms, and as much again for what else runs on the machine.
const worstAnswer = 600 * time.Millisecond

// faulty is an unbound that the tests stop, kill and start again. It answers every name under rig.
type faulty struct {
	*process
	rig  *rig
	name string
	port int
}

func (r *rig) startFaulty(t *testing.T, name string, port int) *faulty {
	t.Helper()
	f := &faulty{rig: r, name: name, port: port}
	write(t, f.config(), fmt.Sprintf(`server:
  interface: 127.0.0.1@%[1]d
  interface: 127.0.0.1@%[2]d
  tls-port: %[2]d
  tls-service-key: "%[3]s/server.key"
  tls-service-pem: "%[3]s/server.pem"
  username: ""
  chroot: ""
  directory: "%[3]s"
  pidfile: ""
  use-syslog: no
  incoming-num-tcp: 200
  local-zone: rig. redirect
  local-data: "rig. 60 IN A 192.0.2.1"
`, port, port+1, r.dir))
	f.start(t)
	return f
}

func (f *faulty) config() string { return filepath.Join(f.rig.dir, f.name+".conf") }

func (f *faulty) start(t *testing.T) {
	t.Helper()
	f.process = start(t, "unbound", "-d", "-c", f.config())
	f.awaitDNS(t, fmt.Sprintf("127.0.0.1:%d", f.port), "up.rig.", dns.TypeA)
}

func (f *faulty) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := f.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func (f *faulty) kill(t *testing.T) {
	t.Helper()
	f.signal(t, syscall.SIGKILL)
	<-f.done
}

func (f *faulty) table() string {
	return upstreamTable(f.name, fmt.Sprintf("127.0.0.1:%d", f.port+1), f.rig.ca.file)
}

// testUpstreamFaults has the first of two real upstreams fail in every way that a process can,
// under load: no query is lost or fails, and none waits long.
func (r *rig) testUpstreamFaults(t *testing.T) {
	first, second := r.startFaulty(t, "first", 15480), r.startFaulty(t, "second", 15484)
	d := r.startDaemonAt(t, r.freeListen(), "", first.table()+second.table())
	d.resolves(t, "before.rig.")
	atRest := d.descriptors(t)
	for _, fault := range []struct {
		name  string
		begin func()
		lasts time.Duration
		mend  func()
	}{
		{name: "frozen", begin: func() { first.signal(t, syscall.SIGSTOP) }, lasts: 4 * time.Second, mend: func() { first.signal(t, syscall.SIGCONT) }},
		{name: "killed", begin: func() { first.kill(t) }, lasts: 2 * time.Second, mend: func() { first.start(t) }},
		{name: "restarted", begin: func() { first.stop(t) }, mend: func() { first.start(t) }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			l := startLoad(t, d.listen, fault.name, 200)
			d.await(t, "200 answers", func() bool { return l.answered.Load() >= 200 })
			fault.begin()
			time.Sleep(fault.lasts) // the length of the fault, which is what is tested
			fault.mend()
			sent := l.sent.Load()
			d.await(t, "400 more queries", func() bool { return l.sent.Load() >= sent+400 })
			l.end(t)
			if l.worst > worstAnswer {
				t.Errorf("an answer took %v, want at most %v", l.worst, worstAnswer)
			}
		})
	}
	t.Run("all gone", func(t *testing.T) { d.testAllGone(t, first, second) })
	// A session to each upstream may be open, with its socket, beside what was there.
	d.await(t, "the descriptors of the time before", func() bool { return d.descriptors(t) <= atRest+2 })
}

// testAllGone has no upstream left: cached names are answered, others get a SERVFAIL
// that says why within the deadline; and all is well a second after they are back.
func (d *daemon) testAllGone(t *testing.T, first, second *faulty) {
	d.resolves(t, "cached.rig.")
	first.kill(t)
	second.kill(t)
	if m := d.resolves(t, "cached.rig."); m.Rcode != dns.RcodeSuccess {
		t.Errorf("a cached name: %v", m)
	}
	began := time.Now()
	m := d.resolves(t, "new.rig.")
	opt := m.IsEdns0()
	if m.Rcode != dns.RcodeServerFailure || opt == nil || len(opt.Option) == 0 {
		t.Errorf("a new name: %v, want SERVFAIL with an extended error", m)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the failure took %v, longer than stub resolvers wait", took)
	}
	first.start(t)
	second.start(t)
	back := time.Now()
	if m := d.resolves(t, "newer.rig."); m.Rcode != dns.RcodeSuccess {
		t.Errorf("after their return: %v", m)
	}
	if took := time.Since(back); took > time.Second+worstAnswer {
		t.Errorf("the first answer after their return took %v", took)
	}
}

// descriptors returns how many the daemon has open.
func (d *daemon) descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
