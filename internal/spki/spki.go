// Package spki knows what a pin is and when a certificate chain matches one.
//
// A pin is the SHA-256 of a certificate's DER SubjectPublicKeyInfo, written in
// base64 (RFC 7858, section 4.2; RFC 7469, section 2.4). The package decides
// nothing about trust in the rest of a certificate. Its values are immutable
// and safe for concurrent use.
package spki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// Pin is the SHA-256 of a SubjectPublicKeyInfo.
type Pin [sha256.Size]byte

// Set is the pins of one upstream, any of which may match.
type Set []Pin

// textLen is the size of a pin in base64, padding included.
const textLen = 44

// prefixes are the spellings that other programs print before a pin: those of
// Go and curl ("sha256/") and of RFC 7469 ("pin-sha256="). The longest comes first.
var prefixes = [...]string{"pin-sha256=", "sha256//", "sha256/"}

// Parse reads a pin: 44 characters of base64, after an optional "sha256/",
// "sha256//" or "pin-sha256=" prefix, behind which the pin may stand in double quotes.
func Parse(s string) (Pin, error) {
	var pin Pin
	text := s
	for _, prefix := range prefixes {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			text = unquote(rest)
			break
		}
	}
	if len(text) != textLen {
		return pin, fmt.Errorf("reading pin %q: want %d characters of base64, got %d", s, textLen, len(text))
	}
	octets, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return pin, fmt.Errorf("reading pin %q: not base64: %w", s, err)
	}
	if len(octets) != len(pin) {
		return pin, fmt.Errorf("reading pin %q: want %d octets, got %d", s, len(pin), len(octets))
	}
	return Pin(octets), nil
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// Of returns the pin of a certificate.
func Of(cert *x509.Certificate) Pin {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// String returns the pin in base64.
func (p Pin) String() string {
	return base64.StdEncoding.EncodeToString(p[:])
}

// Match returns the first pin of chain, which is in the chain's order, that is in the set.
func (s Set) Match(chain []*x509.Certificate) (Pin, bool) {
	for _, cert := range chain {
		if pin := Of(cert); slices.Contains(s, pin) {
			return pin, true
		}
	}
	return Pin{}, false
}
