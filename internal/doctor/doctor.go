// Package doctor finds what keeps a host from using dnsproxy: the checks of "dnsproxy doctor".
//
// It reads files below a root, and what its caller tells of the rest: addresses, units, clock, daemon. It
// changes nothing, sends nothing and runs nothing. A check says what is, and what to type where that is
// wrong; what it may not see it says, too. Examine may be called from many goroutines.
package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"dnsproxy/internal/control"
)

// Severity says how much a finding matters.
type Severity string

// The severities.
const (
	OK      Severity = "ok"
	Note    Severity = "note"    // nothing wrong, or nothing that could be seen
	Warning Severity = "warning" // lookups work, but not as they should, or not for long
	Problem Severity = "problem" // lookups fail, or pass dnsproxy by
)

// Finding is what one check found.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Finding  string   `json:"finding"` // one line: what is
	Fix      string   `json:"fix"`     // one line: what to do, or ""
}

// Host is the system that is looked at.
type Host struct {
	Root       string // "/", or a folder with a system's files
	Interfaces []Interface
	Units      Units
	Clock      Clock
}

// Interface is one of the host's network interfaces.
type Interface struct {
	Name      string
	Addresses []netip.Prefix // with the host's own bits
}

// Daemon is what is known of dnsproxy itself.
type Daemon struct {
	File     string           // the configuration's path
	Modified time.Time        // of File; zero if unknown
	Config   *Config          // nil if it cannot be loaded
	Fault    error            // why
	Listen   []netip.AddrPort // what it says of where to serve, or the default

	Socket string          // the control socket's path
	Status *control.Status // nil if no daemon answered
	Silent error           // why
	Reach  Reach

	// Lookup asks the nameserver for localhost, which dnsproxy answers by itself. Nil where nobody may be asked.
	Lookup func(server netip.AddrPort) error
}

// Reach says what stands between the caller and the control socket.
type Reach int

// The ways to be kept from the daemon.
const (
	Reachable Reach = iota
	Forbidden       // the caller may not use the socket
	Absent          // there is no socket
)

// Config is what the checks ask of a configuration.
type Config struct {
	Warnings  []string
	Allow     []netip.Prefix
	Upstreams []Upstream
	Sandbox   string // "required", "best-effort" or "off"
}

// Upstream is one address of an upstream.
type Upstream struct {
	Name string
	Addr netip.AddrPort
}

// Names of the checks, as the JSON has them.
const (
	checkConfiguration = "configuration"
	checkUnits         = "units"
	checkPort          = "port 53"
	checkResolv        = "resolv.conf"
	checkResolved      = "systemd-resolved"
	checkSwitch        = "nsswitch.conf"
	checkLookup        = "lookup"
	checkLoop          = "loop"
	checkContainers    = "containers"
	checkClock         = "clock"
	checkDaemon        = "daemon"
	checkSandbox       = "sandbox"
	checkUpstreams     = "upstreams"
	checkCertificates  = "certificates"
)

// Examine makes all checks.
func Examine(h Host, d Daemon) []Finding {
	x := &examination{Host: h, Daemon: d, files: tree(h.Root)}
	x.sockets, x.socketsErr = x.files.listeners()
	x.resolv = x.files.resolvConf()
	for _, check := range []func(){
		x.configuration, x.units, x.port, x.resolver, x.resolvedStub, x.nameSwitch, x.lookup,
		x.loop, x.containers, x.clock, x.daemon, x.sandbox, x.upstreams, x.certificates,
	} {
		check()
	}
	return x.found
}

// examination is a host, and what was found so far.
type examination struct {
	Host
	Daemon
	files tree

	sockets    []listener
	socketsErr error
	resolv     resolvConf

	found []Finding
}

func (x *examination) say(check string, s Severity, finding, fix string) {
	x.found = append(x.found, Finding{check, s, oneLine(finding), oneLine(fix)})
}

func (x *examination) ok(check, finding string) { x.say(check, OK, finding, "") }

// oneLine returns text without what would break a line or paint a terminal: it may come from files and
// from the network.
func oneLine(text string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || 0x7f <= r && r < 0xa0 {
			return ' '
		}
		return r
	}, text)), " ")
}

// served returns the addresses where dnsproxy is, or should be: as the daemon says, else its socket unit, else its
// configuration.
func (x *examination) served() (addrs []netip.AddrPort) {
	switch {
	case x.Status != nil:
		for _, s := range x.Status.Serving {
			if a, err := netip.ParseAddrPort(s); err == nil {
				addrs = append(addrs, a)
			}
		}
	case x.Units[socketUnit].loaded():
		addrs = slices.Clone(x.Units[socketUnit].Listen)
	default:
		addrs = slices.Clone(x.Listen)
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	return slices.Compact(addrs)
}

// isServed reports whether a query to port 53 of addr gets to where dnsproxy is, or should be.
func (x *examination) isServed(addr netip.Addr) bool {
	return slices.ContainsFunc(x.served(), func(a netip.AddrPort) bool {
		return a.Port() == domain && (a.Addr() == addr || covers(a.Addr(), addr) && x.isLocal(addr))
	})
}

// isLocal reports whether addr is one of the host's own.
func (x *examination) isLocal(addr netip.Addr) bool {
	if addr.IsLoopback() || addr.IsUnspecified() { // connect(2) takes the latter for the former
		return true
	}
	for _, i := range x.Interfaces {
		for _, p := range i.Addresses {
			if p.Addr() == addr.WithZone("") {
				return true
			}
		}
	}
	return false
}

// list returns names of things as a sentence has them.
func list[T any](all []T, text func(T) string) string {
	var b strings.Builder
	for i, v := range all {
		switch {
		case i > 0 && i == len(all)-1:
			b.WriteString(" and ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(text(v))
	}
	return b.String()
}
