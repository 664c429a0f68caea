package main_test

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/control"
	"dnsproxy/internal/dottest"
)

func TestStatusTellsOfUpstreamsGoodAndBad(t *testing.T) {
	good, bad := dottest.New(t), dottest.New(t)
	wrongPin := "pins = [\"" + good.CA().Pin().String() + "\"]"
	o := operate(t, upstreamAt("wrong", bad.Addr().String(), wrongPin)+toUpstream("right", good))
	for range 3 {
		expectAddress(t, o.ask("www.example.", dns.TypeA), "192.0.2.1")
	}
	text := o.types("status")
	expectIn(t, unfolded(text),
		", serving "+o.addr, o.config+", loaded ", " s ago",
		" wrong "+bad.Addr().String()+": backing off for ", ", NOT IN USE", "because of: TLS handshake: certificate chain does not match the pin", "1, none answered; failures: 1 no session",
		" right "+good.Addr().String()+": ready session TLS 1.3, TLS_", "X25519MLKEM768; pin matched; certificate ", " new, 1 query ",
		"1 opened, 0 resumed, 0 failed, 0 suspected; closed: none", "1, 1 answered: p50 ",
		"ordered: 1 asked for, 0 failed;", "1 entry, ", " hits of 3, ", "3 over UDP, 0 over TCP", "answers known at once: p50 ",
	)
	for line := range strings.Lines(text) {
		if len(line) > 81 && !strings.Contains(line, o.config) { // which is one long word
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
	if strings.Contains(text, "\x1b") || strings.Contains(text, "last hour") {
		t.Error("drawn though this is no terminal")
	}
}

func TestStatusTellsOfReloads(t *testing.T) {
	up := dottest.New(t)
	o := operate(t, toUpstream("test", up))
	o.rewrite("timeout = \"never\"\n" + toUpstream("test", up))
	o.signal(syscall.SIGHUP)
	o.stderr.await(t, "reload failed")
	expectIn(t, unfolded(o.types("status")), "(0 reloads, 1 failed)", "RELOAD FAILED ", "dnsproxy.toml:1: timeout:")
	o.rewrite("timeout = \"3s\"\n" + toUpstream("test", up))
	o.signal(syscall.SIGHUP)
	o.stderr.await(t, "configuration loaded")
	text := unfolded(o.types("status"))
	expectIn(t, text, "(1 reload, 1 failed)")
	if strings.Contains(text, "RELOAD FAILED") {
		t.Error("a failure that is over is shown")
	}
}

func TestStatusAsJSON(t *testing.T) {
	up := dottest.New(t)
	o := operate(t, toUpstream("test", up))
	o.ask("www.example.", dns.TypeA)
	o.ask("www.example.", dns.TypeA)
	text := o.types("status --json")
	var s control.Status
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	u := s.Upstreams[0]
	if s.Config.File != o.config || len(s.Upstreams) != 1 || u.State != "ready" || !u.InUse || u.Session == nil || u.Session.Version != "TLS 1.3" ||
		u.Session.Pin != control.PinMatched || u.Session.PinValue != up.Pin().String() || u.Session.DaysLeft <= 0 ||
		s.Cache.Hits != 1 || s.Cache.Misses != 1 || s.Cache.HitRatio != 0.5 || s.Clients.UDPQueries != 2 || s.Sandbox.Enforced == "" {
		t.Errorf("got %s", text)
	}
	if time.Since(s.Now) > time.Minute || len(s.History.Rate) != 1 || s.History.Rate[0] <= 0 {
		t.Errorf("now %v, history %+v", s.Now, s.History)
	}
	// Scripts rely on these.
	expectIn(t, text, `"uptime_seconds"`, `"hit_ratio"`, `"certificate_days_left"`, `"p95_seconds"`, `"failed_reloads"`)
}

func TestStatusIsWatched(t *testing.T) {
	o := operate(t, toUpstream("test", dottest.New(t)))
	watch := launch(t, program(t, "status", "--watch", "--socket="+o.control))
	watch.stdout.await(t, "0 over UDP")
	o.ask("www.example.", dns.TypeA)
	watch.stdout.await(t, "1 over UDP")
	watch.signal(syscall.SIGINT)
	if code := watch.wait(); code != 0 {
		t.Errorf("exit code %d after Ctrl-C", code)
	}
}

func TestStatusWithoutDaemon(t *testing.T) {
	for _, command := range [][]string{{"status"}, {"status", "--watch"}, {"status", "--json"}, {"flush"}} {
		code, out, errs := types(t, append(command, "--socket="+socketDir(t)+"/control")...)
		if code != 1 || out != "" || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: exit code %d: %s%s", command, code, out, errs)
		}
		expectIn(t, errs, "dnsproxy "+command[0]+": no daemon listens at ", "systemctl start")
	}
}

// Groups have the names that the configuration has for them, wherever they are told of.
func TestGroupsHaveTheConfigurationsNames(t *testing.T) {
	up := dottest.New(t)
	o := operate(t, "[tls]\ngroups = [\"P-384\"]\n"+toUpstream("test", up))
	o.ask("www.example.", dns.TypeA)
	expectIn(t, o.types("status"), ", P-384; pin ")
	expectIn(t, o.scrape(), `,group="P-384"} 1`)
	o.stderr.await(t, " group=P-384 ")
}

// That a session which nobody needed has ended is no trouble, and is not told as one.
func TestIdleUpstreamsHaveNoTrouble(t *testing.T) {
	up := dottest.New(t, dottest.WithIdleTimeout(50*time.Millisecond))
	o := operate(t, "log_level = \"debug\"\n"+toUpstream("test", up))
	o.ask("www.example.", dns.TypeA)
	o.stderr.await(t, "session closed")
	for _, page := range []string{o.types("status"), o.types("explain www.example")} {
		page = unfolded(page)
		expectIn(t, page, "idle")
		if strings.Contains(page, "because of") || strings.Contains(page, "session ended") {
			t.Errorf("told as a trouble:\n%s", page)
		}
	}
}
