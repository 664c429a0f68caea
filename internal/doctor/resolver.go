package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
)

// The addresses of systemd-resolved, as systemd-resolved.service(8) has them.
var (
	resolvedStub  = netip.AddrFrom4([4]byte{127, 0, 0, 53})
	resolvedProxy = netip.AddrFrom4([4]byte{127, 0, 0, 54})
)

func isResolved(a netip.Addr) bool { return a == resolvedStub || a == resolvedProxy }

// address returns where stub resolvers should ask.
func (x *examination) address() string {
	fallback := "127.0.0.1"
	for _, a := range x.served() {
		switch {
		case a.Port() != domain:
		case a.Addr().Is4() && a.Addr().IsLoopback():
			return a.Addr().String()
		case a.Addr().IsUnspecified():
		default:
			fallback = a.Addr().String()
		}
	}
	return fallback
}

// rewrite returns what has the file name dnsproxy.
func (x *examination) rewrite() string {
	fix := strings.ReplaceAll(x.resolv.writer.fix, "%s", x.address())
	if strings.HasSuffix(x.resolv.target, resolvedServers) {
		// It names the servers of all links, whether systemd-resolved would ask them or not.
		fix += `; "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf"`
	}
	return fix
}

// source returns the file, with who writes it.
func (r *resolvConf) source() string {
	s := resolvPath
	switch {
	case r.target != "" && r.writer.name != "":
		s += " (a link to " + r.target + ", which " + r.writer.name + " writes)"
	case r.target != "":
		s += " (a link to " + r.target + ")"
	case r.writer.name != "":
		s += " (which " + r.writer.name + " writes)"
	}
	return s
}

// resolver tells whom the host's stub resolvers ask.
func (x *examination) resolver() {
	r := &x.resolv
	switch {
	case errors.Is(r.err, fs.ErrNotExist):
		// Then 127.0.0.1 is asked, says resolv.conf(5).
		if x.isServed(netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
			x.say(checkResolv, Note, r.source()+" does not exist: programs that use glibc ask 127.0.0.1, which is dnsproxy; others may ask nobody", x.rewrite())
			return
		}
		x.say(checkResolv, Problem, r.source()+" does not exist, and 127.0.0.1, which is asked then, is not dnsproxy's", x.rewrite())
		return
	case r.err != nil:
		x.say(checkResolv, Note, fmt.Sprintf("%s is not seen: %v", resolvPath, r.err), "")
		return
	}
	for _, s := range r.strange {
		x.say(checkResolv, Warning, fmt.Sprintf("%s: nameserver %q is no IP address, and is passed over", resolvPath, s), x.rewrite())
	}
	if len(r.servers) == 0 {
		s := Problem
		if x.isServed(netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
			s = Note
		}
		x.say(checkResolv, s, r.source()+" names no nameserver: 127.0.0.1 is asked", x.rewrite())
		return
	}
	x.nameservers()
}

// nameservers tells of those that the file names.
func (x *examination) nameservers() {
	r := &x.resolv
	if slices.ContainsFunc(r.servers, isResolved) && !slices.ContainsFunc(r.servers, func(a netip.Addr) bool { return !isResolved(a) }) {
		x.say(checkResolv, Note, r.source()+" names systemd-resolved, which must ask dnsproxy in turn", "")
		return
	}
	ours := slices.DeleteFunc(slices.Clone(r.servers), func(a netip.Addr) bool { return !x.isServed(a) })
	others := slices.DeleteFunc(slices.Clone(r.servers), x.isServed)
	switch {
	case len(others) == 0:
		x.ok(checkResolv, fmt.Sprintf("%s names %s alone", r.source(), list(ours, netip.Addr.String)))
	case len(ours) == 0:
		x.say(checkResolv, Problem, fmt.Sprintf("%s names %s, not dnsproxy: lookups pass dnsproxy by", r.source(), list(others, netip.Addr.String)), x.rewrite())
	default:
		when := "whenever dnsproxy is slow or refuses"
		if r.rotate {
			when = `in turn, since it says "options rotate"`
		} else if !x.isServed(r.servers[0]) {
			when = "first"
		}
		x.say(checkResolv, Problem, fmt.Sprintf("%s names %s besides %s: lookups pass dnsproxy by %s", r.source(),
			list(others, netip.Addr.String), list(ours, netip.Addr.String), when), x.rewrite())
	}
}

// usesResolved reports whether lookups of the host go to systemd-resolved, by whatever way.
func (x *examination) usesResolved() bool {
	return len(x.resolv.servers) > 0 && slices.ContainsFunc(x.resolv.servers, isResolved) || x.switchResolves()
}

// lookup asks the first nameserver, if it is dnsproxy.
func (x *examination) lookup() {
	running := x.Status != nil || x.Units[serviceUnit].Active == "active"
	if x.Lookup == nil || !running || len(x.resolv.servers) == 0 || !x.isServed(x.resolv.servers[0]) {
		return // asking would start it, or reach somebody else
	}
	server := netip.AddrPortFrom(x.resolv.servers[0], domain)
	if err := x.Lookup(server); err != nil {
		x.say(checkLookup, Problem, fmt.Sprintf("%v does not answer: %v", server, err), `"journalctl -u dnsproxy -p warning" may tell why; "systemctl restart dnsproxy"`)
		return
	}
	x.ok(checkLookup, fmt.Sprintf("%v answers", server))
}
