package doctor_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"dnsproxy/internal/control"
	"dnsproxy/internal/doctor"
)

// rival has another program hold a socket, and the socket unit fail for it.
func rival(s *system) {
	s.freed()
	s.listen("udp", row4, 11).listen("tcp", row4, 12)
	s.files["/proc/88/comm"], s.files["/proc/88/fd/4"], s.files["/proc/88/fd/5"] = "dnsmasq\n", "-> socket:[11]", "-> socket:[12]"
	s.host.Units["dnsproxy.socket"] = doctor.Unit{Load: "loaded", Active: "failed", File: "enabled", Result: "resources", Listen: addrPorts("127.0.0.1:53")}
	s.host.Units["dnsproxy.service"] = doctor.Unit{Load: "loaded", Active: "inactive"}
	s.silent(doctor.Absent)
}

func TestPort53(t *testing.T) {
	runAll(t, []spoilt{
		{name: "a rival", spoil: rival, check: "port 53", severity: doctor.Problem, finding: "127.0.0.1, UDP and TCP, held by dnsmasq (process 88), where dnsproxy should be",
			fix: "systemctl edit dnsproxy.socket", besides: []string{"units"}},
		{name: "a rival on all addresses", spoil: func(s *system) {
			rival(s)
			s.freed()
			s.listen("udp6", rowA6, 11).listen("tcp6", rowA6, 12)
		}, check: "port 53", severity: doctor.Problem, finding: "::, UDP and TCP, held by dnsmasq", besides: []string{"units"}},
		{name: "a rival that is not seen", spoil: func(s *system) {
			rival(s)
			delete(s.files, "/proc/88/fd/4")
			delete(s.files, "/proc/88/fd/5")
		}, check: "port 53", severity: doctor.Problem, finding: "a process of user 0 that this user may not see", fix: "as root", besides: []string{"units"}},
		{name: "a neighbour", spoil: func(s *system) {
			s.listen("udp", rowX, 11).listen("tcp", rowX, 12)
			s.files["/proc/88/comm"], s.files["/proc/88/fd/4"], s.files["/proc/88/fd/5"] = "systemd-resolve\n", "-> socket:[11]", "-> socket:[12]"
		}, check: "port 53", severity: doctor.Note, finding: "127.0.0.53, UDP and TCP, held by systemd-resolve (process 88)"},
		{name: "nobody", spoil: (*system).freed, check: "port 53", severity: doctor.Problem,
			finding: "does not listen on 127.0.0.1:53 over UDP, 127.0.0.1:53 over TCP, [::1]:53 over UDP, [::1]:53 over TCP", fix: "systemctl restart dnsproxy.socket"},
		{name: "UDP alone", spoil: func(s *system) { s.files["/proc/net/tcp"] = "" }, check: "port 53", severity: doctor.Problem, finding: "does not listen on 127.0.0.1:53 over TCP"},
		{name: "a kernel without IPv6", spoil: func(s *system) {
			delete(s.files, "/proc/net/udp6")
			delete(s.files, "/proc/net/tcp6")
		}, check: "port 53", severity: doctor.Note, finding: "the kernel has no IPv6"},
		{name: "without root", spoil: func(s *system) {
			for _, fd := range []string{"1/fd/5", "1/fd/6", "1/fd/7", "1/fd/8", "77/fd/3"} {
				delete(s.files, "/proc/"+fd)
			}
		}, check: "port 53", severity: doctor.OK, finding: "held by dnsproxy.socket, as far as this user may see"},
		{name: "without systemd", spoil: func(s *system) {
			s.host.Units = nil
			for _, fd := range []string{"5", "6", "7", "8"} {
				delete(s.files, "/proc/1/fd/"+fd)
				s.files["/proc/77/fd/"+fd] = "-> socket:[" + string(fd[0]-4) + "]"
			}
		}, check: "port 53", severity: doctor.OK, finding: "held by dnsproxy itself"},
		{name: "another port", spoil: func(s *system) {
			s.freed()
			s.daemon.Status.Serving = []string{"127.0.0.1:5353"}
			s.files["/proc/net/udp"] = "  1: 0100007F:14E9 00000000:0000 07 0:0 0:0 0 0 0 1\n"
			s.files["/proc/net/tcp"] = "  1: 0100007F:14E9 00000000:0000 0A 0:0 0:0 0 0 0 1\n"
		}, check: "resolv.conf", severity: doctor.Problem, finding: "names 127.0.0.1, not dnsproxy"},
		{name: "no /proc", spoil: func(s *system) {
			for _, f := range []string{"udp", "udp6", "tcp", "tcp6"} {
				delete(s.files, "/proc/net/"+f)
			}
		}, check: "port 53", severity: doctor.Note, finding: "not all is seen"},
	})
}

