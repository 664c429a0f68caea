package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/spki"
)

// demoUpstream is a DoT server on loopback with a fresh key. It makes its answers up.
type demoUpstream struct {
	listener net.Listener
	pin      spki.Pin
	done     sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
}

func newDemoUpstream() (*demoUpstream, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "dnsproxy demo"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 1, 0), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS13, NextProtos: []string{"dot"},
	})
	if err != nil {
		return nil, err
	}
	u := &demoUpstream{listener: listener, pin: spki.Of(leaf), conns: map[net.Conn]struct{}{}}
	u.done.Go(u.accept)
	return u, nil
}

// configuration returns the TOML that forwards queries which come to listen.
func (u *demoUpstream) configuration(listen netip.AddrPort) string {
	return fmt.Sprintf(`listen  = [%q]
sandbox = "best-effort"

[[upstream]]
name      = "demo"
addresses = [%q]
pins      = [%q]
`, listen, u.listener.Addr(), u.pin)
}

func (u *demoUpstream) accept() {
	for {
		conn, err := u.listener.Accept()
		if err != nil {
			return
		}
		u.mu.Lock()
		u.conns[conn] = struct{}{}
		u.mu.Unlock()
		u.done.Go(func() { u.serve(conn.(*tls.Conn)) })
	}
}

func (u *demoUpstream) serve(conn *tls.Conn) {
	defer func() {
		conn.Close()
		u.mu.Lock()
		delete(u.conns, conn)
		u.mu.Unlock()
	}()
	session := &dns.Conn{Conn: conn}
	for {
		q, err := session.ReadMsg()
		if err != nil || len(q.Question) != 1 {
			return
		}
		if session.WriteMsg(demoAnswer(q, conn.ConnectionState())) != nil {
			return
		}
	}
}

// demoAnswer makes up an answer: documentation addresses for every name, and for
// tls.demo.test how the query came.
func demoAnswer(q *dns.Msg, state tls.ConnectionState) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	if q.IsEdns0() != nil {
		m.SetEdns0(1232, false)
	}
	name := q.Question[0].Name
	header := dns.RR_Header{Name: name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 300}
	switch q.Question[0].Qtype {
	case dns.TypeA:
		m.Answer = []dns.RR{&dns.A{Hdr: header, A: net.IPv4(192, 0, 2, 1)}}
	case dns.TypeAAAA:
		m.Answer = []dns.RR{&dns.AAAA{Hdr: header, AAAA: net.ParseIP("2001:db8::1")}}
	case dns.TypeTXT:
		text := "any name has an answer here; ask for tls.demo.test"
		if strings.EqualFold(name, "tls.demo.test.") {
			text = fmt.Sprintf("%s, %s, %v, ALPN %q, padded to %d octets", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite),
				state.CurveID, state.NegotiatedProtocol, q.Len())
		}
		m.Answer = []dns.RR{&dns.TXT{Hdr: header, Txt: []string{text}}}
	default:
		header.Rrtype = dns.TypeSOA
		m.Ns = []dns.RR{&dns.SOA{Hdr: header, Ns: "demo.test.", Mbox: "demo.test.", Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 60}}
	}
	return m
}

// close ends the server and waits for its goroutines.
func (u *demoUpstream) close() {
	u.listener.Close()
	u.mu.Lock()
	for conn := range u.conns {
		conn.Close()
	}
	u.mu.Unlock()
	u.done.Wait()
}
