package main_test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dnsproxy/internal/config"
	"dnsproxy/internal/dottest"
	"dnsproxy/internal/probe"
	"dnsproxy/internal/spki"
)

// caFile writes the server's CA and returns the line of an [[upstream]] that names it.
func caFile(t *testing.T, s *dottest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, s.CA().PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("ca_file = %q", path)
}

const serverName = `server_name = "dns.example"`

// masked replaces in text what is another each time.
func masked(text string, s *dottest.Server) string {
	text = strings.NewReplacer(
		s.Addr().String(), "ADDRESS", s.Pin().String(), "LEAFPIN", s.CA().Pin().String(), "CAPIN",
		spki.Pin{1}.String(), "PIN1", spki.Pin{2}.String(), "PIN2",
	).Replace(text)
	for pattern, name := range map[string]string{
		`[0-9.]+ (ms|µs)`: "TIME", `\d{4}-\d\d-\d\d`: "DATE", `TLS_[A-Z0-9_]+`: "SUITE", `ca_file( *)= ".*"`: "ca_file$1= CAFILE",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, name)
	}
	return text
}

// shows fails the test unless text has all of wants.
func shows(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

const (
	leafText = `  leaf        CN=dns.example
              for dns.example, 127.0.0.1, ::1
              issued by CN=dottest
              valid DATE to DATE, 12 h left
              pin LEAFPIN
`
	issuerText = `  issuer      CN=dottest
              issued by itself; from the CA file, not presented
              valid DATE to DATE, 24 h left
              pin CAPIN
`
	notKnown = `              NOT AUTHENTICATED: no query was sent, and what follows may be anybody's.
`
	notKnownTable = `# NOT AUTHENTICATED: these pins may be anybody's. Compare them with those that
# the upstream's operator publishes.
`
	noIssuer = `  # No issuer is known: add the pin of a backup key (RFC 7858, section 4.2).
`
)

// What is printed, for people, of upstreams good and bad.
func TestProbeText(t *testing.T) {
	for name, tt := range map[string]struct {
		options []dottest.Option
		lines   string
		code    int
		want    string
	}{
		"accepted by name and pin": {
			options: []dottest.Option{dottest.WithAction(dottest.Keepalive(100))},
			lines:   serverName + fmt.Sprintf("\npins = [%q, \"LEAFPIN\"]", spki.Pin{1}),
			want: `upstream "test" (ADDRESS): accepted
  server name dns.example
  session     TLS 1.3, SUITE, X25519MLKEM768 (post-quantum), ALPN dot
  times       connect TIME, handshake TIME, resumed handshake TIME, answer TIME
  answers     NOERROR, 34 octets, not padded; 20 of 20 at once, in order
  keepalive   10s announced
  pin         matched: LEAFPIN
` + strings.TrimSuffix(leafText, "\n") + ` (configured)
` + issuerText + `
[[upstream]]
name        = "test"
addresses   = ["ADDRESS"]
server_name = "dns.example"
ca_file     = CAFILE
pins        = [
  "LEAFPIN", # leaf CN=dns.example
  "CAPIN", # issuer CN=dottest
]

`},
		"another pin that is reported": {
			lines: serverName + fmt.Sprintf("\npin_mode = \"report\"\npins = [%q, %q]", spki.Pin{1}, spki.Pin{2}),
			want: `upstream "test" (ADDRESS): accepted
  server name dns.example
  session     TLS 1.3, SUITE, X25519MLKEM768 (post-quantum), ALPN dot
  times       connect TIME, handshake TIME, resumed handshake TIME, answer TIME
  answers     NOERROR, 28 octets, not padded; 20 of 20 at once, in order
  keepalive   not announced
  pin         MISMATCH, which pin_mode = "report" lets pass
` + leafText + issuerText + `
[[upstream]]
name        = "test"
addresses   = ["ADDRESS"]
server_name = "dns.example"
ca_file     = CAFILE
pin_mode    = "report"
pins        = [
  "LEAFPIN", # leaf CN=dns.example
  "CAPIN", # issuer CN=dottest
]

`},
		"a wrong name": {
			lines: `server_name = "other.example"`, code: 1,
			want: `upstream "test" (ADDRESS): refused: TLS handshake: x509: certificate is valid for dns.example, not other.example
  server name other.example
` + notKnown + `  session     TLS 1.3, SUITE, X25519MLKEM768 (post-quantum), ALPN dot
  times       connect TIME, handshake TIME, resumed handshake TIME
` + leafText + `
` + notKnownTable + `[[upstream]]
name        = "test"
addresses   = ["ADDRESS"]
server_name = "other.example"
ca_file     = CAFILE
pins        = [
  "LEAFPIN", # leaf CN=dns.example
` + noIssuer + `]

`},
		"TLS 1.2 alone": {
			options: []dottest.Option{dottest.WithTLS(func(c *tls.Config) {
				c.MaxVersion = tls.VersionTLS12
				c.CurvePreferences = []tls.CurveID{tls.CurveP256}
			})},
			lines: fmt.Sprintf("pins = [%q, %q]", spki.Pin{1}, spki.Pin{2}), code: 1,
			want: `upstream "test" (ADDRESS): refused: TLS handshake: speaks no TLS 1.3
` + notKnown + `  session     TLS 1.2, SUITE, P-256 (not post-quantum), ALPN dot
  times       connect TIME, handshake TIME, does not resume
` + leafText + `
` + notKnownTable + `[[upstream]]
name        = "test"
addresses   = ["ADDRESS"]
ca_file     = CAFILE
pins        = [
  "LEAFPIN", # leaf CN=dns.example
` + noIssuer + `]

`},
	} {
		t.Run(name, func(t *testing.T) {
			s := dottest.New(t, tt.options...)
			lines := strings.ReplaceAll(tt.lines, "LEAFPIN", s.Pin().String())
			path := writeConfig(t, upstreamAt("test", s.Addr().String(), caFile(t, s), lines))
			code, stdout, stderr := finish(t, "probe", "--config="+path, "--timeout=20s")
			if code != tt.code || stderr != "" {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, stderr)
			}
			if got := masked(stdout, s); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// One table for an upstream of several addresses has the pins of all that are accepted.
func TestProbeOfSeveralAddresses(t *testing.T) {
	ca := dottest.NewCA(t)
	a, b, bad := dottest.New(t, dottest.WithCA(ca)), dottest.New(t, dottest.WithCA(ca)), dottest.New(t)
	lines := fmt.Sprintf("[[upstream]]\nname = \"all\"\naddresses = [%q, %q, %q]\n%s\n%s\n", a.Addr(), bad.Addr(), b.Addr(), caFile(t, a), serverName)
	code, stdout, _ := finish(t, "probe", "--timeout=20s", "--config="+writeConfig(t, lines))
	verdicts := regexp.MustCompile(`(?m)^upstream .*`).FindAllString(stdout, -1)
	if code != 1 || len(verdicts) != 3 || !strings.HasSuffix(verdicts[0], ": accepted") || !strings.Contains(verdicts[1], ": refused: TLS handshake: x509: ") || !strings.HasSuffix(verdicts[2], ": accepted") {
		t.Errorf("exit code %d, %q", code, verdicts)
	}
	shows(t, stdout, fmt.Sprintf(`
# Left out: %s, since it is refused.
[[upstream]]
name        = "all"
addresses   = ["%s", "%s"]
`, bad.Addr(), a.Addr(), b.Addr()), fmt.Sprintf(`pins        = [
  %q, # leaf CN=dns.example at %s
  %q, # leaf CN=dns.example at %s
  %q, # issuer CN=dottest
]
`, a.Pin(), a.Addr(), b.Pin(), b.Addr(), ca.Pin()))
}

// What is printed to be pasted is a configuration that authenticates the upstream that it was made for.
func TestProbeTableCanBePasted(t *testing.T) {
	chained := func(s *dottest.Server) {
		cert := s.CA().Issue(dottest.Leaf{})
		cert.Certificate = append(cert.Certificate, s.CA().Cert.Raw)
		s.Present(cert)
	}
	for name, lines := range map[string]string{
		"by name":             serverName,
		"by pins that differ": fmt.Sprintf("pins = [%q, %q]", spki.Pin{1}, spki.Pin{2}),
	} {
		t.Run(name, func(t *testing.T) {
			s := dottest.New(t)
			chained(s)
			_, stdout, _ := finish(t, "probe", "--timeout=20s", "--config="+writeConfig(t, upstreamAt("test", s.Addr().String(), caFile(t, s), lines)))
			table := stdout[strings.Index(stdout, "[[upstream]]"):]
			cfg, err := config.Parse([]byte(table), "pasted", os.ReadFile)
			if err != nil || len(cfg.Upstreams) != 1 || len(cfg.Upstreams[0].Endpoints[0].Pins) != 2 {
				t.Fatalf("%v:\n%s", err, stdout)
			}
			for _, w := range cfg.Warnings {
				if !strings.Contains(w, "no effect without server_name") {
					t.Error(w)
				}
			}
			// The key of the leaf, and after that that of the issuer.
			for range 2 {
				if f := probe.Inspect(t.Context(), cfg.Upstreams[0].Endpoints[0], patience); !f.Accepted || f.Session.Pin != probe.PinMatched {
					t.Errorf("got %+v", f)
				}
				chained(s)
			}
		})
	}
}

// The names in JSON are a promise of dnsproxy(8).
func TestProbeInJSON(t *testing.T) {
	good, bad := dottest.New(t, dottest.WithAction(dottest.Keepalive(5))), dottest.New(t)
	text := upstreamAt("good", good.Addr().String(), caFile(t, good), serverName) + upstreamAt("bad", bad.Addr().String(), fmt.Sprintf("pins = [%q, %q]", spki.Pin{1}, spki.Pin{2}))
	code, stdout, stderr := finish(t, "probe", "--json", "--timeout=20s", "--config="+writeConfig(t, text))
	var found []probe.Finding
	if err := json.Unmarshal([]byte(stdout), &found); err != nil || code != 1 || stderr != "" || len(found) != 2 {
		t.Fatalf("exit code %d, %v, %s:\n%s", code, err, stderr, stdout)
	}
	conn, err := tls.Dial("tcp", good.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	if want := base64.StdEncoding.EncodeToString(sum[:]); found[0].Chain[0].Pin != want {
		t.Errorf("pin: got %s, want %s", found[0].Chain[0].Pin, want)
	}
	if f := found[0]; f.Upstream != "good" || !f.Accepted || !f.Session.Resumes || f.Times.Answer <= 0 || *f.Answers.Keepalive != 0.5 {
		t.Errorf("got %+v", f)
	}
	if f := found[1]; f.Upstream != "bad" || f.Accepted || f.Reason != "authentication" || f.Answers != nil || bad.Stats().Queries != 0 {
		t.Errorf("got %+v", f)
	}
	for _, name := range []string{
		"upstream", "address", "server_name", "accepted", "authenticated", "reason", "error", "session", "version", "cipher_suite", "group", "post_quantum",
		"alpn", "resumes", "pin", "times", "connect_seconds", "handshake_seconds", "resumed_handshake_seconds", "answer_seconds", "burst_seconds",
		"answers", "rcode", "octets", "padded", "keepalive_seconds", "burst_queries", "burst_answered", "out_of_order",
		"chain", "role", "subject", "names", "issuer", "not_before", "not_after", "days_left", "pin", "pin_configured", "presented",
	} {
		if !strings.Contains(stdout, `"`+name+`": `) {
			t.Errorf("%s is missing in\n%s", name, stdout)
		}
	}
}

func TestProbeOfAnAddress(t *testing.T) {
	s := dottest.New(t)
	addr := s.Addr().String()
	path := writeConfig(t, "[tls]\ngroups = [\"P-256\"]\n"+caFile(t, s)+"\n"+upstreamAt("known", "192.0.2.1", serverName))
	run := func(code int, args ...string) string {
		t.Helper()
		got, stdout, stderr := finish(t, append([]string{"probe", "--timeout=20s"}, args...)...)
		if got != code {
			t.Errorf("%v: exit code %d, want %d: %s", args, got, code, stderr)
		}
		return stdout + stderr
	}
	shows(t, masked(run(0, "--config="+path, addr, "dns.example"), s),
		`upstream "dns.example" (ADDRESS): accepted`, "P-256 (not post-quantum)", "\n[[upstream]]\naddresses   = [\"ADDRESS\"]\nserver_name = \"dns.example\"\npins ")
	if n := s.Stats().Queries; n != 21 {
		t.Errorf("%d queries, want 21", n)
	}
	// Neither a name nor a pin: shown, but sent no query.
	shows(t, masked(run(1, "--config="+path, addr), s),
		"(ADDRESS): refused: TLS handshake: neither a name nor a pin to authenticate by", "NOT AUTHENTICATED", "pin LEAFPIN", "resumed handshake TIME")
	if n := s.Stats().Queries; n != 21 {
		t.Errorf("%d queries were sent to who is not authenticated", n-21)
	}
	// As the configuration has it.
	pinned := writeConfig(t, upstreamAt("pinned", addr, fmt.Sprintf("pins = [%q, %q]", s.Pin(), spki.Pin{1})))
	shows(t, masked(run(0, addr, "--config="+pinned), s), `upstream "pinned" (ADDRESS): accepted`, "matched: LEAFPIN", `name        = "pinned"`)
	shows(t, run(1, addr, "dns.example", "--config="+pinned), "unknown authority")
	shows(t, run(1, addr, "--config="+path+".not"), "reading the configuration", "no such file")
	// IPv6 with brackets and without, whoever may be there.
	for _, address := range []string{"::1", "[::1]", "[::1]:853"} {
		_, stdout, _ := finish(t, "probe", "--timeout=1s", address, "not.example")
		shows(t, stdout, `upstream "not.example" ([::1]:853): refused: `)
	}
}

func TestProbeWronglyUsed(t *testing.T) {
	for _, args := range []string{
		"dns.google", "192.0.2.1:53", "192.0.2.1:0", "[::1", "192.0.2.1 not_a;name", "192.0.2.1 a b", "--nonsense", "--timeout=0s", "--timeout=-1s", "--timeout=long",
	} {
		code, stdout, stderr := finish(t, append([]string{"probe"}, strings.Fields(args)...)...)
		if code != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "dnsproxy probe: ") {
			t.Errorf("%s: exit code %d, %q and %q; want 2 and what is wrong in a line", args, code, stdout, stderr)
		}
	}
	if code, _, stderr := finish(t, "probe", "--config="+writeConfig(t, "timout = 1")); code != 1 || !strings.Contains(stderr, "dnsproxy.toml:1: ") {
		t.Errorf("a faulty configuration: exit code %d, %s", code, stderr)
	}
}

// Those that do not answer hold up the others by no more than the timeout.
func TestProbeIsBounded(t *testing.T) {
	frozen, good := dottest.New(t), dottest.New(t)
	frozen.Freeze()
	path := writeConfig(t, toUpstream("frozen", frozen)+toUpstream("good", good))
	began := time.Now()
	code, stdout, _ := finish(t, "probe", "--config="+path, "--timeout=500ms")
	if took := time.Since(began); code != 1 || took > patience {
		t.Errorf("exit code %d after %v", code, took)
	}
	shows(t, stdout, `upstream "frozen" (`+frozen.Addr().String()+"): refused: TLS handshake: timed out", `upstream "good" (`+good.Addr().String()+")")
}