func TestUnits(t *testing.T) {
	unit := func(name string, change func(*doctor.Unit)) func(*system) {
		return func(s *system) {
			u := s.host.Units[name]
			change(&u)
			s.host.Units[name] = u
		}
	}
	runAll(t, []spoilt{
		{name: "not enabled", spoil: unit("dnsproxy.socket", func(u *doctor.Unit) { u.File = "disabled" }), check: "units", severity: doctor.Warning, finding: "not enabled", fix: "systemctl enable dnsproxy.socket"},
		{name: "the service is enabled", spoil: func(s *system) {
			unit("dnsproxy.socket", func(u *doctor.Unit) { u.File = "disabled" })(s)
			unit("dnsproxy.service", func(u *doctor.Unit) { u.File = "enabled" })(s)
		}, check: "units", severity: doctor.OK},
		{name: "neither enabled nor started", spoil: unit("dnsproxy.socket", func(u *doctor.Unit) { u.Active, u.File = "inactive", "disabled" }), check: "units", severity: doctor.Problem, fix: "systemctl enable --now dnsproxy.socket"},
		{name: "stopped", spoil: unit("dnsproxy.socket", func(u *doctor.Unit) { u.Active = "inactive" }), check: "units", severity: doctor.Problem, fix: "systemctl start dnsproxy.socket"},
		{name: "restarting", spoil: func(s *system) {
			unit("dnsproxy.service", func(u *doctor.Unit) { u.Active, u.Sub, u.Result = "activating", "auto-restart", "exit-code" })(s)
		}, check: "units", severity: doctor.Problem, finding: "does not stay up (activating, auto-restart, exit-code)", fix: "journalctl -u dnsproxy"},
		{name: "waiting", spoil: func(s *system) {
			unit("dnsproxy.service", func(u *doctor.Unit) { u.Active = "inactive" })(s)
			s.silent(doctor.Reachable)
		}, check: "units", severity: doctor.Note, finding: "the first query starts it"},
		{name: "changed", spoil: unit("dnsproxy.service", func(u *doctor.Unit) { u.Stale = true }), check: "units", severity: doctor.Warning, fix: "systemctl daemon-reload"},
		{name: "no package", spoil: func(s *system) {
			unit("dnsproxy.socket", func(u *doctor.Unit) { u.Load = "not-found" })(s)
			s.silent(doctor.Absent)
			s.host.Units["dnsproxy.service"] = doctor.Unit{Load: "not-found", Active: "inactive"}
		}, check: "units", severity: doctor.Problem, finding: "dnsproxy.socket is not-found", fix: "install the package"},
		{name: "no systemd", spoil: func(s *system) { s.host.Units = nil }, check: "units", severity: doctor.Note, finding: "systemd does not run here"},
	})
}

