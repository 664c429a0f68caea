package main

import (
	"bytes"
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
	"dnsproxy/internal/spki"
)

// probeOf probes s under a configuration with these lines in its [[upstream]].
func probeOf(t *testing.T, s *dottest.Server, lines string, options ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, s.CA().PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "dnsproxy.toml")
	text := fmt.Sprintf("[[upstream]]\nname = \"test\"\naddresses = [%q]\nca_file = %q\n%s\n", s.Addr(), ca, lines)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code = run(append([]string{"probe", "--config=" + file}, options...), &out, &errs)
	return code, out.String(), errs.String()
}

func serverName(s *dottest.Server) string {
	return fmt.Sprintf("server_name = %q", s.Endpoint().ServerName)
}

func TestProbeShowsWhatIsAccepted(t *testing.T) {
	s := dottest.New(t)
	code, out, errs := probeOf(t, s, serverName(s)+fmt.Sprintf("\npins = [%q, %q]", s.Pin(), spki.Pin{1}))
	if code != exitOK || errs != "" {
		t.Fatalf("exit code %d: %s%s", code, out, errs)
	}
	for _, want := range []string{
		s.Addr().String() + " (test, ", "\n  accepted\n", "TLS 1.3, TLS_", "X25519MLKEM768 (post-quantum)", "resumed in ",
		"pin " + s.Pin().String() + " (configured)", "20 at once",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	if n := s.Stats().Queries; n != 22 {
		t.Errorf("%d queries, want 1, 1 and 20", n)
	}
}

// RFC 7858, section 4.2: a pin is the SHA-256 of the SubjectPublicKeyInfo.
func TestProbeTellsPinsInJSON(t *testing.T) {
	s := dottest.New(t)
	code, out, _ := probeOf(t, s, serverName(s), "--json")
	var got []finding
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK || len(got) != 1 {
		t.Fatalf("exit code %d, %v:\n%s", code, err, out)
	}
	conn, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	if want := base64.StdEncoding.EncodeToString(sum[:]); got[0].Chain[0].Pin != want {
		t.Errorf("pin: got %s, want %s", got[0].Chain[0].Pin, want)
	}
	if !got[0].Accepted || !got[0].Resumes || got[0].Version != "TLS 1.3" {
		t.Errorf("got %+v", got[0])
	}
}

// What is printed to be pasted authenticates the server that it was made for.
func TestProbeTableCanBePasted(t *testing.T) {
	s := dottest.New(t)
	_, out, _ := probeOf(t, s, fmt.Sprintf("pins = [%q, %q]", spki.Pin{1}, spki.Pin{2}))
	table := regexp.MustCompile(`(?s)\[\[upstream\]\].*\]`).FindString(out)
	cfg, err := config.Parse([]byte(table), "pasted", os.ReadFile)
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if f := inspect(cfg.Upstreams[0].Endpoints[0], probePatience); !f.Accepted {
		t.Errorf("refused: %s", f.Refused)
	}
}

// probePatience is how long a step may take here.
const probePatience = 20 * time.Second

func TestProbeSaysWhyItRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		options []dottest.Option
		lines   func(s *dottest.Server) string
		want    string
	}{
		"TLS 1.2":    {[]dottest.Option{dottest.WithTLS(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })}, serverName, "it speaks no TLS 1.3"},
		"wrong name": {nil, func(*dottest.Server) string { return `server_name = "other.test"` }, "other.test"},
		"wrong pin": {nil, func(s *dottest.Server) string {
			return serverName(s) + fmt.Sprintf("\npins = [%q, %q]", spki.Pin{1}, spki.Pin{2})
		}, "matches none of 2 pins"},
	} {
		t.Run(name, func(t *testing.T) {
			s := dottest.New(t, tt.options...)
			code, out, _ := probeOf(t, s, tt.lines(s))
			refused := regexp.MustCompile(`(?m)^  refused: .*`).FindString(out)
			if code != exitFailed || !strings.Contains(refused, tt.want) {
				t.Errorf("exit code %d, want %q in %q:\n%s", code, tt.want, refused, out)
			}
			if !strings.Contains(out, "pin "+s.Pin().String()) {
				t.Errorf("the pin is not shown:\n%s", out)
			}
			if n := s.Stats().Queries; n != 0 {
				t.Errorf("%d queries were sent to an upstream that is not authenticated", n)
			}
		})
	}
}

func TestProbeOfAnAddressAlone(t *testing.T) {
	s := dottest.New(t)
	var out, errs bytes.Buffer
	code := run([]string{"probe", s.Addr().String()}, &out, &errs)
	if code != exitFailed || !strings.Contains(out.String(), "not authenticated") || !strings.Contains(out.String(), s.Pin().String()) {
		t.Errorf("exit code %d: %s%s", code, out.String(), errs.String())
	}
	for args, want := range map[string]int{"dns.google": exitFailed, "1 2 3": exitUsage, "--nonsense": exitUsage, "--help": exitOK} {
		if code := run(append([]string{"probe"}, strings.Fields(args)...), &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d", args, code, want)
		}
	}
}
