//go:build servers

package main_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dotName is the name that the servers' certificates are for.
const dotName = "dot.rig"

// rig is what the tests share: authoritative servers, resolvers in front of
// them, and a certification authority for the resolvers.
type rig struct {
	dir       string
	daemon    string // path of the built dnsproxy
	ca        *authority
	upstreams []upstreamServer
	listeners atomic.Int32 // given out by freeListen
}

// upstreamServer is a resolver that serves the rig's zones over plain DNS, for
// reference, and over TLS 1.3.
type upstreamServer struct {
	name  string
	plain string // address and port, UDP and TCP
	dot   string
	// recurses says that it follows referrals and DNAMEs and validates, rather than
	// relay what one authoritative server says.
	recurses bool
	// fickleEDE says that its SERVFAILs carry an EDE option at times, and at times none.
	fickleEDE bool
}

// The resolvers' ports: plain DNS, and DNS over TLS one above.
const (
	unboundPort = 15410
	kresdPort   = 15420
	dnsdistPort = 15430
)

func newRig(t *testing.T, binary string) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), daemon: binary}
	r.ca = newAuthority(t, filepath.Join(r.dir, "ca.pem"))
	r.ca.issue(t, r.dir, "server", leaf{names: []string{dotName}})
	names := zones(t, r.dir)
	r.startNSD(t, firstServer, names)
	r.startNSD(t, secondServer, delegated)
	r.upstreams = []upstreamServer{r.startUnbound(t), r.startKresd(t), r.startDnsdist(t)}
	return r
}

func (r *rig) startNSD(t *testing.T, addr string, names []string) {
	t.Helper()
	listen := fmt.Sprintf("  ip-address: %s\n", addr)
	if addr == secondServer {
		listen += fmt.Sprintf("  ip-address: %s\n", secondServerIPv6)
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, `server:
%s  username: ""
  zonesdir: "%s"
  pidfile: ""
  database: ""
  zonelistfile: "%s/%s.list"
  xfrdfile: ""
  xfrdir: "%s"
  server-count: 1
  tcp-count: 1000
  version: "rig"
  identity: "rig"
  round-robin: no
  minimal-responses: no
  refuse-any: no
  rrl-ratelimit: 0
remote-control:
  control-enable: no
`, listen, r.dir, r.dir, addr, r.dir)
	for _, name := range names {
		fmt.Fprintf(&conf, "zone:\n  name: \"%s\"\n  zonefile: \"%s\"\n", name, zoneFile(name))
	}
	path := filepath.Join(r.dir, "nsd-"+addr+".conf")
	write(t, path, conf.String())
	p := start(t, "nsd", "-d", "-c", path)
	p.awaitDNS(t, addr+":53", names[0], dns.TypeSOA)
}

func (r *rig) startUnbound(t *testing.T) upstreamServer {
	t.Helper()
	path := filepath.Join(r.dir, "unbound.conf")
	write(t, path, fmt.Sprintf(`server:
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
  num-threads: 1
  so-rcvbuf: 0
  incoming-num-tcp: 2000
  rrset-roundrobin: no
  minimal-responses: no
  ede: yes
  identity: "rig"
  version: "rig"
  module-config: "validator iterator"
  trust-anchor-file: "%[3]s/signed.rig.anchor"
  trust-anchor-file: "%[3]s/nsec3.rig.anchor"
  trust-anchor-file: "%[3]s/bogus.rig.anchor"
remote-control:
  control-enable: no
stub-zone:
  name: "."
  stub-addr: %[4]s
`, unboundPort, unboundPort+1, r.dir, firstServer))
	return r.awaitResolver(t, start(t, "unbound", "-d", "-c", path), "unbound", unboundPort, true)
}

func (r *rig) startKresd(t *testing.T) upstreamServer {
	t.Helper()
	dir := filepath.Join(r.dir, "kresd")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "kresd.conf")
	write(t, path, fmt.Sprintf(`net.listen('127.0.0.1', %[1]d, { kind = 'dns' })
net.listen('127.0.0.1', %[2]d, { kind = 'tls' })
net.tls('%[3]s/server.pem', '%[3]s/server.key')
net.tcp_pipeline(1000)
trust_anchors.remove('.')
trust_anchors.add_file('%[3]s/signed.rig.anchor', true)
trust_anchors.add_file('%[3]s/nsec3.rig.anchor', true)
trust_anchors.add_file('%[3]s/bogus.rig.anchor', true)
modules.load('hints')
hints.root({ ['ns.rig.'] = '%[4]s' })
reorder_RR(false)
cache.open(32*MB, 'lmdb://%[5]s')
`, kresdPort, kresdPort+1, r.dir, firstServer, dir))
	up := r.awaitResolver(t, start(t, "kresd", "-n", "-c", path, dir), "kresd", kresdPort, true)
	up.fickleEDE = true
	return up
}

