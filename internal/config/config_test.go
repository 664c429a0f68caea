package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dnsproxy/internal/config"
	"dnsproxy/internal/sandbox"
	"dnsproxy/internal/spki"
	"dnsproxy/internal/upstream"
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

func TestTwoLinesAreAWholeFile(t *testing.T) {
	c := parse(t, google)
	if len(c.Upstreams) != 1 || c.Upstreams[0].Name != "dns.google" || len(c.Upstreams[0].Endpoints) != 1 {
		t.Fatalf("got %+v", c.Upstreams)
	}
	e := c.Upstreams[0].Endpoints[0]
	wantSuites := []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}
	wantGroups := []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}
	if e.Upstream != "dns.google" || e.Addr != netip.MustParseAddrPort("8.8.8.8:853") || e.ServerName != "dns.google" ||
		e.Roots == nil || e.RootsID == "" || len(e.Pins) > 0 || e.ReportOnly || e.RequirePQ ||
		!slices.Equal(e.Suites, wantSuites) || !slices.Equal(e.Groups, wantGroups) {
		t.Errorf("got %+v", e)
	}
	// The contract's defaults.
	f, l := c.Forwarder, c.Frontend
	if f.Timeout != 4*time.Second || f.MinTTL != 0 || f.MaxTTL != 24*time.Hour || f.MaxNegativeTTL != time.Hour ||
		f.ServeStale != 24*time.Hour || !f.Prefetch || !f.SpecialNames || f.Routes != nil {
		t.Errorf("got %+v", f)
	}
	if l.Pending != 10000 || l.TCPClients != 1000 || l.TCPIdleTimeout != 10*time.Second || l.UDPPayload != 1232 {
		t.Errorf("got %+v", l)
	}
	if c.CacheSize != 32<<20 || c.LogLevel != slog.LevelInfo || c.Sandbox != sandbox.BestEffort ||
		c.Selection != (upstream.Settings{Policy: upstream.Ordered, HedgeBudget: 0.05}) {
		t.Errorf("got %v %v %v %+v", c.CacheSize, c.LogLevel, c.Sandbox, c.Selection)
	}
	if want := []string{"/etc/ssl/certs/ca-certificates.crt"}; !slices.Equal(c.CAFiles, want) {
		t.Errorf("got CA files %q, want %q", c.CAFiles, want)
	}
	for addr, want := range map[string]bool{
		"127.0.0.1": true, "127.255.0.1": true, "::1": true, "10.1.2.3": true, "172.31.0.1": true, "192.168.0.1": true, "169.254.9.9": true,
		"fd00::1": true, "fe80::1": true, "172.32.0.1": false, "8.8.8.8": false, "100.64.0.1": false, "2001:db8::1": false, "::": false,
	} {
		got := slices.ContainsFunc(l.Allow, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(addr)) })
		if got != want {
			t.Errorf("%s is allowed by default: got %v, want %v", addr, got, want)
		}
	}
}

// full says something else than the default wherever it can.
const full = `
listen = ["192.0.2.1", "[2001:db8::1]:5353", "::1"]
allow = ["0.0.0.0/0", "2001:db8::7", "::ffff:192.0.2.0/120"]
timeout = "2500ms"
log_level = "debug"
sandbox = "best-effort"
[tls]
ca_file = "/a"
cipher_suites = ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"]
groups = ["SecP256r1MLKEM768", "P-521"]
require_post_quantum = true
[cache]
size = "1536KiB"
min_ttl = "1m"
max_ttl = "36h"
max_negative_ttl = "90s"
serve_stale = "0s"
prefetch = false
[forward]
policy = "spread"
hedge_budget = 0
[limits]
pending = 1
tcp_clients = 20_000
tcp_idle_timeout = "1500ms"
udp_payload = 4096
[local]
special_names = false
[[upstream]]
addresses = ["192.0.2.1:8853", "fe80::1%eth0", "[2001:db8::1]:8853", "[2001:db8::2]", "::ffff:192.0.2.2"]
server_name = "DNS.Example."
ca_file = "/b"
pins = ["` + pin + `", "pin-sha256=\"` + otherPin + `\""]
pin_mode = "report"
[[upstream]]
addresses = ["192.0.2.1:8853"]
pins = ["sha256/` + pin + `"]
[[upstream]]
addresses = ["192.0.2.4"]
server_name = "192.0.2.4"
[[upstream]]
addresses = ["192.0.2.5"]
server_name = "dns.example"
[[route]]
domains = ["Corp.Example.", "_tcp.example"]
upstreams = ["dns.example", "192.0.2.5"]
[[route]]
domains = ["."]
upstreams = ["192.0.2.4"]
`

