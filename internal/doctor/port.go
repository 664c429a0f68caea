package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// claim is who holds port 53 of an address.
type claim struct {
	addr       netip.AddrPort
	holder     string
	ours       bool
	transports []string
}

// port tells who listens on port 53.
func (x *examination) port() {
	if x.socketsErr != nil {
		x.say(checkPort, Note, fmt.Sprintf("not all is seen: %v", x.socketsErr), "")
		if len(x.sockets) == 0 {
			return
		}
	}
	claims := x.claims()
	if len(claims) == 0 {
		x.say(checkPort, Note, "nobody listens there", "")
	}
	rivals := x.listening(claims)
	x.missing(rivals)
}

// rank is what claims are sorted by: dnsproxy's stand first, and those of one holder together.
func (c *claim) rank() string {
	return fmt.Sprint(c.ours, c.holder, len(c.transports))
}

// claims returns who holds which address, in order, UDP and TCP together.
func (x *examination) claims() (all []claim) {
	for _, l := range x.sockets {
		if l.addr.Port() != domain {
			continue
		}
		holder, ours := x.holder(&l)
		i := slices.IndexFunc(all, func(c claim) bool { return c.addr == l.addr && c.holder == holder && c.ours == ours })
		if i < 0 {
			i = len(all)
			all = append(all, claim{addr: l.addr, holder: holder, ours: ours})
		}
		if !slices.Contains(all[i].transports, l.transport) {
			all[i].transports = append(all[i].transports, l.transport)
		}
	}
	slices.SortStableFunc(all, func(a, b claim) int {
		return cmp.Or(strings.Compare(b.rank(), a.rank()), a.addr.Compare(b.addr))
	})
	return all
}

// holder names who holds a socket, and whether that is dnsproxy, or systemd for it.
func (x *examination) holder(l *listener) (name string, ours bool) {
	due := slices.Contains(x.served(), l.addr)
	byName := func(name string) bool {
		return slices.ContainsFunc(l.holders, func(p process) bool { return p.name == name })
	}
	manager := slices.ContainsFunc(l.holders, func(p process) bool { return p.pid == 1 })
	switch {
	case manager && (due || byName("dnsproxy")):
		return "systemd for " + socketUnit, true
	case byName("dnsproxy"):
		return "dnsproxy itself", true
	case len(l.holders) > 0:
		return list(l.holders, func(p process) string { return fmt.Sprintf("%s (process %d)", p.name, p.pid) }), false
	case due && (x.Status != nil || x.Units[socketUnit].Active == "active"):
		return socketUnit + ", as far as this user may see", true
	default:
		return fmt.Sprintf("a process of user %d that this user may not see", l.uid), false
	}
}

// listening tells of all that listen, and reports whether any of them is in the way.
func (x *examination) listening(claims []claim) (rivals bool) {
	for i := 0; i < len(claims); {
		c, same := claims[i], []claim{}
		for ; i < len(claims) && claims[i].holder == c.holder && slices.Equal(claims[i].transports, c.transports); i++ {
			same = append(same, claims[i])
		}
		finding := fmt.Sprintf("%s, %s, held by %s", list(same, func(c claim) string { return c.addr.Addr().String() }), strings.Join(c.transports, " and "), c.holder)
		switch {
		case c.ours:
			x.ok(checkPort, finding)
		case slices.ContainsFunc(same, x.inTheWay):
			rivals = true
			fix := `stop it, or give dnsproxy another address with "systemctl edit dnsproxy.socket" (see dnsproxy(8))`
			if strings.Contains(c.holder, "may not see") {
				fix = `run "dnsproxy doctor" as root to see it; ` + fix
			}
			x.say(checkPort, Problem, finding+", where dnsproxy should be", fix)
		default:
			x.say(checkPort, Note, finding, "")
		}
	}
	return rivals
}

// inTheWay reports whether c keeps dnsproxy from an address that it should serve.
func (x *examination) inTheWay(c claim) bool {
	return slices.ContainsFunc(x.served(), func(a netip.AddrPort) bool {
		return a.Port() == domain && (covers(c.addr.Addr(), a.Addr()) || covers(a.Addr(), c.addr.Addr()) && a.Addr().Is4() == c.addr.Addr().Is4()) && !x.bound(a)
	})
}

// bound reports whether dnsproxy has both sockets of a.
func (x *examination) bound(a netip.AddrPort) bool {
	return x.has(a, "UDP") && x.has(a, "TCP")
}

func (x *examination) has(a netip.AddrPort, transport string) bool {
	return slices.ContainsFunc(x.sockets, func(l listener) bool {
		if l.addr != a || l.transport != transport {
			return false
		}
		if a.Port() != domain { // whose holders were not looked for
			return true
		}
		_, ours := x.holder(&l)
		return ours
	})
}

// missing tells of what dnsproxy should listen on, and does not.
func (x *examination) missing(rivals bool) {
	if len(x.served()) == 0 {
		x.say(checkPort, Note, "it is not known where dnsproxy should listen", "")
	}
	var gone []string
	onlyV6 := true
	for _, a := range x.served() {
		for _, transport := range []string{"UDP", "TCP"} {
			if !x.has(a, transport) {
				gone = append(gone, fmt.Sprintf("%v over %s", a, transport))
				onlyV6 = onlyV6 && a.Addr().Is6()
			}
		}
	}
	switch {
	case len(gone) == 0:
	case onlyV6 && !x.files.exists("/proc/net/udp6"):
		x.say(checkPort, Note, "the kernel has no IPv6: nobody listens on "+strings.Join(gone, ", "), "")
	default:
		x.say(checkPort, Problem, "dnsproxy does not listen on "+strings.Join(gone, ", "), x.listenFix(rivals))
	}
}

// listenFix tells how dnsproxy gets its addresses.
func (x *examination) listenFix(rivals bool) string {
	switch {
	case rivals:
		return `once nothing is in the way: "systemctl restart dnsproxy.socket"`
	case x.Units[socketUnit].loaded() && x.Units[socketUnit].Active != "active":
		return `"systemctl start dnsproxy.socket"`
	default:
		return `"systemctl restart dnsproxy.socket"; "journalctl -u dnsproxy.socket" tells what is in the way`
	}
}
