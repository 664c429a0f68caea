//go:build servers

package main_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The bad servers' ports.
const (
	tls12Port = 15440 + iota
	expiredPort
	wrongNamePort
	unknownCAPort
	suitePort
	groupPort
	goodPort
	changingPort
)

// startBadServers starts real DNS-over-TLS servers, each wrong in one way, and
// a good one. It returns the pin of the good one.
func (r *rig) startBadServers(t *testing.T) (goodPin string) {
	t.Helper()
	dir := t.TempDir()
	other := newAuthority(t, filepath.Join(dir, "other-ca.pem"))
	r.ca.issue(t, dir, "expired", leaf{names: []string{dotName}, notAfter: time.Now().Add(-time.Hour)})
	r.ca.issue(t, dir, "wrongname", leaf{names: []string{"other.rig"}})
	other.issue(t, dir, "unknownca", leaf{names: []string{dotName}})
	goodPin = r.ca.issue(t, dir, "good", leaf{names: []string{dotName}})

	var conf strings.Builder
	fmt.Fprintf(&conf, "setLocal('127.0.0.1:15449')\nsetACL({'127.0.0.0/8'})\nnewServer({address='%s:53', healthCheckMode='up'})\n", firstServer)
	listen := func(port int, cert, options string) {
		fmt.Fprintf(&conf, "addTLSLocal('127.0.0.1:%d', '%s/%s.pem', '%s/%s.key', {%s})\n", port, dir, cert, dir, cert, options)
	}
	listen(expiredPort, "expired", "")
	listen(wrongNamePort, "wrongname", "")
	listen(unknownCAPort, "unknownca", "")
	listen(suitePort, "good", "ciphersTLS13='TLS_CHACHA20_POLY1305_SHA256', minTLSVersion='tls1.3'")
	listen(goodPort, "good", "minTLSVersion='tls1.3'")
	path := filepath.Join(dir, "bad.conf")
	write(t, path, conf.String())
	p := start(t, "dnsdist", "--supervised", "--disable-syslog", "-C", path)
	p.awaitTCP(t, fmt.Sprintf("127.0.0.1:%d", goodPort))

	s := func(port int, options ...string) {
		args := append([]string{"s_server", "-accept", fmt.Sprintf("127.0.0.1:%d", port), "-quiet",
			"-cert", filepath.Join(dir, "good.pem"), "-key", filepath.Join(dir, "good.key")}, options...)
		start(t, "openssl", args...).awaitTCP(t, fmt.Sprintf("127.0.0.1:%d", port))
	}
	s(tls12Port, "-tls1_2")
	s(groupPort, "-tls1_3", "-groups", "P-521")
	return goodPin
}

// testRefused asks through upstreams that must not be used: the client gets a
// SERVFAIL that says why, the log has a line, and no name leaves in clear.
func (r *rig) testRefused(t *testing.T) {
	goodPin := r.startBadServers(t)
	table := func(port int, more ...string) string {
		return upstreamTable("suspect", fmt.Sprintf("127.0.0.1:%d", port), r.ca.file, more...)
	}
	anyPin, wrongPin := strings.Repeat("A", 43)+"=", strings.Repeat("B", 42)+"A="
	pinned := func(pin string) string { return fmt.Sprintf("pins = [%q, %q]", pin, anyPin) }
	for i, c := range []struct {
		name   string
		config string
		log    string // a pattern of the line's reason
	}{
		{"TLS 1.2 only", table(tls12Port), `(?i)protocol version|no TLS 1\.3`},
		{"expired certificate", table(expiredPort), `(?i)expired`},
		{"wrong name", table(wrongNamePort), `not ` + dotName + `|valid for other\.rig`},
		{"unknown CA", table(unknownCAPort), `unknown authority`},
		{"wrong pin", table(goodPort, pinned(wrongPin)), `(?i)pin`},
		{"wrong pin alone", fmt.Sprintf("[[upstream]]\nname = \"suspect\"\naddresses = [\"127.0.0.1:%d\"]\npins = [%q, %q]\n",
			goodPort, wrongPin, anyPin), `(?i)pin`},
		{"suite outside the list", "[tls]\ncipher_suites = [\"TLS_AES_128_GCM_SHA256\"]\n" + table(suitePort), `(?i)handshake failure`},
		{"group outside the list", table(groupPort), `(?i)handshake failure`},
		{"no post-quantum group", "[tls]\nrequire_post_quantum = true\n" + table(goodPort), `(?i)handshake failure|quantum`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			secret := fmt.Sprintf("secret%d", i)
			sniffer := sniff(t)
			d := r.startDaemonAt(t, r.freeListen(), "", c.config)
			d.expectRefusal(t, secret+".wild.plain.rig.", c.log)
			if leaks := sniffer.seen(secret, d.listen); leaks > 0 {
				t.Errorf("%d packets carry the name in clear", leaks)
			}
		})
	}
	t.Run("right pin, then wrong after resumption", func(t *testing.T) {
		t.Parallel()
		r.testChangedPin(t, table(goodPort, pinned(goodPin)), table(goodPort, pinned(wrongPin)))
	})
	t.Run("right pin, then another key", func(t *testing.T) {
		t.Parallel()
		r.testChangedKey(t)
	})
}