func TestEachKeyIsObeyed(t *testing.T) {
	c := parse(t, full)
	addrs := func(texts ...string) (list []netip.AddrPort) {
		for _, s := range texts {
			list = append(list, netip.MustParseAddrPort(s))
		}
		return list
	}
	if want := addrs("192.0.2.1:53", "[2001:db8::1]:5353", "[::1]:53"); !slices.Equal(c.Listen, want) {
		t.Errorf("listen: got %v, want %v", c.Listen, want)
	}
	if got := fmt.Sprint(c.Frontend.Allow); got != "[0.0.0.0/0 2001:db8::7/128 192.0.2.0/24]" {
		t.Errorf("allow: got %s", got)
	}
	if c.LogLevel != slog.LevelDebug || c.Sandbox != sandbox.BestEffort || c.CacheSize != 1536<<10 ||
		c.Selection != (upstream.Settings{Policy: upstream.Spread}) {
		t.Errorf("got %v %v %v %+v", c.LogLevel, c.Sandbox, c.CacheSize, c.Selection)
	}
	f, l := c.Forwarder, c.Frontend
	if f.Timeout != 2500*time.Millisecond || f.MinTTL != time.Minute || f.MaxTTL != 36*time.Hour || f.MaxNegativeTTL != 90*time.Second ||
		f.ServeStale != 0 || f.Prefetch || f.SpecialNames {
		t.Errorf("got %+v", f)
	}
	if l.Pending != 1 || l.TCPClients != 20000 || l.TCPIdleTimeout != 1500*time.Millisecond || l.UDPPayload != 4096 {
		t.Errorf("got %+v", l)
	}
	if got := fmt.Sprint(c.Routes); got != "[{[corp.example _tcp.example] [dns.example 192.0.2.5]} {[] [192.0.2.4]}]" {
		t.Errorf("routes: got %s", got)
	}
	if want := []string{"/b", "/a"}; !slices.Equal(c.CAFiles, want) {
		t.Errorf("CA files: got %q, want %q", c.CAFiles, want)
	}

	var names []string
	for _, u := range c.Upstreams {
		names = append(names, u.Name)
	}
	if want := []string{"dns.example", "192.0.2.1:8853", "192.0.2.4", "192.0.2.5"}; !slices.Equal(names, want) {
		t.Errorf("upstreams: got %q, want %q", names, want)
	}
	var got []netip.AddrPort
	zero, other := spki.Pin{}, spki.Pin{4}
	for _, e := range c.Upstreams[0].Endpoints {
		got = append(got, e.Addr)
		if e.Upstream != "dns.example" || e.ServerName != "dns.example" || !e.ReportOnly || !e.RequirePQ || !slices.Equal(e.Pins, spki.Set{zero, other}) ||
			!slices.Equal(e.Suites, []uint16{tls.TLS_CHACHA20_POLY1305_SHA256, tls.TLS_AES_128_GCM_SHA256}) ||
			!slices.Equal(e.Groups, []tls.CurveID{tls.SecP256r1MLKEM768, tls.CurveP521}) {
			t.Errorf("got %+v", e)
		}
	}
	if want := addrs("192.0.2.1:8853", "[fe80::1%eth0]:853", "[2001:db8::1]:8853", "[2001:db8::2]:853", "192.0.2.2:853"); !slices.Equal(got, want) {
		t.Errorf("addresses: got %v, want %v", got, want)
	}
	if e := c.Upstreams[1].Endpoints[0]; e.ServerName != "" || e.Roots != nil || e.RootsID != "" || !slices.Equal(e.Pins, spki.Set{zero}) {
		t.Errorf("pins alone: got %+v", e)
	}
	if e := c.Upstreams[2].Endpoints[0]; e.ServerName != "192.0.2.4" || e.RootsID == c.Upstreams[0].Endpoints[0].RootsID {
		t.Errorf("address as authentication name: got %+v", e)
	}
}

func TestEmptyListsOfTLSAreTheDefaults(t *testing.T) {
	same(t, parse(t, "[tls]\ncipher_suites = []\ngroups = []\n"+google), parse(t, google))
}