func TestLoop(t *testing.T) {
	to := func(addr string) func(*system) {
		return func(s *system) {
			s.daemon.Config.Upstreams = []doctor.Upstream{{Name: "near", Addr: netip.MustParseAddrPort(addr)}}
		}
	}
	runAll(t, []spoilt{
		{name: "itself", spoil: func(s *system) {
			to("127.0.0.1:853")(s)
			s.daemon.Status.Serving = append(s.daemon.Status.Serving, "127.0.0.1:853")
			s.files["/proc/net/udp"] += "  1: 0100007F:0355 00000000:0000 07 0:0 0:0 0 0 0 9\n"
			s.files["/proc/net/tcp"] += "  1: 0100007F:0355 00000000:0000 0A 0:0 0:0 0 0 0 9\n"
		}, check: "loop", severity: doctor.Problem, finding: `upstream "near" (127.0.0.1:853) is dnsproxy itself`},
		{name: "a neighbour", spoil: func(s *system) {
			to("192.0.2.10:853")(s)
			s.files["/proc/net/tcp"] += "  1: 00000000:0355 00000000:0000 0A 0:0 0:0 0 0 0 9\n"
		}, check: "loop", severity: doctor.Note, finding: "a program of this host"},
		{name: "nobody", spoil: to("127.0.0.1:853"), check: "loop", severity: doctor.Warning, finding: "nothing listens on port 853"},
		{name: "through systemd-resolved", spoil: func(s *system) {
			resolved("nameserver 127.0.0.1\n", "[Resolve]\nDNS=127.0.0.1\nDomains=~.\n")(s)
			to("127.0.0.53:853")(s)
		}, check: "loop", severity: doctor.Problem, finding: "dnsproxy asks systemd-resolved"},
	})
}

func TestContainers(t *testing.T) {
	docker := func(s *system) {
		s.files["/run/docker.sock"], s.files["/var/run"] = "", "-> /run"
		s.host.Interfaces = append(s.host.Interfaces, doctor.Interface{Name: "docker0", Addresses: []netip.Prefix{netip.MustParsePrefix("172.18.0.1/16")}})
	}
	served := func(s *system) {
		docker(s)
		s.files["/etc/docker/daemon.json"] = `{"dns": ["172.18.0.1"]}`
		s.daemon.Status.Serving = append(s.daemon.Status.Serving, "172.18.0.1:53")
		s.files["/proc/net/udp"] += "  1: 010012AC:0035 00000000:0000 07 0:0 0:0 0 0 0 9\n"
		s.files["/proc/net/tcp"] += "  1: 010012AC:0035 00000000:0000 0A 0:0 0:0 0 0 0 10\n"
		s.files["/proc/1/fd/9"], s.files["/proc/1/fd/10"] = "-> socket:[9]", "-> socket:[10]"
	}
	runAll(t, []spoilt{
		{name: "Docker, as it is", spoil: docker, check: "containers", severity: doctor.Warning, finding: "get 8.8.8.8 and 8.8.4.4 as nameserver, since /etc/resolv.conf names loopback alone",
			fix: `ListenDatagram=172.18.0.1:53 and ListenStream=172.18.0.1:53 (systemctl edit dnsproxy.socket); "dns": ["172.18.0.1"] in /etc/docker/daemon.json`},
		{name: "Docker, told so", spoil: served, check: "containers", severity: doctor.OK, finding: "containers of Docker ask dnsproxy (172.18.0.1)"},
		{name: "Docker, told so, and refused", spoil: func(s *system) { served(s); s.daemon.Config.Allow = s.daemon.Config.Allow[:1] }, check: "containers", severity: doctor.Warning,
			finding: "which refuses them", fix: `"172.18.0.0/16" in allow`},
		{name: "Docker, told of another", spoil: func(s *system) { docker(s); s.files["/etc/docker/daemon.json"] = `{"dns": ["9.9.9.9"]}` }, check: "containers", severity: doctor.Warning,
			finding: "get 9.9.9.9 as nameserver, as /etc/docker/daemon.json says"},
		{name: "Docker, told of loopback", spoil: func(s *system) { docker(s); s.files["/etc/docker/daemon.json"] = `{"dns": ["127.0.0.1"]}` }, check: "containers", severity: doctor.Warning, finding: "get 127.0.0.1"},
		{name: "Docker's file is none", spoil: func(s *system) { docker(s); s.files["/etc/docker/daemon.json"] = `{"dns": ` }, check: "containers", severity: doctor.Warning, finding: "reading /etc/docker/daemon.json"},
		{name: "Docker beside systemd-resolved", spoil: func(s *system) {
			docker(s)
			resolved("nameserver 127.0.0.1\nnameserver 192.168.1.1\n", "[Resolve]\nDNS=127.0.0.1\nDomains=~.\n")(s)
		}, check: "containers", severity: doctor.Warning, finding: "get 192.168.1.1 as nameserver, as /run/systemd/resolve/resolv.conf says"},
		{name: "Podman, told of another", spoil: func(s *system) {
			s.files["/usr/bin/podman"], s.files["/usr/share/containers/containers.conf"] = "", "[containers]\ndns_servers = [\"9.9.9.9\"]\n"
			s.files["/etc/containers/containers.conf.d/dns.conf"] = "[containers]\ndns_servers = [\"192.0.2.1\"]\n"
		}, check: "containers", severity: doctor.Warning, finding: "get 192.0.2.1 as nameserver"},
		{name: "Podman", spoil: file("/usr/bin/podman", ""), check: "containers", severity: doctor.Warning, finding: "containers of Podman get 8.8.8.8", fix: `dns_servers = ["10.88.0.1"] under [containers] in /etc/containers/containers.conf`},
	})
}