// testChangedPin reloads with a pin that does not match, so that a session that
// could be resumed must not be.
func (r *rig) testChangedPin(t *testing.T, right, wrong string) {
	sniffer := sniff(t)
	d := r.startDaemonAt(t, r.freeListen(), "", right)
	if m := d.resolves(t, "before.wild.plain.rig."); len(m.Answer) != 1 {
		t.Fatalf("no answer with the right pin:\n%v\n%s", m, d.log())
	}
	if sniffer.seen("before", d.listen) == 0 {
		t.Error("the upstream's own query in clear is not in the capture: it would miss the daemon's too")
	}
	d.rewrite(t, "", wrong)
	d.hangup(t)
	d.awaitRefusal(t, "after%d.wild.plain.rig.", `(?i)pin`)
	if leaks := sniffer.seen("secretafter", d.listen); leaks > 0 {
		t.Errorf("%d packets carry the name in clear", leaks)
	}
}

// testChangedKey restarts an upstream with another key under the same name.
func (r *rig) testChangedKey(t *testing.T) {
	dir := t.TempDir()
	addr := fmt.Sprintf("127.0.0.1:%d", changingPort)
	serve := func(cert string) *process {
		path := filepath.Join(dir, cert+".conf")
		write(t, path, fmt.Sprintf("setLocal('127.0.0.1:15450')\nsetACL({'127.0.0.0/8'})\nnewServer({address='%s:53', healthCheckMode='up'})\n"+
			"addTLSLocal('%s', '%s/%s.pem', '%s/%s.key', {minTLSVersion='tls1.3'})\n", firstServer, addr, dir, cert, dir, cert))
		p := start(t, "dnsdist", "--supervised", "--disable-syslog", "-C", path)
		p.awaitTCP(t, addr)
		return p
	}
	pin := r.ca.issue(t, dir, "first", leaf{names: []string{dotName}})
	backup := strings.Repeat("A", 43) + "="
	r.ca.issue(t, dir, "second", leaf{names: []string{dotName}})
	first := serve("first")
	d := r.startDaemonAt(t, r.freeListen(), "", upstreamTable("suspect", addr, r.ca.file, fmt.Sprintf("pins = [%q, %q]", pin, backup)))
	if m := d.resolves(t, "one.wild.plain.rig."); len(m.Answer) != 1 {
		t.Fatalf("no answer with the right key:\n%v\n%s", m, d.log())
	}
	_ = first.cmd.Process.Kill()
	<-first.done
	serve("second")
	d.expectRefusal(t, "two.wild.plain.rig.", `(?i)pin`)
}

// expectRefusal wants a SERVFAIL with an EDE inside the deadline, and a warning with the reason.
func (d *daemon) expectRefusal(t *testing.T, qname, reason string) {
	t.Helper()
	began := time.Now()
	m := d.resolves(t, qname)
	if m.Rcode != dns.RcodeServerFailure || !hasEDE(m) {
		t.Errorf("got\n%v\nwant SERVFAIL with an EDE", m)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the SERVFAIL took %v, more than glibc waits", took)
	}
	d.expectWarning(t, reason)
	t.Logf("log: %s", strings.TrimSpace(d.warning(reason)))
}

// awaitRefusal asks for one fresh name after another until they are refused: a reload is not instant.
func (d *daemon) awaitRefusal(t *testing.T, format, reason string) {
	t.Helper()
	n := 0
	d.await(t, "a refusal", func() bool {
		n++
		return d.resolves(t, fmt.Sprintf(format, n)).Rcode == dns.RcodeServerFailure
	})
	d.expectRefusal(t, "secretafter.wild.plain.rig.", reason)
}

// warning returns the first line at warning level, or above, with the upstream's name and the reason.
func (d *daemon) warning(reason string) string {
	pattern := regexp.MustCompile(reason)
	for line := range strings.Lines(d.log()) {
		if strings.Contains(line, "suspect") && pattern.MatchString(line) && regexp.MustCompile(`(?i)warn|error`).MatchString(line) {
			return line
		}
	}
	return ""
}

func (d *daemon) expectWarning(t *testing.T, reason string) {
	t.Helper()
	d.await(t, fmt.Sprintf("a warning that matches %q", reason), func() bool { return d.warning(reason) != "" })
}

func hasEDE(m *dns.Msg) bool {
	opt := m.IsEdns0()
	return opt != nil && slices.ContainsFunc(opt.Option, func(o dns.EDNS0) bool { return o.Option() == dns.EDNS0EDE })
}

// sniffer keeps every packet of the namespace since it was made.
type sniffer struct {
	mu      sync.Mutex
	packets [][]byte
}

