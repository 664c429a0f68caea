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
)

// Pin is the SHA-256 of a SubjectPublicKeyInfo.
type Pin [sha256.Size]byte

// Set is the pins of one upstream, any of which may match.
type Set []Pin

// Parse reads a pin: 44 characters of base64, after an optional "sha256/" or
// "pin-sha256=" prefix.
func Parse(s string) (Pin, error) { panic("not built yet") }

// Of returns the pin of a certificate.
func Of(cert *x509.Certificate) Pin { panic("not built yet") }

// String returns the pin in base64.
func (p Pin) String() string { panic("not built yet") }

// Match returns the first certificate of chain whose key is pinned.
func (s Set) Match(chain []*x509.Certificate) (Pin, bool) { panic("not built yet") }
