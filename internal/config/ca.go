package config

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

const (
	maxFile   = 1 << 20  // octets of the file
	maxCAFile = 16 << 20 // octets of a CA file; Debian's has 220 kB
)

// readBounded reads a file of at most limit octets that not everybody may write.
// loose is set if its group may.
//
// Only the mode of the file itself is looked at. Its directory is not: a
// Kubernetes volume is mode 0777 and still out of others' reach. Nor is its owner: in
// a container that may be any number.
func readBounded(name string, limit int64) (content []byte, loose bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o002 != 0 {
		return nil, false, fmt.Errorf("every user of the machine may write it (mode %v); run \"chmod o-w %s\"", info.Mode(), name)
	}
	content, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("it is larger than %s", formatSize(size(limit)))
	}
	return content, info.Mode().IsRegular() && info.Mode().Perm()&0o020 != 0, err
}

// anchors are the trust anchors of one CA file.
type anchors struct {
	pool *x509.CertPool
	id   string
	err  error
}

// parseAnchors reads certificates in PEM. Their id is a hash of all certificates,
// whatever their order.
func parseAnchors(text []byte) (anchors, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) { // certificates that it cannot read it leaves out
		return anchors{}, errors.New("there is no certificate in PEM in it")
	}
	var sums [][sha256.Size]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			sums = append(sums, sha256.Sum256(block.Bytes))
		}
	}
	slices.SortFunc(sums, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	all := sha256.New()
	for _, sum := range slices.Compact(sums) {
		all.Write(sum[:])
	}
	return anchors{pool: pool, id: hex.EncodeToString(all.Sum(nil))}, nil
}

// absolute reports a path that depends on where the process happens to stand.
func (r *report) absolute(key, path string) {
	if path != "" && !filepath.IsAbs(path) {
		r.fault(key, fmt.Sprintf("want an absolute path, got %q", path), "")
	}
}

// anchorsOf returns the trust anchors in the file at path, which is read once.
func (c *checker) anchorsOf(path string) anchors {
	if a, ok := c.anchors[path]; ok {
		return a
	}
	text, err := c.read(path)
	var a anchors
	if err == nil {
		a, err = parseAnchors(text)
	}
	a.err = cause(err) // the message names the path already
	c.anchors[path] = a
	return a
}