func (r *rig) startDnsdist(t *testing.T) upstreamServer {
	t.Helper()
	path := filepath.Join(r.dir, "dnsdist.conf")
	write(t, path, fmt.Sprintf(`setLocal('127.0.0.1:%[1]d')
addTLSLocal('127.0.0.1:%[2]d', '%[3]s/server.pem', '%[3]s/server.key', {minTLSVersion='tls1.3', maxInFlight=1000})
setACL({'127.0.0.0/8'})
newServer({address='%[4]s:53', checkName='rig.', checkType='SOA', mustResolve=true})
setMaxTCPClientThreads(2)
`, dnsdistPort, dnsdistPort+1, r.dir, firstServer))
	p := start(t, "dnsdist", "--supervised", "--disable-syslog", "-C", path)
	return r.awaitResolver(t, p, "dnsdist", dnsdistPort, false)
}

func (r *rig) awaitResolver(t *testing.T, p *process, name string, port int, recurses bool) upstreamServer {
	t.Helper()
	up := upstreamServer{name: name, plain: fmt.Sprintf("127.0.0.1:%d", port), dot: fmt.Sprintf("127.0.0.1:%d", port+1), recurses: recurses}
	p.awaitDNS(t, up.plain, "a.plain.rig.", dns.TypeA)
	return up
}

// authority is a throw-away certification authority.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// leaf says what is wrong, or right, with a server's certificate.
type leaf struct {
	names    []string
	notAfter time.Time         // an hour ahead where zero
	key      *ecdsa.PrivateKey // a fresh one where nil
}

func newAuthority(t *testing.T, file string) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "rig CA"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return &authority{file: file, cert: cert, key: key}
}

// issue writes NAME.pem and NAME.key into dir and returns the pin of the certificate.
func (a *authority) issue(t *testing.T, dir, name string, l leaf) (pin string) {
	t.Helper()
	if l.key == nil {
		l.key = newKey(t)
	}
	if l.notAfter.IsZero() {
		l.notAfter = time.Now().Add(time.Hour)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: l.names[0]},
		DNSNames: l.names, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: l.notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &l.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(l.key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	spki, err := x509.MarshalPKIXPublicKey(&l.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// process is a program that a test started. It is killed when the test ends.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed once it has been waited for
	err  error         // what Wait said; read after done

	mu     sync.Mutex
	output bytes.Buffer
}

// Write collects the output.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startCommand(t, exec.Command(name, args...))
}

func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: filepath.Base(cmd.Path), cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", p.name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.done
		if t.Failed() || os.Getenv("DNSPROXY_SERVERS_LOGS") != "" {
			t.Logf("%s said:\n%s", p.name, tail(p.log(), 60))
		}
	})
	return p
}

// tail returns the last n lines of text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// stop ends the process with SIGTERM and waits for it.
func (p *process) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		t.Fatalf("%s does not end on SIGTERM:\n%s", p.name, tail(p.log(), 60))
	}
}

// await polls until ok, and fails the test after a while or when the process ends.
func (p *process) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	for !ok() {
		select {
		case <-p.done:
			t.Fatalf("%s ended (%v) before %s:\n%s", p.name, p.err, what, tail(p.log(), 60))
		case <-deadline:
			t.Fatalf("%s: %s did not come:\n%s", p.name, what, tail(p.log(), 60))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (p *process) awaitLog(t *testing.T, text string) {
	t.Helper()
	p.await(t, fmt.Sprintf("the log line %q", text), func() bool { return strings.Contains(p.log(), text) })
}

func (p *process) awaitDNS(t *testing.T, addr, qname string, qtype uint16) {
	t.Helper()
	client := &dns.Client{Timeout: time.Second}
	p.await(t, fmt.Sprintf("an answer for %s %s from %s", qname, dns.Type(qtype), addr), func() bool {
		q := new(dns.Msg).SetQuestion(qname, qtype)
		r, _, err := client.Exchange(q, addr)
		return err == nil && r.Rcode == dns.RcodeSuccess
	})
}
