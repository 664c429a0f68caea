package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/spki"
	"dnsproxy/internal/wire"
)

// finding is what a probe of one address found. Its JSON names are for programs, and stay.
type finding struct {
	Upstream   string `json:"upstream"`
	Address    string `json:"address"`
	ServerName string `json:"server_name,omitempty"`

	Accepted bool   `json:"accepted"`          // the daemon would use it
	Refused  string `json:"refused,omitempty"` // why it would not

	Version     string        `json:"tls_version,omitempty"`
	Suite       string        `json:"cipher_suite,omitempty"`
	Group       string        `json:"group,omitempty"`
	PostQuantum bool          `json:"post_quantum"`
	ALPN        string        `json:"alpn,omitempty"`
	Resumes     bool          `json:"resumes"`
	Chain       []certificate `json:"chain,omitempty"`

	// Times in milliseconds; 0: not got so far.
	Connect   float64 `json:"connect_ms"`
	Handshake float64 `json:"handshake_ms"`
	Resumed   float64 `json:"resumed_handshake_ms"`
	Answer    float64 `json:"answer_ms"`
	Burst     float64 `json:"burst_ms"` // burstSize queries at once

	IdleTimeout float64 `json:"idle_timeout_ms"` // in force, announced by the upstream or assumed

	pinned bool // the configuration has pins
}

// certificate is one of the chain that was presented, the leaf first.
type certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Pin       string    `json:"pin"`
	Match     bool      `json:"pin_configured"`
}

const burstSize = 20

// inspect probes e: first what it presents, without trust and without a query, then,
// as the daemon does it, whether it is to be trusted.
func inspect(e dot.Endpoint, timeout time.Duration) *finding {
	f := &finding{Upstream: e.Upstream, Address: e.Addr.String(), ServerName: e.ServerName, pinned: len(e.Pins) > 0}
	if err := f.look(e, timeout); err != nil {
		f.Refused = err.Error()
		return f
	}
	if e.ServerName == "" && len(e.Pins) == 0 {
		f.Refused = "it is not authenticated: name the server, or configure pins"
		return f
	}
	if err := f.ask(e, timeout); err != nil {
		f.Refused = err.Error()
		var told *dot.Error
		if errors.As(err, &told) {
			f.Refused = told.Cause()
		}
		return f
	}
	f.Accepted = true
	return f
}

// look shakes hands twice, accepting anything, and notes what is presented.
func (f *finding) look(e dot.Endpoint, timeout time.Duration) error {
	trusting := &tls.Config{
		ServerName: e.ServerName, InsecureSkipVerify: true, NextProtos: []string{"dot"},
		MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	state, err := f.shake(e, trusting, timeout)
	if err != nil {
		return err
	}
	f.Version, f.Suite, f.ALPN = tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), state.NegotiatedProtocol
	f.Group, f.PostQuantum = state.CurveID.String(), postQuantum(state.CurveID)
	for _, c := range state.PeerCertificates {
		pin := spki.Of(c)
		f.Chain = append(f.Chain, certificate{
			Subject: name(c.Subject.String(), c), Issuer: c.Issuer.String(), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
			Pin: pin.String(), Match: slices.Contains(e.Pins, pin),
		})
	}
	if state.Version < tls.VersionTLS13 {
		return errors.New("it speaks no TLS 1.3")
	}
	first := f.Handshake
	if state, err := f.shake(e, trusting, timeout); err == nil && state.DidResume {
		f.Resumes, f.Resumed = true, f.Handshake
	}
	f.Handshake = first
	return nil
}

func postQuantum(id tls.CurveID) bool {
	return id == tls.X25519MLKEM768 || id == tls.SecP256r1MLKEM768 || id == tls.SecP384r1MLKEM1024
}

func name(subject string, c *x509.Certificate) string {
	if subject == "" && len(c.DNSNames) > 0 {
		return c.DNSNames[0]
	}
	return subject
}

// ticketWait is for how long a ticket is waited for, which comes after the handshake (RFC 8446, section 4.6.1).
const ticketWait = 200 * time.Millisecond

// shake connects and shakes hands once.
func (f *finding) shake(e dot.Endpoint, cfg *tls.Config, timeout time.Duration) (state tls.ConnectionState, err error) {
	began := time.Now()
	raw, err := net.DialTimeout("tcp", e.Addr.String(), timeout)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return state, fmt.Errorf("connecting: %w", err)
	}
	defer raw.Close()
	if f.Connect == 0 {
		f.Connect = milliseconds(time.Since(began))
	}
	began = time.Now()
	raw.SetDeadline(began.Add(timeout))
	conn := tls.Client(raw, cfg)
	if err := conn.Handshake(); err != nil {
		return state, fmt.Errorf("TLS handshake: %w", err)
	}
	f.Handshake = milliseconds(time.Since(began))
	raw.SetDeadline(time.Now().Add(ticketWait))
	conn.Read(make([]byte, 1)) // takes the ticket in; no answer is due
	return conn.ConnectionState(), nil
}

// ask authenticates by the daemon's own rules, sends one query and then several at once.
func (f *finding) ask(e dot.Endpoint, timeout time.Duration) error {
	client := dot.NewClient(e, slog.New(slog.DiscardHandler))
	defer client.Close()
	if err := exchange(client, 1, timeout); err != nil { // with the handshake in it
		return err
	}
	began := time.Now()
	if err := exchange(client, 1, timeout); err != nil {
		return err
	}
	f.Answer = milliseconds(time.Since(began))
	began = time.Now()
	if err := exchange(client, burstSize, timeout); err != nil {
		return fmt.Errorf("%d queries at once: %w", burstSize, err)
	}
	f.Burst = milliseconds(time.Since(began))
	if s := client.Stats().Session; s != nil {
		f.Version, f.Suite, f.Group = tls.VersionName(s.Version), tls.CipherSuiteName(s.Suite), s.Group.String()
		f.PostQuantum, f.ALPN = postQuantum(s.Group), s.ALPN
		f.IdleTimeout = milliseconds(s.Timeout)
	}
	return nil
}

// exchange asks for the root's name servers n times at once: everybody knows them, so that
// the probe tells nothing.
func exchange(client *dot.Client, n int, timeout time.Duration) error {
	q, err := wire.ParseQuery([]byte("\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01"))
	if err != nil {
		return err
	}
	results := make(chan dot.Result, n)
	for range n {
		client.Send(q, results)
	}
	late := time.NewTimer(timeout)
	defer late.Stop()
	for range n {
		select {
		case r := <-results:
			if r.Err != nil {
				return r.Err
			}
		case <-late.C:
			return fmt.Errorf("no answer within %v", timeout)
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond).Microseconds()) / 1000
}