// sniff captures on all interfaces, with what packet(7) offers, until the test ends.
func sniff(t *testing.T) *sniffer {
	t.Helper()
	const allProtocols = 0x0300 // ETH_P_ALL in network order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, allProtocols)
	if err != nil {
		t.Fatalf("opening a packet socket: %v", err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 16<<20); err != nil {
		t.Fatalf("sizing the packet socket: %v", err)
	}
	// So that the reader sees the end of the test.
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 50_000}); err != nil {
		t.Fatal(err)
	}
	s := &sniffer{}
	var ended atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 70_000)
		for !ended.Load() {
			n, _, err := syscall.Recvfrom(fd, buf, 0)
			if err != nil {
				continue
			}
			s.mu.Lock()
			s.packets = append(s.packets, bytes.Clone(buf[:n]))
			s.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		ended.Store(true)
		wg.Wait()
		_ = syscall.Close(fd)
	})
	return s
}

// seen counts the packets that carry text, other than those to or from the
// daemon's own listener.
func (s *sniffer) seen(text, listen string) int {
	listenPort := int(netip.MustParseAddrPort(listen).Port())
	s.mu.Lock()
	defer s.mu.Unlock()
	count := 0
	for _, packet := range s.packets {
		if bytes.Contains(packet, []byte(text)) && !concerns(packet, listenPort) {
			count++
		}
	}
	return count
}

// concerns reports whether an Ethernet frame with IPv4 has port as its source or destination.
func concerns(frame []byte, port int) bool {
	const ethernet = 14
	if len(frame) < ethernet+20 || frame[ethernet]>>4 != 4 {
		return false
	}
	header := int(frame[ethernet]&15) * 4
	if len(frame) < ethernet+header+4 {
		return false
	}
	ports := frame[ethernet+header:]
	return int(ports[0])<<8|int(ports[1]) == port || int(ports[2])<<8|int(ports[3]) == port
}

// testClientHello reads the ClientHello off the wire.
func (r *rig) testClientHello(t *testing.T) {
	for _, c := range []struct {
		name   string
		config string
		suites []uint16
		groups []tls.CurveID
	}{
		{"defaults", "", []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256},
			[]tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}},
		{"one of each", "[tls]\ncipher_suites = [\"TLS_CHACHA20_POLY1305_SHA256\"]\ngroups = [\"X25519\"]\n",
			[]uint16{tls.TLS_CHACHA20_POLY1305_SHA256}, []tls.CurveID{tls.X25519}},
		{"another suite", "[tls]\ncipher_suites = [\"TLS_AES_256_GCM_SHA384\"]\ngroups = [\"P-384\", \"P-256\"]\n",
			[]uint16{tls.TLS_AES_256_GCM_SHA384}, []tls.CurveID{tls.CurveP256, tls.CurveP384}},
		{"post-quantum only", "[tls]\nrequire_post_quantum = true\n",
			[]uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}, []tls.CurveID{tls.X25519MLKEM768}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr, hellos := catchHellos(t)
			d := r.startDaemonAt(t, r.freeListen(), "", c.config+upstreamTable("catcher", addr, r.ca.file))
			d.resolves(t, "a.plain.rig.")
			hello := <-hellos
			if !slices.Equal(hello.SupportedVersions, []uint16{tls.VersionTLS13}) {
				t.Errorf("versions %x, want TLS 1.3 alone", hello.SupportedVersions)
			}
			slices.Sort(hello.CipherSuites)
			if !slices.Equal(hello.CipherSuites, c.suites) {
				t.Errorf("suites %x, want %x", hello.CipherSuites, c.suites)
			}
			want := slices.Clone(c.groups)
			slices.Sort(want)
			if len(c.groups) > 0 && hello.SupportedCurves[0] != c.groups[0] && slices.Contains(c.groups, tls.X25519MLKEM768) {
				t.Errorf("the first group is %v, want %v", hello.SupportedCurves[0], c.groups[0])
			}
			got := slices.Sorted(slices.Values(hello.SupportedCurves))
			if !slices.Equal(got, want) {
				t.Errorf("groups %v, want %v", hello.SupportedCurves, c.groups)
			}
			if hello.ServerName != dotName || !slices.Equal(hello.SupportedProtos, []string{"dot"}) {
				t.Errorf("server name %q and ALPN %q, want %q and dot", hello.ServerName, hello.SupportedProtos, dotName)
			}
		})
	}
}

// catchHellos listens, and hands over the ClientHello of each connection instead of going on with it.
func catchHellos(t *testing.T) (addr string, hellos <-chan *tls.ClientHelloInfo) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	caught := make(chan *tls.ClientHelloInfo, 64)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = tls.Server(conn, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				select {
				case caught <- hello:
				default:
				}
				return nil, fmt.Errorf("only looking")
			}}).Handshake()
			conn.Close()
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String(), caught
}