func TestUnnamedUpstreamsGetNamesThatAreFree(t *testing.T) {
	c := parse(t, `
[[upstream]]
addresses = ["192.0.2.1"]
server_name = "dns.example"
[[upstream]]
addresses = ["192.0.2.2:8853", "192.0.2.3"]
server_name = "dns.example"
[[upstream]]
name = "192.0.2.4"
addresses = ["192.0.2.5"]
server_name = "dns.example"
[[upstream]]
addresses = ["192.0.2.4"]
server_name = "dns.example"
[[upstream]]
addresses = ["192.0.2.6"]
server_name = "`+strings.Repeat("a.", 40)+`example"
`)
	var names []string
	for _, u := range c.Upstreams {
		names = append(names, u.Name)
	}
	if want := []string{"dns.example", "192.0.2.2:8853", "192.0.2.4", "192.0.2.4_dns.example", "192.0.2.6"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

// Services that tell customers apart by name have one address for all.
func TestOneAddressUnderTwoNames(t *testing.T) {
	c := parse(t, "[[upstream]]\naddresses = [\"192.0.2.1\"]\nserver_name = \"a.dns.example\"\n[[upstream]]\naddresses = [\"192.0.2.1\"]\nserver_name = \"b.dns.example\"\n")
	if len(c.Upstreams) != 2 {
		t.Errorf("got %d upstreams", len(c.Upstreams))
	}
}

func TestRootsIDIsOfTheCertificates(t *testing.T) {
	id := func(file string) string {
		return parse(t, "[tls]\nca_file = \""+file+"\"\n"+google).Upstreams[0].Endpoints[0].RootsID
	}
	both := id("/etc/ssl/certs/ca-certificates.crt")
	if id("/turned") != both {
		t.Error("the order of certificates, or one that is there twice, makes a difference")
	}
	if a, b := id("/a"), id("/b"); a == b || a == both || b == both {
		t.Error("different certificates make no difference")
	}
}

func TestNoNameNoCAFile(t *testing.T) {
	text := "[[upstream]]\naddresses = [\"192.0.2.1\"]\npins = [\"" + pin + "\", \"" + otherPin + "\"]\n"
	c, err := config.Parse([]byte(text), "dnsproxy.toml", func(path string) ([]byte, error) {
		t.Errorf("reads %s", path)
		return nil, fs.ErrNotExist
	})
	if err != nil || len(c.CAFiles) > 0 {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestDefaultUpstreams(t *testing.T) {
	upstreams := ""
	for _, name := range []string{"a", "b", "c"} {
		upstreams += "[[upstream]]\nname = \"" + name + "\"\naddresses = [\"192.0.2.1\"]\nserver_name = \"" + name + ".example\"\n"
	}
	route := func(domain string, upstreams string) string {
		return "[[route]]\ndomains = [\"" + domain + "\"]\nupstreams = " + upstreams + "\n"
	}
	for _, tt := range []struct {
		name, routes string
		want         []string
	}{
		{"no route", "", []string{"a", "b", "c"}},
		{"some are in a route", route("corp.example", `["c"]`), []string{"a", "b"}},
		{"all are in a route", route("corp.example", `["c", "a"]`) + route("lab.example", `["b"]`), []string{"a", "b", "c"}},
		{"a route for all names", route("corp.example", `["c"]`) + route(".", `["c", "b"]`), []string{"c", "b"}},
	} {
		if got := parse(t, upstreams+tt.routes).DefaultUpstreams(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestCheckLoop(t *testing.T) {
	c := parse(t, "[[upstream]]\nname = \"a\"\naddresses = [\"192.0.2.1:8853\", \"[::1]:8853\"]\nserver_name = \"a.example\"\n")
	for addr, want := range map[string]string{
		"192.0.2.1:8853": `upstream "a" (192.0.2.1:8853) is where dnsproxy itself listens (192.0.2.1:8853)`,
		"[::]:8853":      `upstream "a" ([::1]:8853) is where dnsproxy itself listens ([::]:8853)`,
		"192.0.2.1:853":  "",
		"[::]:53":        "",
		"192.0.2.2:8853": "",
	} {
		got := ""
		if err := c.CheckLoop([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort(addr)}); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", addr, got, want)
		}
	}
}

func TestDefaultListen(t *testing.T) {
	if got, want := config.DefaultListen(), parse(t, google).Listen; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// --listen reads addresses as the file does, and says as much.
func TestParseListen(t *testing.T) {
	for s, want := range map[string]string{
		"127.0.0.1":      "127.0.0.1:53",
		"[::1]":          "[::1]:53",
		"0.0.0.0:5353":   "0.0.0.0:5353",
		"[fe80::1%lo]:1": "[fe80::1%lo]:1",
		":53":            `want an IP address, as "192.0.2.1", "192.0.2.1:53" or "[2001:db8::1]:53"; got ":53"; "0.0.0.0:53" and "[::]:53" stand for every address of the machine`,
		"127.0.0.1:x":    `want a port from 1 to 65535, got "x"`,
		"127.0.0.1:0":    "want a port from 1 to 65535, got 0",
	} {
		addr, err := config.ParseListen(s)
		got := addr.String()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
	}
}
