package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const resolvedName = "systemd-resolved"

// resolvedServers is where systemd-resolved writes the servers that it knows, global ones and links', for programs
// that want to ask them without it.
const resolvedServers = "/run/systemd/resolve/resolv.conf"

// resolvedConf is what resolved.conf(5) and its drop-ins say, as far as it concerns us.
type resolvedConf struct {
	dns     []string // addresses, with what stands behind them
	domains []string
	tls     string
}

func (t tree) resolvedConf() (r resolvedConf) {
	for _, path := range t.dropIns("/etc/systemd/resolved.conf", "/usr/lib/systemd/resolved.conf.d", "/run/systemd/resolved.conf.d", "/etc/systemd/resolved.conf.d") {
		if text, err := t.read(path); err == nil {
			r.add(text)
		}
	}
	return r
}

// add reads one file. An empty list drops what came before, others join it.
func (r *resolvedConf) add(text string) {
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			inside = line == "[Resolve]"
		}
		key, value, ok := strings.Cut(line, "=")
		if !inside || !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		join := func(to *[]string) {
			if *to = append(*to, strings.Fields(value)...); strings.TrimSpace(value) == "" {
				*to = nil
			}
		}
		switch strings.TrimSpace(key) {
		case "DNS":
			join(&r.dns)
		case "Domains":
			join(&r.domains)
		case "DNSOverTLS":
			r.tls = strings.TrimSpace(value)
		}
	}
}

// parseServer reads an entry of DNS=: ADDRESS[:PORT][%interface][#server name], with brackets around an IPv6 address
// that has a port.
func parseServer(s string) (netip.AddrPort, bool) {
	s, _, _ = strings.Cut(s, "#")
	s, _, _ = strings.Cut(s, "%")
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, domain), true
	}
	a, err := netip.ParseAddrPort(s)
	return a, err == nil
}

func (x *examination) resolvedRuns() bool {
	return x.Units["systemd-resolved.service"].Active == "active" || len(x.Units) == 0 && x.files.exists(resolvedServers)
}

// resolvedGlobal returns the servers that are no link's: those that are dnsproxy, and those that are not. They are those
// of DNS=, else those of an /etc/resolv.conf that is another's (systemd-resolved.service(8), "/etc/resolv.conf").
func (x *examination) resolvedGlobal() (ours, others []string) {
	global := x.files.resolvedConf().dns
	if len(global) == 0 && x.resolv.writer.name != resolvedName {
		for _, a := range x.resolv.servers {
			if !isResolved(a) {
				global = append(global, a.String())
			}
		}
	}
	for _, s := range global {
		a, ok := parseServer(s)
		if ok && (slices.Contains(x.served(), a) || a.Port() == domain && x.isServed(a.Addr())) {
			ours = append(ours, s)
		} else {
			others = append(others, s)
		}
	}
	return ours, others
}

func (x *examination) resolvedFix() string {
	for _, w := range writers() {
		if w.name == resolvedName {
			return strings.ReplaceAll(w.fix, "%s", x.address())
		}
	}
	return ""
}

// resolvedState tells whom systemd-resolved asks.
func (x *examination) resolvedState() (s Severity, finding, fix string) {
	conf := x.files.resolvedConf()
	ours, others := x.resolvedGlobal()
	text, _ := x.files.read(resolvedServers)
	known := parseResolv(text).servers
	known = slices.DeleteFunc(known, func(a netip.Addr) bool { return x.isServed(a) })
	itself := func(s string) string { return s }
	switch {
	case len(ours) == 0 && len(others)+len(known) == 0:
		return Problem, "systemd-resolved is not told to ask dnsproxy", x.resolvedFix()
	case len(ours) == 0 && len(others) > 0:
		return Problem, fmt.Sprintf("systemd-resolved asks %s, not dnsproxy", list(others, itself)), x.resolvedFix()
	case len(ours) == 0:
		return Problem, fmt.Sprintf("systemd-resolved asks %s, not dnsproxy", list(known, netip.Addr.String)), x.resolvedFix()
	case slices.Contains([]string{"1", "yes", "y", "true", "t", "on"}, strings.ToLower(conf.tls)): // as systemd.syntax(7) has it
		return Problem, "systemd-resolved wants DNS over TLS from dnsproxy, which speaks it to its upstreams only", `DNSOverTLS=no in /etc/systemd/resolved.conf.d/dnsproxy.conf; then "systemctl restart systemd-resolved"`
	case len(others) > 0:
		return Problem, fmt.Sprintf("systemd-resolved asks %s besides dnsproxy", list(others, itself)), `drop them from DNS= in /etc/systemd/resolved.conf and resolved.conf.d; then "systemctl restart systemd-resolved"`
	case slices.Contains(conf.domains, "~."):
		return OK, "systemd-resolved asks dnsproxy alone, but for links that have Domains=~. (resolvectl tells)", ""
	case len(known) > 0:
		return Problem, fmt.Sprintf("systemd-resolved asks dnsproxy, and %s of its links as well", list(known, netip.Addr.String)), x.resolvedFix()
	default:
		return Warning, "systemd-resolved asks dnsproxy alone until a link brings servers of its own", x.resolvedFix()
	}
}

// resolvedStub tells of systemd-resolved where the host's lookups go through it.
func (x *examination) resolvedStub() {
	switch named := slices.ContainsFunc(x.resolv.servers, isResolved); {
	case named && !x.resolvedRuns():
		x.say(checkResolved, Problem, resolvPath+" names systemd-resolved, which does not run", `"systemctl enable --now systemd-resolved", or "rm /etc/resolv.conf" and write "nameserver `+x.address()+`" there`)
	case x.usesResolved():
		s, finding, fix := x.resolvedState()
		x.say(checkResolved, s, finding, fix)
	}
}
