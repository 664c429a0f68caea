package doctor

import "net/netip"

// ParseSockets returns the listening sockets of a table.
var ParseSockets = parseSockets

// Addr and Inode are what tests look at.
func (l listener) Addr() netip.AddrPort { return l.addr }

// Inode is the socket's.
func (l listener) Inode() uint64 { return l.inode }

// UID is of who made it.
func (l listener) UID() uint64 { return l.uid }

// ParseResolv returns the nameservers, those that are none, and whether they are asked in turn.
func ParseResolv(text string) ([]netip.Addr, []string, bool) {
	r := parseResolv(text)
	return r.servers, r.strange, r.rotate
}

// WriterOf names who writes the file.
func WriterOf(target, text string) string { return writerOf(target, text).name }

// The parsers.
var (
	ParseHosts  = parseHosts
	ParseDocker = parseDocker
	ParsePodman = parsePodman
	ParseServer = parseServer
)

// ParseResolved returns DNS=, Domains= and DNSOverTLS= of files in this order.
func ParseResolved(texts ...string) (dns, domains []string, tls string) {
	var r resolvedConf
	for _, t := range texts {
		r.add(t)
	}
	return r.dns, r.domains, r.tls
}
