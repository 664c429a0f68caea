package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io/fs"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"dnsproxy/internal/config"
)

// certificate is a CA's, in PEM.
func certificate(name string) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// caFiles are what Parse may read in these tests.
var caFiles = sync.OnceValue(func() map[string][]byte {
	a, b := certificate("a"), certificate("b")
	return map[string][]byte{
		"/etc/ssl/certs/ca-certificates.crt": slices.Concat(a, b),
		"/turned":                            slices.Concat(b, a, a),
		"/a":                                 a,
		"/b":                                 b,
		"/empty":                             nil,
		"/text":                              []byte("certificates are elsewhere\n"),
	}
})

func readCA(path string) ([]byte, error) {
	text, ok := caFiles()[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return text, nil
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte(text), "dnsproxy.toml", readCA)
	if err != nil {
		t.Fatalf("%v\nin:\n%s", err, text)
	}
	return c
}

// same fails the test unless two configurations are the same in all that counts.
func same(t *testing.T, got, want *config.Config) {
	t.Helper()
	if got.String() != want.String() {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if diff := config.Diff(got, want); len(diff) > 0 {
		t.Errorf("they differ: %q", diff)
	}
	if len(got.Upstreams) != len(want.Upstreams) {
		t.Fatalf("got %d upstreams, want %d", len(got.Upstreams), len(want.Upstreams))
	}
	for i, u := range got.Upstreams {
		if len(u.Endpoints) != len(want.Upstreams[i].Endpoints) {
			t.Fatalf("%s: got %d endpoints, want %d", u.Name, len(u.Endpoints), len(want.Upstreams[i].Endpoints))
		}
		for j, e := range u.Endpoints {
			if !e.Equal(want.Upstreams[i].Endpoints[j]) {
				t.Errorf("got endpoint %+v, want %+v", e, want.Upstreams[i].Endpoints[j])
			}
		}
	}
}
