package doctor

import (
	"fmt"
	"slices"
	"strings"
)

const nsswitchPath = "/etc/nsswitch.conf"

// parseHosts returns the services and actions of the last "hosts" line of nsswitch.conf(5), in its order.
func parseHosts(text string) (services []string) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		database, rest, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(database) == "hosts" {
			// An action may stand without blanks around its brackets.
			services = strings.Fields(strings.NewReplacer("[", " [", "]", "] ").Replace(rest))
		}
	}
	return services
}

// switchResolves reports whether nss-resolve(8) is asked before the DNS, and systemd-resolved, which it speaks to, runs.
func (x *examination) switchResolves() bool {
	text, err := x.files.read(nsswitchPath)
	services := parseHosts(text)
	resolve, dns := slices.Index(services, "resolve"), slices.Index(services, "dns")
	return err == nil && resolve >= 0 && (dns < 0 || resolve < dns) && x.resolvedRuns()
}

// nameSwitch tells what the C library asks before it asks a nameserver.
func (x *examination) nameSwitch() {
	text, err := x.files.read(nsswitchPath)
	if err != nil {
		return // then glibc asks files and DNS, and other libraries do not look at it
	}
	services := parseHosts(text)
	line := "hosts: " + strings.Join(services, " ")
	asked, _, _ := x.resolvedState()
	switch {
	case x.switchResolves() && asked == OK:
		x.ok(checkSwitch, fmt.Sprintf("%s has %q: names go to systemd-resolved, which asks dnsproxy", nsswitchPath, line))
	case x.switchResolves():
		x.say(checkSwitch, asked, fmt.Sprintf("%s has %q: names go to systemd-resolved, whatever %s says", nsswitchPath, line, resolvPath),
			`take "resolve" and the [...] behind it from the hosts line, or have systemd-resolved ask dnsproxy alone (see above)`)
	case len(services) > 0 && !slices.Contains(services, "dns") && !slices.Contains(services, "resolve"):
		x.say(checkSwitch, Problem, fmt.Sprintf("%s has %q: no nameserver is asked", nsswitchPath, line), `add "dns" to the hosts line`)
	default:
		if len(services) == 0 {
			line = "no hosts line, which means files and dns"
		}
		x.ok(checkSwitch, fmt.Sprintf("%s has %q", nsswitchPath, line))
	}
}
