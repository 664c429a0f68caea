// Command upstream is the DNS-over-TLS resolver that packaging/bench puts behind every
// contender. It makes an answer from the question alone, at next to no cost: 192.0.2.1 for each A, NODATA
// for other types, TTL 3600. It validates nothing, and is of no use to anybody else.
//
// Its certificate is for a name that a throw-away CA made. The CA's certificate appears in a file
// once the socket listens. SIGTERM ends it, and prints what it counted.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	addr := flag.String("listen", "127.0.0.1:853", "address and port")
	name := flag.String("name", "upstream.test", "name in the certificate")
	ca := flag.String("ca", "ca.pem", "file that the CA's certificate is written to, once the socket listens")
	delay := flag.Duration("delay", 0, "how much later each query is answered")
	flag.Parse()
	if err := run(*addr, *name, *ca, *delay); err != nil {
		fmt.Fprintln(os.Stderr, "upstream:", err)
		os.Exit(1)
	}
}

func run(addr, name, ca string, delay time.Duration) error {
	certificate, authority, err := certify(name)
	if err != nil {
		return fmt.Errorf("making a certificate for %q: %w", name, err)
	}
	listener, err := tls.Listen("tcp", addr, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"dot"}})
	if err != nil {
		return err
	}
	// Whoever waits for the file must not see half of it.
	if err := os.WriteFile(ca+".new", authority, 0o644); err != nil {
		return err
	}
	if err := os.Rename(ca+".new", ca); err != nil {
		return err
	}
	r := &resolver{delay: delay}
	go r.serve(listener)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
	return json.NewEncoder(os.Stdout).Encode(map[string]int64{
		"connections": r.connections.Load(), "handshakes": r.handshakes.Load(), "resumed": r.resumed.Load(), "queries": r.queries.Load(),
	})
}

// certify returns a certificate for name, and in PEM that of the CA that signed it.
func certify(name string) (tls.Certificate, []byte, error) {
	var none tls.Certificate
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, nil, err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench CA"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, 2),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return none, nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return none, nil, err
	}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	return tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key}, authority, nil
}

// resolver answers all connections, and counts.
type resolver struct {
	delay                                     time.Duration
	connections, handshakes, resumed, queries atomic.Int64
}

func (r *resolver) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "upstream:", err)
			return
		}
		r.connections.Add(1)
		go r.converse(conn.(*tls.Conn))
	}
}

// batch is answers that are sent at once: the queries came at once.
type batch struct {
	due     time.Time
	answers []byte
}

// converse answers what comes over conn until it ends.
func (r *resolver) converse(conn *tls.Conn) {
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		fmt.Fprintln(os.Stderr, "upstream: handshake:", err)
		return
	}
	r.handshakes.Add(1)
	if conn.ConnectionState().DidResume {
		r.resumed.Add(1)
	}
	later := make(chan batch, 1<<16)
	defer close(later)
	if r.delay > 0 {
		go func() { // the delay is the same for all, so what comes first is due first
			for b := range later {
				time.Sleep(time.Until(b.due))
				conn.Write(b.answers)
			}
		}()
	}
	queries := bufio.NewReaderSize(conn, 1<<17) // any one query fits
	var answers []byte
	for {
		var err error
		if answers, err = r.appendAnswers(answers[:0], queries); err != nil {
			return
		}
		if r.delay > 0 {
			later <- batch{time.Now().Add(r.delay), append([]byte(nil), answers...)}
		} else if _, err := conn.Write(answers); err != nil {
			return
		}
	}
}

// appendAnswers waits for a query, and answers it and all that have come with it.
func (r *resolver) appendAnswers(dst []byte, queries *bufio.Reader) ([]byte, error) {
	for {
		prefix, err := queries.Peek(2)
		if err != nil {
			return dst, err
		}
		length := 2 + int(binary.BigEndian.Uint16(prefix))
		framed, err := queries.Peek(length)
		if err != nil {
			return dst, err
		}
		r.queries.Add(1)
		if dst, err = appendAnswer(dst, framed[2:]); err != nil {
			return dst, err
		}
		queries.Discard(length)
		if !complete(queries) {
			return dst, nil
		}
	}
}

// complete tells whether a whole query has been read already.
func complete(queries *bufio.Reader) bool {
	if queries.Buffered() < 2 {
		return false
	}
	prefix, _ := queries.Peek(2)
	return queries.Buffered() >= 2+int(binary.BigEndian.Uint16(prefix))
}

const headerLength = 12 // RFC 1035, section 4.1.1

// appendAnswer appends the answer to query with its length before it, as RFC 7766 frames it.
func appendAnswer(dst, query []byte) ([]byte, error) {
	end := headerLength
	for end < len(query) && query[end] != 0 {
		end += 1 + int(query[end])
	}
	end += 1 + 4 // the root, QTYPE and QCLASS
	if end > len(query) {
		return dst, fmt.Errorf("a query of %d octets has no question", len(query))
	}
	const a, soa = 1, 6
	qtype := binary.BigEndian.Uint16(query[end-4:])
	start := len(dst)
	dst = append(dst, 0, 0)
	dst = append(dst, query[0], query[1], 0x80|query[2]&0x01, 0x80) // QR, the client's RD, RA
	if qtype == a {
		dst = append(dst, 0, 1, 0, 1, 0, 0, 0, 0)
		dst = append(dst, query[headerLength:end]...)
		dst = append(dst, 0xc0, headerLength, 0, a, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 1)
	} else {
		dst = append(dst, 0, 1, 0, 0, 0, 1, 0, 0)
		dst = append(dst, query[headerLength:end]...)
		dst = append(dst, 0, 0, soa, 0, 1, 0, 0, 14, 16, 0, 22, 0, 0) // the root's, by itself and for itself
		dst = append(dst, 0, 0, 0, 1, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 14, 16)
	}
	binary.BigEndian.PutUint16(dst[start:], uint16(len(dst)-start-2))
	return dst, nil
}
