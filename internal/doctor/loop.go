package doctor

import (
	"fmt"
	"net/netip"
	"slices"
)

// loop finds upstreams that are this host: a query might come back for ever.
func (x *examination) loop() {
	if x.Config == nil {
		return
	}
	found := false
	for _, u := range x.Config.Upstreams {
		if !x.isLocal(u.Addr.Addr()) {
			continue
		}
		found = true
		fix := "put a resolver elsewhere into [[upstream]] addresses of " + x.File
		switch {
		case slices.ContainsFunc(x.served(), func(a netip.AddrPort) bool { return a.Port() == u.Addr.Port() && covers(a.Addr(), u.Addr.Addr()) }):
			x.say(checkLoop, Problem, fmt.Sprintf("upstream %q (%v) is dnsproxy itself", u.Name, u.Addr), fix)
		case slices.ContainsFunc(x.sockets, func(l listener) bool {
			return l.transport == "TCP" && l.addr.Port() == u.Addr.Port() && covers(l.addr.Addr(), u.Addr.Addr())
		}):
			x.say(checkLoop, Note, fmt.Sprintf("upstream %q (%v) is a program of this host: it must not ask dnsproxy in turn, nor the host's %s", u.Name, u.Addr, resolvPath), "")
		default:
			x.say(checkLoop, Warning, fmt.Sprintf("upstream %q (%v) is this host, where nothing listens on port %d", u.Name, u.Addr, u.Addr.Port()), fix)
		}
	}
	if x.resolvedListsUs() && slices.ContainsFunc(x.Config.Upstreams, func(u Upstream) bool { return isResolved(u.Addr.Addr()) }) {
		x.say(checkLoop, Problem, "systemd-resolved asks dnsproxy, and dnsproxy asks systemd-resolved", "take 127.0.0.53 and 127.0.0.54 from the upstreams of "+x.File)
		return
	}
	if !found {
		x.ok(checkLoop, "no upstream is this host")
	}
}

func (x *examination) resolvedListsUs() bool {
	ours, _ := x.resolvedGlobal()
	return len(ours) > 0
}
