package dot

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"dnsproxy/internal/spki"
)

// alpn is the protocol's name (RFC 7858, section 6, in IANA's registry).
const alpn = "dot"

// maxPresented bounds how many certificates of a peer are looked at where pins
// alone authenticate, and with them the signatures to check.
const maxPresented = 10

// newTLSConfig returns the configuration that enforces the endpoint's policy.
func newTLSConfig(e *Endpoint) *tls.Config {
	roots := e.Roots
	if roots == nil {
		roots = x509.NewCertPool() // crypto/tls would take nil for the system's
	}
	return &tls.Config{
		ServerName:       e.ServerName,
		RootCAs:          roots,
		MinVersion:       tls.VersionTLS13,
		MaxVersion:       tls.VersionTLS13,
		NextProtos:       []string{alpn},
		CurvePreferences: offeredGroups(e),
		// Without a name there is nothing that PKIX could verify: verify
		// does all that authenticates.
		InsecureSkipVerify: e.ServerName == "",
		// VerifyConnection, unlike VerifyPeerCertificate, is called when a
		// session is resumed, too.
		VerifyConnection:   func(cs tls.ConnectionState) error { return e.verify(cs) },
		ClientSessionCache: &tickets{},
		// A batch of queries goes out as one record. By default the first 128 kB of a
		// session would be cut into records of one segment each.
		DynamicRecordSizingDisabled: true,
	}
}

// offeredGroups returns the groups that may be negotiated, nil for crypto/tls'
// own choice. What RequirePQ would refuse is not even offered.
func offeredGroups(e *Endpoint) []tls.CurveID {
	if !e.RequirePQ {
		return e.Groups
	}
	groups := e.Groups
	if len(groups) == 0 {
		groups = []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024}
	}
	return slices.DeleteFunc(slices.Clone(groups), func(g tls.CurveID) bool { return !isPQ(g) })
}

// GroupName returns the name of a group that the configuration has for it; crypto/tls names
// NIST's curves in a way of its own.
func GroupName(g tls.CurveID) string {
	switch g {
	case tls.CurveP256:
		return "P-256"
	case tls.CurveP384:
		return "P-384"
	case tls.CurveP521:
		return "P-521"
	default:
		return g.String()
	}
}

// isPQ reports whether the group withstands a quantum computer.
func isPQ(g tls.CurveID) bool {
	return g == tls.X25519MLKEM768 || g == tls.SecP256r1MLKEM768 || g == tls.SecP384r1MLKEM1024
}

// policyError is a fault of the parameters of TLS, authError one of the peer's
// identity.
type (
	policyError string
	authError   string
)

func (e policyError) Error() string { return string(e) }
func (e authError) Error() string   { return string(e) }

// verify checks what crypto/tls leaves to us. It runs before the peer has proved that
// it has the key, so it must have no effect.
func (e *Endpoint) verify(cs tls.ConnectionState) error {
	if err := e.verifyParameters(cs); err != nil {
		return err
	}
	if e.ServerName == "" {
		_, err := e.pinnedAlone(cs.PeerCertificates)
		return err
	}
	if len(cs.VerifiedChains) == 0 {
		return authError("certificate was not verified")
	}
	if _, ok := e.pinned(cs); !ok && !e.ReportOnly {
		return e.errNoPin()
	}
	return nil
}

func (e *Endpoint) verifyParameters(cs tls.ConnectionState) error {
	switch {
	case cs.Version != tls.VersionTLS13:
		return policyError("speaks no TLS 1.3")
	case len(e.Suites) > 0 && !slices.Contains(e.Suites, cs.CipherSuite):
		return policyError("chose cipher suite " + tls.CipherSuiteName(cs.CipherSuite) + ", which is not allowed")
	case e.RequirePQ && !isPQ(cs.CurveID):
		return policyError("key exchange " + cs.CurveID.String() + " is not post-quantum")
	case len(e.Groups) > 0 && !slices.Contains(e.Groups, cs.CurveID):
		return policyError("chose group " + cs.CurveID.String() + ", which is not allowed")
	case cs.NegotiatedProtocol != "" && cs.NegotiatedProtocol != alpn:
		return policyError(fmt.Sprintf("speaks %q", cs.NegotiatedProtocol))
	default:
		return nil // servers that know no ALPN are common, and RFC 7858 does not ask for it
	}
}

