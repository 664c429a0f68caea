package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

const (
	dnsPort = 53  // of clients; in clear
	dotPort = 853 // RFC 7858, section 3.1
)

// ParseListen reads an address to serve, as the file and --listen have it: an IP
// address and a port, 53 if there is none.
func ParseListen(s string) (netip.AddrPort, error) {
	addr, problem, hint := parseAddr(s, dnsPort)
	switch host, _, _ := cutPort(s); {
	case problem == "" && addr.Addr().IsMulticast():
		problem = "a multicast address cannot be served"
	case problem != "" && (host == "" || host == "*"):
		hint = `"0.0.0.0:53" and "[::]:53" stand for every address of the machine`
	}
	if problem != "" {
		return netip.AddrPort{}, addrError{problem, hint}
	}
	return addr, nil
}

// addrError is a fault that has no place in a file yet.
type addrError struct{ problem, hint string }

func (e addrError) Error() string {
	if e.hint == "" {
		return e.problem
	}
	return e.problem + "; " + e.hint
}

// parseUpstreamAddr reads an address of an upstream.
func parseUpstreamAddr(s string) (addr netip.AddrPort, problem, hint string) {
	addr, problem, hint = parseAddr(s, dotPort)
	if problem != "" {
		return addr, problem, hint
	}
	ip := addr.Addr()
	switch {
	case addr.Port() == dnsPort:
		problem = "port 53 is for DNS in clear, and never used for DNS over TLS (RFC 7858, section 3.1)"
		hint = "write " + quote(ip.String()) + " for port 853"
	case ip.IsUnspecified() || ip.IsMulticast():
		problem = fmt.Sprintf("%v is no address of a host", ip)
	case ip.Zone() != "" && (!ip.IsLinkLocalUnicast() || strings.Trim(strings.ToLower(ip.Zone()), zone) != ""):
		problem = fmt.Sprintf("%.80q is no address with a zone: an interface may follow a link-local address only", s)
	case ip.Is6() && ip.IsLinkLocalUnicast() && ip.Zone() == "":
		problem = "a link-local address needs the interface it is on"
		hint = fmt.Sprintf("write it as %q", ip.String()+"%eth0")
	}
	return addr, problem, hint
}

// zone is what names of interfaces are made of.
const zone = "abcdefghijklmnopqrstuvwxyz0123456789-_.:"

// parseAddr reads an IP address with or without a port. IPv6 stands in brackets
// where a port follows.
func parseAddr(s string, port uint16) (addr netip.AddrPort, problem, hint string) {
	addr, err := netip.ParseAddrPort(s)
	if err != nil {
		ip, err := netip.ParseAddr(s)
		if inner, ok := bracketed(s); ok {
			ip, err = netip.ParseAddr(inner)
		}
		if err != nil {
			problem, hint = explainAddr(s, port)
			return addr, problem, hint
		}
		addr = netip.AddrPortFrom(ip, port)
	}
	if addr.Port() == 0 {
		return addr, "want a port from 1 to 65535, got 0", ""
	}
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), "", ""
}

// bracketed returns what stands in brackets, if that may be an IPv6 address.
func bracketed(s string) (string, bool) {
	inner, open := strings.CutPrefix(s, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	return inner, open && closed && strings.Contains(inner, ":")
}

// explainAddr says why s is no IP address with or without a port. std is the port in the example.
func explainAddr(s string, std uint16) (problem, hint string) {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		return fmt.Sprintf("want an IP address, got the URL %q", s), "write " + quote(strings.TrimRight(rest, "/"))
	}
	if addr, name, ok := strings.Cut(s, "#"); ok {
		return fmt.Sprintf("want an IP address, got %q", s),
			fmt.Sprintf("write %s here, and server_name = %s", quote(addr), quote(name))
	}
	host, port, cut := cutPort(s)
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	switch n, portErr := strconv.ParseUint(port, 10, 64); {
	case err == nil && cut && (portErr != nil || n > 65535):
		return fmt.Sprintf("want a port from 1 to 65535, got %q", port), ""
	case err == nil && ip.Is6():
		return fmt.Sprintf("want IPv6 in brackets where a port follows, got %q", s), "write " + quote("["+ip.String()+"]:"+port)
	case looksLikeName(host):
		return fmt.Sprintf("want an IP address, got the name %q", host),
			"dnsproxy looks up no names for itself, since that would ask in clear"
	default:
		return fmt.Sprintf("want an IP address, as \"192.0.2.1\", \"192.0.2.1:%d\" or \"[2001:db8::1]:%d\"; got %.80q", std, std, s), ""
	}
}

// cutPort cuts s at its last colon.
func cutPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func looksLikeName(s string) bool {
	_, problem, _ := parseDomain(s)
	return problem == "" && strings.ContainsAny(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz")
}

// parsePrefix reads a prefix of clients' addresses, or one address.
func parsePrefix(s string) (p netip.Prefix, problem, hint string) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), "", ""
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Sprintf("want an IP prefix, as \"192.0.2.0/24\" or \"2001:db8::/32\"; got %.80q", s), ""
	}
	if ip := p.Addr(); ip.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(ip.Unmap(), p.Bits()-96) // clients' addresses come unmapped
	}
	if p != p.Masked() {
		one := netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
		return p, fmt.Sprintf("%q is neither a network nor one address", s),
			fmt.Sprintf("write %q for the network or %q for the one address", p.Masked(), one)
	}
	return p, "", ""
}

const (
	maxName  = 253 // characters of a name without the last dot (RFC 1035, section 2.3.4: 255 octets on the wire)
	maxLabel = 63
)

// parseDomain reads a domain name: letters, digits, hyphens and underscores. It
// returns the name in lower case, without the last dot.
func parseDomain(s string) (name, problem, hint string) {
	for _, c := range s {
		if c > 0x7e {
			return "", fmt.Sprintf("%.80q is not in ASCII", s), `write the labels as they are in DNS, as "xn--bcher-kva.example"`
		}
	}
	name = strings.ToLower(strings.TrimSuffix(s, "."))
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		return "", fmt.Sprintf("a domain stands for all names under it, without %q", "*."), "write " + quote(rest)
	}
	if name == "" {
		return "", "want a domain name, got none", ""
	}
	if len(name) > maxName {
		return "", fmt.Sprintf("want a domain name of at most %d characters, got %d", maxName, len(name)), ""
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return "", fmt.Sprintf("%.80q has an empty label", s), ""
		case len(label) > maxLabel:
			return "", fmt.Sprintf("the label %q has %d characters, %d more than DNS allows", label, len(label), len(label)-maxLabel), ""
		case strings.Trim(label, "-") != label || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "":
			return "", fmt.Sprintf("%.80q is no domain name: labels have letters, digits, hyphens and underscores, and a hyphen at neither end", s), ""
		}
	}
	return name, "", ""
}

// DefaultListen returns the addresses that are served where the file names none.
func DefaultListen() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, s := range defaults().listen {
		if a, err := ParseListen(s); err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
