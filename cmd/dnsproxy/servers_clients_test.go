//go:build servers

package main_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// digOptions is what each name of the dig run is asked with. dig sets AD and
// sends EDNS unless told otherwise.
var digOptions = []string{"", "+noadflag", "+dnssec", "+cdflag", "+noedns", "+dnssec +cdflag", "+noedns +noadflag +cdflag", "+bufsize=512"}

// digNames stand for the kinds of answers; the whole matrix is compared in testRelay.
var digNames = []string{
	"a.plain.rig. A", "a.plain.rig. AAAA", "a.plain.rig. MX", "a.plain.rig. TYPE65281", "chain1.plain.rig. A", "chain5.plain.rig. A",
	"x.y.wild.plain.rig. A", "nowhere.plain.rig. A", "empty.plain.rig. A", "zero.plain.rig. A", "big.plain.rig. TXT", "medium.plain.rig. A",
	"www.child.plain.rig. A", "unknown.plain.rig. TYPE65280", "mail.plain.rig. MX", "x.below.plain.rig. A", "MiXeD.pLaIn.RiG. TXT",
	"naptr.types.rig. NAPTR", "svcb.types.rig. SVCB", "hip.types.rig. HIP", "null.types.rig. NULL",
	"a.signed.rig. A", "nowhere.signed.rig. A", "a.signed.rig. MX", "x.wild.signed.rig. A", "signed.rig. DNSKEY", "unsigned.signed.rig. DS",
	"a.nsec3.rig. A", "nowhere.nsec3.rig. A", "a.bogus.rig. A", "version.bind. CH TXT",
}

// testDig compares what dig prints, over UDP (with its own retry over TCP) and
// over TCP, first with a cold cache and again from it.
func (r *rig) testDig(t *testing.T, up upstreamServer) {
	d := r.startDaemon(t, upstreamTable(up.name, up.dot, r.ca.file))
	var batch strings.Builder
	for _, name := range digNames {
		for _, options := range digOptions {
			fmt.Fprintln(&batch, name, options)
		}
	}
	file := filepath.Join(t.TempDir(), "batch")
	write(t, file, batch.String())
	// Over UDP a server leaves out additional records that do not fit (RFC 2181,
	// section 9). The daemon has asked over a stream, so it may have them.
	stream := dig(t, up.plain, "+tcp", file)
	for _, transport := range []string{"+notcp", "+tcp"} {
		want := dig(t, up.plain, transport, file)
		for _, state := range []string{"cold", "cached"} {
			got := dig(t, d.listen, transport, file)
			if len(got) != len(want) || len(got) != len(digNames)*len(digOptions) {
				t.Fatalf("dig %s: %d answers, %d wanted, %d asked", transport, len(got), len(want), len(digNames)*len(digOptions))
			}
			different := 0
			for i := range got {
				if got[i] == want[i] || got[i] == stream[i] || up.fickleEDE && withoutEDE(got[i]) == withoutEDE(want[i]) {
					continue
				}
				if different++; different <= 5 {
					t.Errorf("dig %s, %s:\ngot:\n%s\nwant:\n%s", transport, state, got[i], want[i])
				}
			}
			t.Logf("dig %s, %s: %d answers compared, %d different", transport, state, len(got), different)
		}
	}
}

var (
	// What dig prints that is not the answer's: times, sizes, IDs, TTLs and the OPT's UDP size, which is for one hop.
	digNoise = regexp.MustCompile(`(?m)^(;; (Query time|WHEN|SERVER|MSG SIZE).*|; <<>>.*|;; global options.*)\n|^;; Truncated.*$|, id: \d+|udp: \d+`)
	digTTL   = regexp.MustCompile(`(?m)^([^;\s]\S*\s+)\d+(\s+(?:IN|CH)\s)`)
	digEDE   = regexp.MustCompile(`(?m)^; EDE: .*\n`)
	// A SERVFAIL from a cache may say so (RFC 8914, section 4.14).
	digCachedError = regexp.MustCompile(`(?m)^; EDE: 13 .*\n`)
)

// dig runs a batch and returns each answer as dig printed it, less the noise.
func dig(t *testing.T, addr, transport, file string) []string {
	t.Helper()
	host, port, _ := strings.Cut(addr, ":")
	out := command(t, "/", "dig", "@"+host, "-p", port, "+nocookie", "+tries=1", "+timeout=6", transport, "-f", file)
	var answers []string
	for _, answer := range strings.Split(out, "\n; <<>> DiG")[1:] {
		_, answer, _ = strings.Cut(answer, "\n")
		answer = strings.TrimSpace(digNoise.ReplaceAllString(answer, ""))
		if strings.Contains(answer, "status: SERVFAIL") {
			answer = digCachedError.ReplaceAllString(answer, "")
		}
		answers = append(answers, digTTL.ReplaceAllString(answer, "${1}TTL$2"))
	}
	return answers
}

