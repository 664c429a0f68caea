package spki_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"dnsproxy/internal/spki"
)

// The two pins of RFC 7858, appendix A.
const (
	pinA   = "FHkyLhvI0n70E47cJlRTamTrnYVcsYdjUGbr79CfAVI="
	pinB   = "dFSY3wdPU8L0u/8qECuz5wtlSgnorYV2f66L6GNQg6w="
	octets = "1479322e1bc8d27ef4138edc2654536a64eb9d855cb187635066ebefd09f0152" // of pinA, by base64 -d
)

func TestParseAcceptsEverySpelling(t *testing.T) {
	for _, s := range []string{
		pinA, pinB,
		"sha256/" + pinA, "sha256//" + pinA,
		"pin-sha256=" + pinA, `pin-sha256="` + pinB + `"`,
	} {
		p, err := spki.Parse(s)
		if err != nil {
			t.Errorf("Parse(%q): %v", s, err)
			continue
		}
		if got := p.String(); !strings.Contains(s, got) {
			t.Errorf("Parse(%q).String() = %q", s, got)
		}
	}
	p, _ := spki.Parse(pinA)
	if got := hex.EncodeToString(p[:]); got != octets {
		t.Errorf("octets of %q: got %s, want %s", pinA, got, octets)
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", "want 44 characters of base64, got 0"},
		{"31 octets", base64.StdEncoding.EncodeToString(make([]byte, 31)), "want 32 octets, got 31"},
		{"33 octets", base64.StdEncoding.EncodeToString(make([]byte, 33)), "want 32 octets, got 33"},
		{"a SHA-1", base64.StdEncoding.EncodeToString(make([]byte, 20)), "got 28"},
		{"hexadecimal", octets, "got 64"},
		{"no padding", strings.TrimRight(pinA, "="), "got 43"},
		{"URL alphabet", strings.Replace(pinB, "/", "_", 1), "not base64"},
		{"stray bits at the end", strings.Replace(pinA, "I=", "J=", 1), "not base64"},
		{"a line break inside", pinA[:20] + "\n" + pinA[21:], "not base64"},
		{"a space", " " + pinA[1:], "not base64"},
		{"another digest", "sha512/" + pinA, "got 51"},
		{"a prefix alone", "sha256/", "got 0"},
		{"both prefixes", "pin-sha256=sha256/" + pinA, "got 51"},
	} {
		_, err := spki.Parse(tt.in)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Parse(%q): got %v, want an error with %q", tt.name, tt.in, err, tt.want)
		}
	}
}

func certificate(t *testing.T) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestOfHashesThePublicKeyAlone(t *testing.T) {
	cert := certificate(t)
	der, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := spki.Of(cert), spki.Pin(sha256.Sum256(der)); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMatch(t *testing.T) {
	leaf, issuer, stranger := certificate(t), certificate(t), certificate(t)
	chain := []*x509.Certificate{leaf, issuer}
	for _, tt := range []struct {
		name string
		set  spki.Set
		want *x509.Certificate
	}{
		{"the leaf", spki.Set{spki.Of(leaf)}, leaf},
		{"the issuer", spki.Set{spki.Of(stranger), spki.Of(issuer)}, issuer},
		{"both, so the leaf, which comes first in the chain", spki.Set{spki.Of(issuer), spki.Of(leaf)}, leaf},
		{"neither", spki.Set{spki.Of(stranger)}, nil},
		{"no pins", nil, nil},
	} {
		pin, ok := tt.set.Match(chain)
		if ok != (tt.want != nil) {
			t.Errorf("%s: got %v", tt.name, ok)
		}
		if ok && pin != spki.Of(tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, pin, spki.Of(tt.want))
		}
	}
	if _, ok := (spki.Set{spki.Of(leaf)}).Match(nil); ok {
		t.Error("an empty chain matches")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(pinA)
	f.Add(`pin-sha256="` + pinB + `"`)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := spki.Parse(s)
		if err != nil {
			return
		}
		again, err := spki.Parse(p.String())
		if err != nil || !bytes.Equal(again[:], p[:]) {
			t.Errorf("Parse(%q).String() = %q does not parse to itself: %v", s, p, err)
		}
	})
}