func TestClock(t *testing.T) {
	runAll(t, []spoilt{
		{name: "nobody keeps it", spoil: func(s *system) { s.host.Clock.Synchronised = false }, check: "clock", severity: doctor.Warning, finding: "not synchronised", fix: "timedatectl set-ntp true"},
		{name: "it has forgotten", spoil: func(s *system) { s.host.Clock = doctor.Clock{Now: time.Unix(0, 0).UTC()} }, check: "clock", severity: doctor.Problem, finding: "the clock says 1970-01-01", fix: "timedatectl set-ntp true"},
		{name: "not seen", spoil: func(s *system) { s.host.Clock.Err = errors.New("operation not permitted") }, check: "clock", severity: doctor.Note, finding: "operation not permitted"},
	})
}

func TestDaemon(t *testing.T) {
	status := func(change func(*control.Status)) func(*system) {
		return func(s *system) { change(s.daemon.Status) }
	}
	runAll(t, []spoilt{
		{name: "no configuration", spoil: func(s *system) {
			s.daemon.Config, s.daemon.Fault = nil, &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}
		}, check: "configuration", severity: doctor.Problem, fix: "cp /usr/share/doc/dnsproxy/examples/dnsproxy.toml /etc/dnsproxy/dnsproxy.toml"},
		{name: "a wrong configuration", spoil: func(s *system) { s.daemon.Config, s.daemon.Fault = nil, errors.New("x.toml:1: one\nx.toml:2: two") }, check: "configuration", severity: doctor.Problem, finding: "x.toml:2: two", fix: "dnsproxy check"},
		{name: "one that may not be read", spoil: func(s *system) { s.daemon.Config, s.daemon.Fault = nil, fs.ErrPermission }, check: "configuration", severity: doctor.Note, fix: "as root"},
		{name: "one that was changed", spoil: func(s *system) { s.daemon.Modified = s.daemon.Status.Now }, check: "configuration", severity: doctor.Warning, finding: "was changed on 2026-11-23 12:00:00", fix: "systemctl reload dnsproxy"},
		{name: "one that warns", spoil: func(s *system) { s.daemon.Config.Warnings = []string{"odd"} }, check: "configuration", severity: doctor.Warning, finding: "odd"},
		{name: "another one", spoil: func(s *system) { s.daemon.File = "/tmp/x.toml" }, check: "configuration", severity: doctor.Note, finding: "the daemon runs with /etc/dnsproxy/dnsproxy.toml"},
		{name: "a failed reload", spoil: status(func(s *control.Status) { s.Config.LastError = "x.toml:1: timeout: no" }), check: "configuration", severity: doctor.Problem, finding: "x.toml:1: timeout: no", fix: "systemctl reload dnsproxy"},
		{name: "no daemon", spoil: func(s *system) { s.silent(doctor.Reachable) }, check: "daemon", severity: doctor.Problem, finding: "no daemon listens", fix: "systemctl start dnsproxy"},
		{name: "no daemon yet", spoil: func(s *system) {
			s.silent(doctor.Absent)
			s.host.Units["dnsproxy.service"] = doctor.Unit{Load: "loaded", Active: "inactive"}
		}, check: "daemon", severity: doctor.Note, fix: "systemctl start dnsproxy"},
		{name: "no control socket", spoil: func(s *system) { s.silent(doctor.Absent) }, check: "daemon", severity: doctor.Warning, fix: "systemctl enable --now dnsproxy-control.socket"},
		{name: "no right to ask", spoil: func(s *system) { s.silent(doctor.Forbidden) }, check: "daemon", severity: doctor.Note, finding: "/run/dnsproxy/control", fix: "as root"},
		{name: "no sandbox", spoil: status(func(s *control.Status) { s.Sandbox = control.Sandbox{Mode: "off"} }), check: "sandbox", severity: doctor.Warning, fix: `sandbox = "best-effort"`},
		{name: "half a sandbox", spoil: status(func(s *control.Status) {
			s.Sandbox = control.Sandbox{Mode: "best-effort", Missing: []string{"landlock tcp connect: the kernel offers ABI 3"}}
		}), check: "sandbox", severity: doctor.Warning, finding: "landlock tcp connect", fix: "kernel"},
		{name: "one broken upstream of two", spoil: status(func(s *control.Status) {
			s.Upstreams = append(s.Upstreams, control.Address{Upstream: "two", Address: "192.0.2.54:853", State: "backing off", Error: "connection refused"})
		}), check: "upstreams", severity: doctor.Warning, finding: "two (192.0.2.54:853) is backing off: connection refused", fix: "dnsproxy probe 192.0.2.54:853"},
		{name: "all are broken", spoil: status(func(s *control.Status) { s.Upstreams[0].Session, s.Upstreams[0].Error = nil, "x" }), check: "upstreams", severity: doctor.Problem, finding: "none can be used"},
		{name: "pins that are only reported", spoil: status(func(s *control.Status) { s.Upstreams[0].Session.Pin = control.PinMismatch }), check: "upstreams", severity: doctor.Warning, finding: "none of the pins", fix: "dnsproxy probe"},
		{name: "a certificate that ends", spoil: status(func(s *control.Status) { s.Upstreams[0].Session.NotAfter = s.Now.Add(13 * 24 * time.Hour) }), check: "certificates", severity: doctor.Warning, finding: "ends in 13.0 days"},
		{name: "a certificate that ended", spoil: status(func(s *control.Status) { s.Upstreams[0].Session.NotAfter = s.Now.Add(-time.Hour) }), check: "certificates", severity: doctor.Warning, finding: "ended on 2026-11-23"},
	})
}