func withoutEDE(answer string) string { return digEDE.ReplaceAllString(answer, "") }

// testClients runs clients that nobody here wrote, on port 53.
func (r *rig) testClients(t *testing.T) {
	up := r.upstreams[0]
	d := r.startDaemonAt(t, "127.0.0.1:53", "", upstreamTable(up.name, up.dot, r.ca.file))
	for _, c := range []struct {
		command string
		want    []string // in the output
	}{
		{"dig +short a.plain.rig", []string{"192.0.2.1\n"}},
		{"dig +short +tcp +keepopen a.plain.rig b.signed.rig TXT", []string{"192.0.2.1\n", "signed text"}},
		{"dig +cookie a.plain.rig", []string{"status: NOERROR", "192.0.2.1"}},
		{"dig +nsid +subnet=192.0.2.0/24 a.plain.rig", []string{"status: NOERROR", "192.0.2.1"}},
		{"dig +edns=1 +noednsneg a.plain.rig", []string{"status: BADVERS"}},
		{"dig +opcode=notify a.plain.rig", []string{"status: NOTIMP"}},
		{"dig +dnssec a.signed.rig", []string{"status: NOERROR", " ad;", "RRSIG"}},
		{"dig a.bogus.rig", []string{"status: SERVFAIL", "EDE: "}},
		{"kdig +short a.plain.rig", []string{"192.0.2.1\n"}},
		{"kdig +tcp +keepopen a.plain.rig A b.signed.rig TXT big.plain.rig TXT", []string{"192.0.2.1", "signed text", "019 xxx"}},
		{"kdig +dnssec +padding=128 a.nsec3.rig", []string{"RRSIG", " ad;"}},
		{"kdig medium.plain.rig", []string{"198.51.100.70"}},
		{"drill a.plain.rig @127.0.0.1", []string{"192.0.2.1", "rcode: NOERROR"}},
		{"drill -t big.plain.rig TXT @127.0.0.1", []string{"019 xxx"}},
		{"drill -D a.signed.rig @127.0.0.1", []string{"RRSIG", "rcode: NOERROR"}},
		{"drill nowhere.plain.rig @127.0.0.1", []string{"rcode: NXDOMAIN"}},
		{"getent ahosts a.plain.rig", []string{"192.0.2.1 ", "2001:db8::1 "}},
		{"getent ahostsv4 medium.plain.rig", []string{"198.51.100.1 ", "198.51.100.70 "}},
		{"env RES_OPTIONS=use-vc getent ahosts a.plain.rig", []string{"192.0.2.1 "}},
		{"env RES_OPTIONS=edns0,trust-ad getent ahosts a.signed.rig", []string{"192.0.2.1 "}},
		{"env RES_OPTIONS=single-request getent ahosts chain5.plain.rig", []string{"192.0.2.1 ", "a.plain.rig"}},
		{"getent hosts localhost", []string{"localhost"}},
	} {
		args := strings.Fields(c.command)
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", c.command, err, out)
		}
		for _, want := range c.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: no %q in\n%s", c.command, want, out)
			}
		}
	}
	t.Run("getent of no name", func(t *testing.T) {
		err := exec.Command("getent", "ahosts", "nowhere.plain.rig").Run()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 2 {
			t.Errorf("getent ended with %v, want exit code 2 (getent(1): key not found)", err)
		}
	})
	t.Run("dnsperf", func(t *testing.T) { r.testDNSPerf(t, d) })
}

// testDNSPerf loads the daemon for a few seconds, over both transports.
func (r *rig) testDNSPerf(t *testing.T, d *daemon) {
	var queries strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&queries, "perf%d.wild.plain.rig. A\n", i)
	}
	file := filepath.Join(t.TempDir(), "queries")
	write(t, file, queries.String())
	for _, mode := range []string{"udp", "tcp"} {
		out := command(t, "/", "dnsperf", "-s", "127.0.0.1", "-p", "53", "-m", mode, "-d", file, "-l", "3", "-Q", "5000", "-c", "20", "-t", "5")
		figures := regexp.MustCompile(`(?m)^ +(Queries (sent|completed|lost)|Response codes|Average Latency).*$`).FindAllString(out, -1)
		t.Logf("dnsperf over %s:\n%s", mode, strings.Join(figures, "\n"))
		if !regexp.MustCompile(`Queries lost: +0 `).MatchString(out) {
			t.Errorf("dnsperf over %s lost queries:\n%s", mode, out)
		}
		if !regexp.MustCompile(`Response codes: +NOERROR \d+ \(100\.00%\)`).MatchString(out) {
			t.Errorf("dnsperf over %s got other answers than NOERROR:\n%s", mode, out)
		}
	}
	if d.resolves(t, "a.plain.rig.").Rcode != dns.RcodeSuccess {
		t.Error("the daemon does not answer after the load")
	}
}
