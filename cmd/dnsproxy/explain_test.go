package main_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/dns"

	main "dnsproxy/cmd/dnsproxy"
	"dnsproxy/internal/control"
	"dnsproxy/internal/dottest"
)

// explains has the user ask why, and returns the exit code and the page.
func (o *operated) explains(line string) (code int, page string) {
	o.t.Helper()
	code, stdout, stderr := types(o.t, append(strings.Fields("explain "+line), "--socket="+o.control)...)
	if stderr != "" {
		o.t.Errorf("explain %s: %s", line, stderr)
	}
	return code, unfolded(stdout)
}

func TestExplain(t *testing.T) {
	good, bad, corp := dottest.New(t), dottest.New(t), dottest.New(t)
	wrongPin := "pins = [\"" + good.CA().Pin().String() + "\"]"
	o := operate(t, upstreamAt("wrong", bad.Addr().String(), wrongPin)+toUpstream("right", good)+toUpstream("corp", corp)+
		"[[route]]\ndomains = [\"corp.example\"]\nupstreams = [\"corp\"]\n")
	type row struct {
		line  string
		code  int
		wants []string
	}
	rows := []row{
		{"www.example", 0, []string{
			"query www.example. A route the default: wrong " + bad.Addr().String() + " (", "right " + good.Addr().String() + " (ready) cache nothing 0.0 ms ",
			"wrong " + bad.Addr().String() + " asked (session ", "failed: no session, TLS handshake: certificate chain does not match the pin",
			"right " + good.Addr().String() + " asked (session idle)", "right " + good.Addr().String() + " answered",
			"answer NOERROR, from an upstream after ", "answer www.example. ", " IN A 192.0.2.1",
		}},
		{"WWW.example. a", 0, []string{"query WWW.example. A ", "cache NOERROR, ", " s old, used 0 times, ", " left answer NOERROR, from the cache answer www.example. "}},
		{"www.example --dnssec", 0, []string{"cache nothing", "right " + good.Addr().String() + " asked (session ready)"}},
		{"localhost AAAA", 0, []string{"local answered by dnsproxy itself", "answer NOERROR, from a local rule EDE 29", "localhost. 10800 IN AAAA ::1"}},
		{"a.corp.example TYPE65280", 0, []string{"route corp.example.: corp " + corp.Addr().String() + " (ready)", "query a.corp.example. TYPE65280", "corp " + corp.Addr().String() + " answered"}},
	}
	for _, tt := range rows {
		code, page := o.explains(tt.line)
		if code != tt.code {
			t.Errorf("%s: exit code %d", tt.line, code)
		}
		expectIn(t, page, tt.wants...)
	}
	if page := o.scrape(); strings.Contains(page, "www") {
		t.Error("the metrics name what was asked")
	}
	if strings.Contains(o.stderr.String(), "example") {
		t.Error("the journal names what was asked")
	}
}

func TestExplainWhyThereIsNoAnswer(t *testing.T) {
	bad := dottest.New(t)
	other := dottest.New(t)
	o := operate(t, "timeout = \"300ms\"\n"+upstreamAt("wrong", bad.Addr().String(), "pins = [\""+other.CA().Pin().String()+"\"]"))
	code, page := o.explains("www.example")
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	expectIn(t, page, "answer SERVFAIL, as no upstream answered within 3", "EDE 22 (No Reachable Authority): wrong "+bad.Addr().String()+": no session", "certificate chain does not match the pin")
	for range 10 { // it is remembered up to the next second only
		if code, page = o.explains("www.example"); code != 1 {
			t.Errorf("exit code %d", code)
		}
		if strings.Contains(page, "remembered") {
			break
		}
	}
	expectIn(t, page, "cache nothing; a failure (SERVFAIL), remembered for another 1 s", `answer SERVFAIL, a failure that is remembered; "dnsproxy flush www.example." forgets it`, "EDE 13 (Cached Error)")
}

func TestExplainAsJSON(t *testing.T) {
	up := dottest.New(t)
	o := operate(t, toUpstream("test", up))
	var e control.Explanation
	if err := json.Unmarshal([]byte(o.types("explain --json www.example HTTPS")), &e); err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(e.Message); err != nil || m.Question[0].Qtype != dns.TypeHTTPS {
		t.Errorf("message: %v %v", err, m)
	}
	if e.Name != "www.example." || e.Type != "HTTPS" || e.Route != "." || e.Source != control.SourceUpstream || e.RCode != "NOERROR" || e.Took <= 0 || len(e.Via) != 1 {
		t.Errorf("got %+v", e)
	}
	if len(e.Steps) != 2 || e.Steps[0].Event != "asked" || e.Steps[1].Event != "answered" || e.Steps[1].Address != up.Addr().String() {
		t.Errorf("got %+v", e.Steps)
	}
}

func TestExplainOfWhatIsNoQuery(t *testing.T) {
	for _, args := range [][]string{{}, {"a..b"}, {"example", "NOTYPE"}, {"example", "AXFR"}, {"example", "A", "IN"}, {"mün.example"}} {
		code, out, errs := types(t, append([]string{"explain"}, args...)...)
		if code != 2 || out != "" || !regexp.MustCompile(`^dnsproxy explain: .*\n$`).MatchString(errs) {
			t.Errorf("%q: exit code %d: %s%s", args, code, out, errs)
		}
	}
}

// Whatever the operator types, the daemon makes a query of it or says why not; one that it makes can be read.
func FuzzExplained(f *testing.F) {
	for _, name := range []string{"www.example", ".", `a\.b.example`, `\000\255.`, "*._tcp.example.", strings.Repeat("a.", 127), `\`, "xn--a"} {
		f.Add(name, "A", true)
		f.Add(name, "TYPE65535", false)
	}
	f.Fuzz(func(t *testing.T, name, qtype string, dnssec bool) {
		q, err := main.QueryOf(control.Request{Name: name, Type: qtype, DNSSEC: dnssec})
		if err != nil {
			return
		}
		if got, _, err := dns.UnpackDomainName(q.QName(), 0); err != nil || !strings.HasSuffix(got, ".") || q.DO() != dnssec {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	})
}
