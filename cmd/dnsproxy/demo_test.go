package main_test

import (
	"net"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
)

// digLine is a line that the demo tells to try.
var digLine = regexp.MustCompile(`(?m)^ +dig @(\S+) -p (\d+) (\+tcp )?(\S+) ([A-Z]+)$`)

// The demo's own words are the test: what it tells to try is tried.
func TestDemo(t *testing.T) {
	// The first port is taken: here, or by whoever made this fail.
	if taken, err := net.Listen("tcp", "127.0.0.1:5353"); err == nil {
		defer taken.Close()
	}
	r := launch(t, program(t, "demo"))
	r.stdout.await(t, "Ctrl-C ends the demo")
	tries := digLine.FindAllStringSubmatch(r.stdout.String(), -1)
	if len(tries) != 2 {
		t.Fatalf("%d dig lines in\n%s", len(tries), r.stdout)
	}
	var answers []*dns.Msg
	for _, try := range tries {
		network, port := "udp", try[2]
		if try[3] != "" {
			network = "tcp"
		}
		if port == "5353" {
			t.Error("the demo tells of a port that is taken")
		}
		m := exchange(t, network, net.JoinHostPort(try[1], port), queryFor(dns.Fqdn(try[4]), dns.StringToType[try[5]]))
		if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
			t.Fatalf("%s: want one record, got\n%v", strings.TrimSpace(try[0]), m)
		}
		answers = append(answers, m)
	}
	if a, ok := answers[0].Answer[0].(*dns.A); !ok || !strings.HasPrefix(a.A.String(), "192.0.2.") { // RFC 5737
		t.Errorf("want an address for documentation, got %v", answers[0].Answer[0])
	}
	for _, want := range []string{"TLS 1.3", "TLS_AES_", "X25519MLKEM768", "dot"} {
		if !strings.Contains(answers[1].Answer[0].String(), want) {
			t.Errorf("no %q in %v", want, answers[1].Answer[0])
		}
	}

	_, config, _ := strings.Cut(r.stdout.String(), "made for the demo:\n")
	config, _, _ = strings.Cut(config, "dnsproxy answers on")
	if code, _, stderr := finish(t, "check", "--quiet", "--config="+writeConfig(t, config)); code != 0 || !strings.Contains(config, "pins") {
		t.Errorf("the configuration that it shows: exit code %d, %s\n%s", code, stderr, config)
	}

	r.signal(syscall.SIGINT)
	if code := r.wait(); code != 0 {
		t.Errorf("exit code %d after SIGINT, want 0", code)
	}
	if found := append(r.stderr.lines("WARN"), r.stderr.lines("ERROR")...); found != nil {
		t.Errorf("the demo worries:\n%s", strings.Join(found, "\n"))
	}
}