// What is not there is said, and no more.
func TestEmptySystem(t *testing.T) {
	for _, root := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		for _, f := range doctor.Examine(doctor.Host{Root: root}, doctor.Daemon{}) {
			if f.Finding == "" || f.Severity == doctor.Problem && f.Check != "resolv.conf" {
				t.Errorf("%+v", f)
			}
		}
	}
}

// A pipe in the place of a file would have the doctor wait for ever.
func TestPipesAreNotRead(t *testing.T) {
	s := well()
	s.host.Root = t.TempDir()
	path := filepath.Join(s.host.Root, "etc/resolv.conf")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, f := range doctor.Examine(s.host, s.daemon) {
		if f.Check == "resolv.conf" && (f.Severity != doctor.Note || f.Finding != `/etc/resolv.conf is not seen: opening "/etc/resolv.conf": not a regular file`) {
			t.Errorf("%+v", f)
		}
	}
}

// The links of another root stay in it.
func TestLinksStayInTheRoot(t *testing.T) {
	s := well()
	s.files["/etc/resolv.conf"] = "-> /srv/conf/resolv.conf"
	s.files["/srv/conf"] = "-> ../../../var/conf"
	s.files["/var/conf/resolv.conf"] = "nameserver 127.0.0.1\n"
	for _, f := range s.examine(t) {
		if f.Check == "resolv.conf" && (f.Severity != doctor.OK || f.Finding != "/etc/resolv.conf (a link to /srv/conf/resolv.conf) names 127.0.0.1 alone") {
			t.Errorf("%+v", f)
		}
	}
}