// pinned returns the pin that a certificate of a verified chain matches. It
// counts as a match if there are no pins.
func (e *Endpoint) pinned(cs tls.ConnectionState) (spki.Pin, bool) {
	if len(e.Pins) == 0 {
		return spki.Pin{}, true
	}
	if e.ServerName == "" {
		pin, err := e.pinnedAlone(cs.PeerCertificates)
		return pin, err == nil
	}
	for _, chain := range cs.VerifiedChains {
		if pin, ok := e.Pins.Match(chain); ok {
			return pin, true
		}
	}
	return spki.Pin{}, false
}

// pinnedAlone authenticates a peer by its pins. The leaf's key matches, or that of an
// issuer to which signatures lead from the leaf: one that is merely sent along
// proves nothing (RFC 7858, section 4.2; RFC 7469, section 2.6).
func (e *Endpoint) pinnedAlone(presented []*x509.Certificate) (spki.Pin, error) {
	if len(presented) == 0 {
		return spki.Pin{}, authError("sent no certificate")
	}
	leaf, rest := presented[0], presented[1:min(len(presented), maxPresented)]
	now := time.Now()
	switch {
	case now.Before(leaf.NotBefore):
		return spki.Pin{}, authError("certificate is not valid before " + leaf.NotBefore.UTC().Format(time.RFC3339))
	case now.After(leaf.NotAfter):
		return spki.Pin{}, authError("certificate expired at " + leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if pin, ok := e.Pins.Match(presented[:1]); ok {
		return pin, nil
	}
	for _, issuer := range rest {
		pin, ok := e.Pins.Match([]*x509.Certificate{issuer})
		if ok && issued(issuer, leaf, rest, now) {
			return pin, nil
		}
	}
	return spki.Pin{}, e.errNoPin()
}

// issued reports whether a valid chain leads from leaf to issuer.
func issued(issuer, leaf *x509.Certificate, between []*x509.Certificate, now time.Time) bool {
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now}
	opts.Roots.AddCert(issuer)
	for _, cert := range between {
		opts.Intermediates.AddCert(cert)
	}
	_, err := leaf.Verify(opts)
	return err == nil
}

func (e *Endpoint) errNoPin() error {
	switch len(e.Pins) {
	case 0:
		return authError("neither a name nor a pin to authenticate by")
	case 1:
		return authError("certificate chain does not match the pin")
	}
	return authError(fmt.Sprintf("certificate chain matches none of %d pins", len(e.Pins)))
}

// explain puts an error of a handshake into the words of the operator, and says which
// kind it is.
func explain(err error) (Reason, error) {
	var (
		auth   authError
		policy policyError
		cert   *tls.CertificateVerificationError
		record tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &auth):
		return Authentication, auth
	case errors.As(err, &policy):
		return Policy, policy
	case errors.As(err, &cert):
		return Authentication, cert.Err
	case errors.As(err, &record):
		return Protocol, errors.New("does not speak TLS")
	}
	if text, ok := explainTLS(err.Error()); ok {
		return Policy, policyError(text)
	}
	return reasonOfIO(err), err
}

// explainTLS recognises what crypto/tls reports as text alone, its alerts included.
func explainTLS(text string) (string, bool) {
	switch text {
	case "remote error: " + tls.AlertError(alertProtocolVersion).Error(),
		"tls: server selected unsupported protocol version 303",
		"tls: server selected unsupported protocol version 302",
		"tls: server selected unsupported protocol version 301":
		return "speaks no TLS 1.3", true
	case "remote error: " + tls.AlertError(alertHandshakeFailure).Error(),
		"remote error: " + tls.AlertError(alertInsufficientSecurity).Error():
		return "accepts none of the cipher suites and groups that are allowed (" + text + ")", true
	case "remote error: " + tls.AlertError(alertNoApplicationProtocol).Error():
		return "does not speak DNS over TLS (ALPN)", true
	case "tls: server chose an unconfigured cipher suite":
		return "chose a cipher suite that is not allowed", true
	case "tls: server selected unsupported group", "tls: server selected unsupported curve":
		return "chose a group that is not allowed", true
	case "tls: no supported elliptic curves for ECDHE":
		return "none of the groups that are allowed is available here (is GODEBUG set?)", true
	default:
		return "", false
	}
}

// Alerts of TLS (RFC 8446, section 6.2; RFC 7301, section 3.2).
const (
	alertHandshakeFailure      = 40
	alertProtocolVersion       = 70
	alertInsufficientSecurity  = 71
	alertNoApplicationProtocol = 120
)
