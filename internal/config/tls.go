package config

import (
	"crypto/fips140"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	"dnsproxy/internal/dot"
)

// named is a number of TLS under the name that the file has for it.
type named[T ~uint16] struct {
	name string
	id   T
}

// suites are the suites of TLS 1.3 that crypto/tls has, in the order that the file has them by default.
var suites = [...]named[uint16]{
	{"TLS_AES_128_GCM_SHA256", tls.TLS_AES_128_GCM_SHA256},
	{"TLS_AES_256_GCM_SHA384", tls.TLS_AES_256_GCM_SHA384},
	{"TLS_CHACHA20_POLY1305_SHA256", tls.TLS_CHACHA20_POLY1305_SHA256},
}

// groups are the key exchanges that crypto/tls has for TLS 1.3.
var groups = func() (all []named[tls.CurveID]) {
	for _, id := range []tls.CurveID{
		tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521,
	} {
		all = append(all, named[tls.CurveID]{dot.GroupName(id), id})
	}
	return all
}()

// groupAliases are other programs' names: of OpenSSL, of IANA and of Go.
var groupAliases = [...][2]string{
	{"prime256v1", "P-256"}, {"secp256r1", "P-256"}, {"CurveP256", "P-256"}, {"NIST P-256", "P-256"},
	{"secp384r1", "P-384"}, {"CurveP384", "P-384"}, {"NIST P-384", "P-384"},
	{"secp521r1", "P-521"}, {"CurveP521", "P-521"}, {"NIST P-521", "P-521"},
	{"Curve25519", "X25519"},
}

// Not allowed where FIPS 140 is on (crypto/tls/defaults_fips140.go).
const (
	suiteOutsideFIPS = tls.TLS_CHACHA20_POLY1305_SHA256
	groupOutsideFIPS = tls.X25519
)

func suiteNames() []string { return names(suites[:]) }
func groupNames() []string { return names(groups) }

func names[T ~uint16](all []named[T]) []string {
	out := make([]string, len(all))
	for i := range all {
		out[i] = all[i].name
	}
	return out
}

// namesOf returns the names of ids.
func namesOf[T ~uint16](ids []T, all []named[T]) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = all[slices.IndexFunc(all, func(n named[T]) bool { return n.id == id })].name
	}
	return out
}

// byName looks names up; the empty list stands for std.
func byName[T ~uint16](r *report, path string, list, std []string, all []named[T], explain func(string) (problem, hint string)) []T {
	if len(list) == 0 {
		list = std
	}
	var out []T
	for i, name := range list {
		at := slices.IndexFunc(all, func(n named[T]) bool { return n.name == name })
		switch {
		case at < 0:
			problem, hint := explain(name)
			r.fault(element(path, i), problem, hint)
		case slices.Contains(out, all[at].id):
			r.fault(element(path, i), fmt.Sprintf("%q is listed twice", name), "")
		default:
			out = append(out, all[at].id)
		}
	}
	return out
}

// explainSuite says what is wrong with a suite's name.
func explainSuite(name string) (problem, hint string) {
	is := func(s *tls.CipherSuite) bool { return s.Name == name }
	openSSL := strings.HasPrefix(name, "ECDHE-") || strings.HasPrefix(name, "DHE-")
	if openSSL || slices.ContainsFunc(tls.CipherSuites(), is) || slices.ContainsFunc(tls.InsecureCipherSuites(), is) {
		return fmt.Sprintf("%q is a cipher suite of TLS 1.2; dnsproxy speaks TLS 1.3 only", name),
			"want " + choices(suiteNames())
	}
	return fmt.Sprintf("unknown cipher suite %q", name), suggest(name, suiteNames())
}

// explainGroup says what is wrong with a group's name.
func explainGroup(name string) (problem, hint string) {
	problem = fmt.Sprintf("unknown group %q", name)
	for _, alias := range groupAliases {
		if strings.EqualFold(alias[0], name) {
			return problem, fmt.Sprintf("did you mean %q?", alias[1])
		}
	}
	return problem, suggest(name, groupNames())
}

// tls checks the [tls] table.
func (r *report) tls(f *raw) TLS {
	std := defaults()
	t := TLS{CAFile: f.caFile, RequirePQ: f.requirePQ}
	known := len(r.faults)
	t.Suites = byName(r, "tls.cipher_suites", f.suites, std.suites, suites[:], explainSuite)
	t.Groups = byName(r, "tls.groups", f.groups, std.groups, groups, explainGroup)
	r.absolute("tls.ca_file", f.caFile)
	if len(r.faults) > known {
		return t // what follows would only repeat it
	}
	if !slices.Contains(t.Suites, tls.TLS_AES_128_GCM_SHA256) {
		r.warn("tls.cipher_suites", "TLS_AES_128_GCM_SHA256 is left out, the one suite that every TLS 1.3 server must have (RFC 8446, section 9.1)",
			"some upstreams may not be reached")
	}
	if t.RequirePQ && !slices.ContainsFunc(t.Groups, postQuantum) {
		r.fault("tls.require_post_quantum", "tls.groups has no post-quantum group", `add "X25519MLKEM768"`)
	}
	if fips140.Enabled() {
		r.fips(t)
	}
	return t
}

// fips checks that something is left where FIPS 140 is on, as crypto/tls then
// silently drops what it does not allow.
func (r *report) fips(t TLS) {
	if !slices.ContainsFunc(t.Suites, func(id uint16) bool { return id != suiteOutsideFIPS }) {
		r.fault("tls.cipher_suites", "FIPS 140 is on, and allows none of these", `add "TLS_AES_128_GCM_SHA256"`)
	}
	if !slices.ContainsFunc(t.Groups, func(id tls.CurveID) bool { return id != groupOutsideFIPS }) {
		r.fault("tls.groups", "FIPS 140 is on, and allows none of these", `add "X25519MLKEM768" or "P-256"`)
	}
}

func postQuantum(id tls.CurveID) bool {
	return id == tls.X25519MLKEM768 || id == tls.SecP256r1MLKEM768 || id == tls.SecP384r1MLKEM1024
}
