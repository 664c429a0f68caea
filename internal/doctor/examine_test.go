package doctor_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dnsproxy/internal/control"
	"dnsproxy/internal/doctor"
)

// Rows of /proc/net, of addresses on port 53.
const (
	row4  = "  1: 0100007F:0035 00000000:0000 %s 0:0 0:0 0 0 0 %d\n"
	rowX  = "  1: 3500007F:0035 00000000:0000 %s 0:0 0:0 0 101 0 %d\n"
	rowA4 = "  1: 00000000:0035 00000000:0000 %s 0:0 0:0 0 0 0 %d\n"
	row6  = "  1: 00000000000000000000000001000000:0035 0:0 %s 0:0 0:0 0 0 0 %d\n"
	rowA6 = "  1: 00000000000000000000000000000000:0035 0:0 %s 0:0 0:0 0 0 0 %d\n"
)

// system is a host on which all is well, for tests to spoil. A file whose text begins with "-> " is a link.
type system struct {
	files  map[string]string
	host   doctor.Host
	daemon doctor.Daemon
}

func addrPorts(all ...string) (list []netip.AddrPort) {
	for _, s := range all {
		list = append(list, netip.MustParseAddrPort(s))
	}
	return list
}

func well() *system {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	ours := addrPorts("127.0.0.1:53", "[::1]:53")
	s := &system{
		files: map[string]string{
			"/etc/resolv.conf":   "nameserver 127.0.0.1\n",
			"/etc/nsswitch.conf": "hosts: files dns\n",
			"/proc/1/comm":       "systemd\n", "/proc/1/fd/5": "-> socket:[1]", "/proc/1/fd/6": "-> socket:[2]", "/proc/1/fd/7": "-> socket:[3]", "/proc/1/fd/8": "-> socket:[4]",
			"/proc/77/comm": "dnsproxy\n", "/proc/77/fd/3": "-> socket:[1]",
		},
		host: doctor.Host{
			Units: doctor.Units{
				"dnsproxy.socket":  {Load: "loaded", Active: "active", Sub: "running", File: "enabled", Listen: ours},
				"dnsproxy.service": {Load: "loaded", Active: "active", Sub: "running", File: "disabled"},
			},
			Interfaces: []doctor.Interface{{Name: "lo", Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
				{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}}},
			Clock: doctor.Clock{Now: now, Synchronised: true},
		},
		daemon: doctor.Daemon{
			File: "/etc/dnsproxy/dnsproxy.toml", Modified: now.Add(-2 * time.Hour), Socket: "/run/dnsproxy/control",
			Listen: ours,
			Config: &doctor.Config{Sandbox: "best-effort",
				Allow:     []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12")},
				Upstreams: []doctor.Upstream{{Name: "one", Addr: netip.MustParseAddrPort("192.0.2.53:853")}}},
			Status: &control.Status{
				Version: "1", Now: now, Serving: []string{"127.0.0.1:53", "[::1]:53"},
				Config:  control.Config{File: "/etc/dnsproxy/dnsproxy.toml", Loaded: now.Add(-time.Hour)},
				Sandbox: control.Sandbox{Mode: "best-effort", Complete: true, Enforced: "landlock abi 6"},
				Upstreams: []control.Address{{Upstream: "one", Address: "192.0.2.53:853", State: "ready", InUse: true,
					Session: &control.Session{NotAfter: now.Add(60 * 24 * time.Hour), Pin: control.PinMatched}}},
			},
			Lookup: func(netip.AddrPort) error { return nil },
		},
	}
	s.listen("udp", row4, 1).listen("tcp", row4, 2).listen("udp6", row6, 3).listen("tcp6", row6, 4)
	return s
}

func (s *system) listen(file, row string, inode int) *system {
	state := "07"
	if strings.HasPrefix(file, "tcp") {
		state = "0A"
	}
	s.files["/proc/net/"+file] += fmt.Sprintf(row, state, inode)
	return s
}

// silent has no daemon answer.
func (s *system) silent(reach doctor.Reach) {
	s.daemon.Status, s.daemon.Reach, s.daemon.Silent = nil, reach, errors.New(`no daemon listens at /run/dnsproxy/control; run "systemctl start dnsproxy"`)
}

// freed has nobody listen.
func (s *system) freed() {
	for _, f := range []string{"udp", "udp6", "tcp", "tcp6"} {
		s.files["/proc/net/"+f] = ""
	}
}

func (s *system) examine(t *testing.T) []doctor.Finding {
	t.Helper()
	s.host.Root = t.TempDir()
	for name, text := range s.files {
		path := filepath.Join(s.host.Root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return doctor.Examine(s.host, s.daemon)
}

func TestAllIsWell(t *testing.T) {
	got := well().examine(t)
	seen := map[string]bool{}
	for _, f := range got {
		seen[f.Check] = true
		if f.Severity != doctor.OK || f.Fix != "" {
			t.Errorf("%+v", f)
		}
	}
	for _, want := range []string{"configuration", "units", "port 53", "resolv.conf", "nsswitch.conf", "lookup", "loop", "containers", "clock", "daemon", "sandbox", "upstreams", "certificates"} {
		if !seen[want] {
			t.Errorf("nothing is said of %s", want)
		}
	}
	want := doctor.Finding{Check: "port 53", Severity: doctor.OK, Finding: "127.0.0.1 and ::1, UDP and TCP, held by systemd for dnsproxy.socket"}
	if !slices.Contains(got, want) {
		t.Errorf("%+v is not in %+v", want, got)
	}
}

// spoilt is one thing that is wrong, and what must be said of it.
type spoilt struct {
	name          string
	spoil         func(s *system)
	check         string
	severity      doctor.Severity
	finding, fix  string
	besides       []string // checks that may find something, too
	neverMentions string
}

func (tt *spoilt) run(t *testing.T) {
	s := well()
	tt.spoil(s)
	all := s.examine(t)
	found := false
	for _, f := range all {
		if f.Check == tt.check && f.Severity == tt.severity && strings.Contains(f.Finding, tt.finding) && strings.Contains(f.Fix, tt.fix) {
			found = true
		}
		if strings.ContainsAny(f.Finding+f.Fix, "\n\r\x1b") {
			t.Errorf("more than a line: %+v", f)
		}
		if f.Severity == doctor.Problem && f.Fix == "" {
			t.Errorf("no fix: %+v", f)
		}
		if (f.Severity == doctor.Problem || f.Severity == doctor.Warning) && f.Check != tt.check && !slices.Contains(tt.besides, f.Check) {
			t.Errorf("besides: %+v", f)
		}
		if tt.neverMentions != "" && strings.Contains(f.Finding, tt.neverMentions) {
			t.Errorf("mentions %q: %+v", tt.neverMentions, f)
		}
	}
	if !found {
		t.Errorf("want %s %s: %q, fix %q; got", tt.severity, tt.check, tt.finding, tt.fix)
		for _, f := range all {
			t.Errorf("  %s %s: %s; fix: %s", f.Severity, f.Check, f.Finding, f.Fix)
		}
	}
}

func runAll(t *testing.T, all []spoilt) {
	for _, tt := range all {
		t.Run(tt.name, tt.run)
	}
}
