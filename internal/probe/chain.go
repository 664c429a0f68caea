package probe

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"dnsproxy/internal/spki"
)

// Certificate is one of a chain.
type Certificate struct {
	Role       string    `json:"role"` // one of the constants below
	Subject    string    `json:"subject"`
	Names      []string  `json:"names,omitempty"` // of the leaf: what it may authenticate
	Issuer     string    `json:"issuer"`
	NotBefore  time.Time `json:"not_before"`
	NotAfter   time.Time `json:"not_after"`
	DaysLeft   float64   `json:"days_left"` // below 0: no longer valid
	Pin        string    `json:"pin"`
	Configured bool      `json:"pin_configured"` // it is one of the configuration's; see Session.Pin for whether that counts
	Presented  bool      `json:"presented"`      // by the upstream; otherwise it is a trust anchor of the CA file
}

// What a certificate is in its chain.
const (
	Leaf      = "leaf"
	Issuer    = "issuer"    // signed the leaf
	Authority = "authority" // signed the issuer, or what is above that
	Unrelated = "unrelated" // sent along, but no signature leads from the leaf to it
)

// Bounds of what peers can make us show.
const (
	maxShown = 10 // certificates
	maxNames = 100
	maxText  = 120 // characters of a name
	maxError = 500
)

// chainOf describes the chain that was verified or, if none was, what was presented.
func chainOf(cs tls.ConnectionState, pins spki.Set) []Certificate {
	certs := verified(cs, pins)
	for _, c := range cs.PeerCertificates {
		if !slices.ContainsFunc(certs, c.Equal) {
			certs = append(certs, c)
		}
	}
	certs = certs[:min(len(certs), maxShown)]
	roles := rolesOf(certs)
	chain := make([]Certificate, len(certs))
	for i, c := range certs {
		pin := spki.Of(c)
		chain[i] = Certificate{
			Role:      roles[i],
			Subject:   plain(c.Subject.String(), maxText),
			Issuer:    plain(c.Issuer.String(), maxText),
			NotBefore: c.NotBefore, NotAfter: c.NotAfter,
			DaysLeft:   float64(time.Until(c.NotAfter).Round(time.Minute)) / float64(24*time.Hour),
			Pin:        pin.String(),
			Configured: slices.Contains(pins, pin),
			Presented:  slices.ContainsFunc(cs.PeerCertificates, c.Equal),
		}
		if i == 0 {
			chain[i].Names = namesOf(c)
		}
	}
	// As the chain goes, whatever the order in which it was sent.
	slices.SortStableFunc(chain[min(1, len(chain)):], func(a, b Certificate) int { return rank(a) - rank(b) })
	return chain
}

func rank(c Certificate) int {
	return slices.Index([]string{Leaf, Issuer, Authority, Unrelated}, c.Role)
}

// verified returns the verified chain that a pin is in or, if there is none such, the first.
func verified(cs tls.ConnectionState, pins spki.Set) []*x509.Certificate {
	for _, chain := range cs.VerifiedChains {
		if _, ok := pins.Match(chain); ok {
			return slices.Clone(chain)
		}
	}
	if len(cs.VerifiedChains) > 0 {
		return slices.Clone(cs.VerifiedChains[0])
	}
	return nil
}

// rolesOf follows the signatures from the first of certs.
func rolesOf(certs []*x509.Certificate) []string {
	roles := make([]string, len(certs))
	for i := range roles {
		roles[i] = Unrelated
	}
	role, next := Leaf, 0
	for next >= 0 && next < len(certs) {
		at := next
		roles[at] = role
		next = slices.IndexFunc(certs, func(c *x509.Certificate) bool {
			return !c.Equal(certs[at]) && certs[at].CheckSignatureFrom(c) == nil
		})
		if next >= 0 && roles[next] != Unrelated {
			return roles // two that signed each other
		}
		if role = Authority; at == 0 {
			role = Issuer
		}
	}
	return roles
}

func namesOf(c *x509.Certificate) []string {
	var names []string
	for _, name := range c.DNSNames {
		names = append(names, plain(name, maxText))
	}
	for _, ip := range c.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			names = append(names, addr.Unmap().String())
		}
	}
	return names[:min(len(names), maxNames)]
}

// plain makes text of a peer's fit to be printed: it is bounded, on one line, and does nothing
// to a terminal.
func plain(text string, most int) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text))
	if len(runes) > most {
		runes = append(runes[:most], '…')
	}
	return string(runes)
}
