package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/sandbox"
	"dnsproxy/internal/spki"
	"dnsproxy/internal/upstream"
)

// checker turns the raw file into a Config.
type checker struct {
	*report
	read    func(path string) ([]byte, error)
	anchors map[string]anchors // by path
}

// config checks the file. What it returns is of use only if there are no faults.
func (c *checker) config(f *raw) *Config {
	cfg := &Config{
		File:       c.file,
		Sandbox:    sandbox.Mode(f.sandbox),
		CacheSize:  int64(f.cacheSize),
		Selection:  upstream.Settings{Policy: upstream.Policy(f.policy), HedgeBudget: f.hedge},
		ownCAFiles: map[string]string{},
	}
	if err := cfg.LogLevel.UnmarshalText([]byte(f.logLevel)); err != nil {
		panic("config: internal error: " + err.Error()) // the knob's choices are slog's levels
	}
	c.front(f, cfg)
	c.forward(f, cfg)
	cfg.TLS = c.tls(f)
	c.upstreams(f, cfg)
	c.routes(f, cfg)
	return cfg
}

// front checks who is served, and where.
func (c *checker) front(f *raw, cfg *Config) {
	for i, s := range f.listen {
		path := element("listen", i)
		addr, err := ParseListen(s)
		var aerr addrError
		switch {
		case errors.As(err, &aerr):
			c.fault(path, aerr.problem, aerr.hint)
		case slices.Contains(cfg.Listen, addr):
			c.fault(path, fmt.Sprintf("%v is listed twice", addr), "")
		default:
			cfg.Listen = append(cfg.Listen, addr)
		}
	}
	l := &cfg.Frontend
	l.Pending, l.TCPClients, l.TCPIdleTimeout, l.UDPPayload = f.pending, f.tcpClients, f.tcpIdle, f.udpPayload
	if len(f.allow) == 0 {
		c.fault("allow", "nobody would be served", `["0.0.0.0/0", "::/0"] stands for everybody`)
	}
	for i, s := range f.allow {
		path := element("allow", i)
		prefix, problem, hint := parsePrefix(s)
		switch {
		case problem != "":
			c.fault(path, problem, hint)
		case slices.Contains(l.Allow, prefix):
			c.fault(path, fmt.Sprintf("%v is listed twice", prefix), "")
		default:
			l.Allow = append(l.Allow, prefix)
			if prefix.Bits() == 0 {
				c.warn(path, fmt.Sprintf("%v lets everybody ask: an open resolver is used to flood others (RFC 5358)", prefix), "")
			}
		}
	}
}

// stubTimeout is when glibc's stub resolver gives up on a server (resolv.conf(5)).
const stubTimeout = 5 * time.Second

func (c *checker) forward(f *raw, cfg *Config) {
	s := &cfg.Forwarder
	s.Timeout = f.timeout
	s.MinTTL, s.MaxTTL = time.Duration(f.minTTL), time.Duration(f.maxTTL)
	s.MaxNegativeTTL, s.ServeStale = time.Duration(f.maxNegative), time.Duration(f.staleFor)
	s.Prefetch, s.SpecialNames = f.prefetch, f.specialNames
	if s.Timeout >= stubTimeout {
		c.warn("timeout", fmt.Sprintf("stub resolvers give up after %v (resolv.conf(5)), before an answer at %v can reach them", stubTimeout, s.Timeout), "")
	}
	if s.MinTTL > s.MaxTTL {
		c.fault("cache.min_ttl", fmt.Sprintf("%s is more than max_ttl, %s", formatDuration(s.MinTTL), formatDuration(s.MaxTTL)), "")
	}
}

func (c *checker) upstreams(f *raw, cfg *Config) {
	if len(f.upstreams) == 0 && c.lines["upstream"] == 0 {
		c.fault("upstream", "there is none", `the least is: [[upstream]], addresses = ["8.8.8.8"], server_name = "dns.google", on three lines`)
	}
	seen := map[string]string{} // paths, by address and server name
	for i := range f.upstreams {
		u := &f.upstreams[i]
		path := element("upstream", i)
		e := c.endpoint(path, u, cfg)
		var up upstream.Upstream
		if len(u.addresses) == 0 {
			c.fault(join(path, "addresses"), `want at least one, as in addresses = ["8.8.8.8"]`, "")
		}
		for j, s := range u.addresses {
			at := element(join(path, "addresses"), j)
			addr, problem, hint := parseUpstreamAddr(s)
			if problem != "" {
				c.fault(at, problem, hint)
				continue
			}
			// One address with two names can be two upstreams: some services
			// tell their customers apart by the name.
			if first, ok := seen[addr.String()+" "+e.ServerName]; ok {
				c.fault(at, fmt.Sprintf("%v is there already, as %s", addr, first), "")
				continue
			}
			seen[addr.String()+" "+e.ServerName] = at
			for _, l := range cfg.Listen {
				if serves(l, addr) {
					c.fault(at, fmt.Sprintf("this is where dnsproxy itself listens (%v)", l), "")
				}
			}
			e.Addr = addr
			up.Endpoints = append(up.Endpoints, e)
		}
		cfg.Upstreams = append(cfg.Upstreams, up)
	}
	c.name(f, cfg)
}

// endpoint checks how an upstream is authenticated. Its address and its name are still open.
func (c *checker) endpoint(path string, u *rawUpstream, cfg *Config) dot.Endpoint {
	e := dot.Endpoint{Suites: cfg.TLS.Suites, Groups: cfg.TLS.Groups, RequirePQ: cfg.TLS.RequirePQ}
	if u.serverName != "" {
		name, problem, hint := parseServerName(u.serverName)
		if problem != "" {
			c.fault(join(path, "server_name"), problem, hint)
		}
		e.ServerName = name
	}
	e.Pins = c.pins(path, u)
	e.ReportOnly = u.pinMode == "report"
	c.absolute(join(path, "ca_file"), u.caFile)
	switch {
	case u.serverName == "" && len(u.pins) == 0 && !c.faulty(join(path, "server_name")) && !c.faulty(join(path, "pins")):
		c.fault(path, "neither server_name nor pins are given, so nothing would tell the upstream from an impostor",
			fmt.Sprintf("add server_name, or pins (%q prints them)", probe(u)))
	case u.serverName == "" && e.ReportOnly:
		c.fault(join(path, "pin_mode"), `"report" would let anybody pass, since the pins are all that authenticates`, "add server_name")
	case u.serverName == "" && u.caFile != "":
		c.warn(join(path, "ca_file"), "this has no effect without server_name", "")
	case e.ReportOnly && len(u.pins) == 0:
		c.warn(join(path, "pin_mode"), "this has no effect without pins", "")
	}
	if e.ServerName != "" {
		c.trust(path, u, cfg, &e)
	}
	return e
}

// parseServerName reads an authentication name: a domain name, or an IP address
// that stands in the certificate.
func parseServerName(s string) (name, problem, hint string) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		return ip.Unmap().String(), "", ""
	}
	return parseDomain(s)
}

func (c *checker) pins(path string, u *rawUpstream) spki.Set {
	var set spki.Set
	for i, s := range u.pins {
		at := element(join(path, "pins"), i)
		pin, err := spki.Parse(s)
		switch {
		case err != nil:
			c.fault(at, strings.TrimPrefix(err.Error(), fmt.Sprintf("reading pin %q: ", s)), fmt.Sprintf("%q prints them", probe(u)))
		case pin == sha256.Sum256(nil):
			c.fault(at, "this is the SHA-256 of nothing: what printed it had no key to read", fmt.Sprintf("%q prints them", probe(u)))
		case slices.Contains(set, pin):
			c.fault(at, "this pin is listed twice", "a backup must be of another key")
		default:
			set = append(set, pin)
		}
	}
	if len(u.pins) == 1 && len(set) == 1 {
		c.warn(join(path, "pins"), "there is one pin only: when the upstream changes its key, it is lost (RFC 7858, section 4.2, asks for a backup)",
			fmt.Sprintf("add that of its issuer (%q prints them)", probe(u)))
	}
	return set
}

// probe is the command that prints an upstream's pins.
func probe(u *rawUpstream) string {
	for _, addr := range u.addresses {
		if _, problem, _ := parseUpstreamAddr(addr); problem == "" {
			return strings.TrimSpace("dnsproxy probe " + addr + " " + u.serverName)
		}
	}
	return "dnsproxy probe"
}

// trust sets the endpoint's trust anchors.
func (c *checker) trust(path string, u *rawUpstream, cfg *Config, e *dot.Endpoint) {
	file, key := u.caFile, join(path, "ca_file")
	if file == "" {
		file, key = cfg.TLS.CAFile, "tls.ca_file"
	}
	if file == "" {
		c.fault("tls.ca_file", "want a path, since upstreams have a server_name", "")
		return
	}
	a := c.anchorsOf(file)
	if a.err == nil {
		e.Roots, e.RootsID = a.pool, a.id
		if !slices.Contains(cfg.CAFiles, file) {
			cfg.CAFiles = append(cfg.CAFiles, file)
		}
		return
	}
	f := c.at(key, fmt.Sprintf("cannot use %q: %v", file, a.err), "")
	if errors.Is(a.err, fs.ErrNotExist) {
		f.Hint = "install the package ca-certificates, or name the file that has the upstream's CA"
	}
	if c.lines[key] == 0 { // the default: point at who needs it
		f.Line = c.lines.nearest(join(path, "server_name"))
	}
	if !c.faulty(key) {
		c.faults = append(c.faults, f)
	}
}

// maxUpstreamName bounds a name that stands in each log line and metric.
const maxUpstreamName = 64

// name checks the names of upstreams, and names those that have none.
func (c *checker) name(f *raw, cfg *Config) {
	seen := map[string]string{}
	for i := range f.upstreams {
		at := join(element("upstream", i), "name")
		name := f.upstreams[i].name
		if name == "" {
			continue
		}
		if len(name) > maxUpstreamName || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_.:[]%") != "" {
			c.fault(at, fmt.Sprintf("want at most %d letters, digits and characters of \"-_.:[]%%\"; got %.80q", maxUpstreamName, name), "")
		} else if first, ok := seen[name]; ok {
			c.fault(at, fmt.Sprintf("%q is there already, as %s", name, first), "")
		}
		seen[name] = at
	}
	for i := range cfg.Upstreams {
		u := &cfg.Upstreams[i]
		u.Name = f.upstreams[i].name
		if u.Name == "" && len(u.Endpoints) > 0 {
			u.Name = freeName(u.Endpoints[0], seen)
			seen[u.Name] = element("upstream", i)
		}
		for j := range u.Endpoints {
			u.Endpoints[j].Upstream = u.Name
		}
		if file := f.upstreams[i].caFile; file != "" {
			cfg.ownCAFiles[u.Name] = file
		}
	}
}

// freeName returns a name for an upstream that has none: its server name or, if
// that is taken, its first address, with both if that is taken too.
func freeName(e dot.Endpoint, taken map[string]string) string {
	addr := e.Addr.Addr().String()
	if e.Addr.Port() != dotPort {
		addr = e.Addr.String()
	}
	name := e.ServerName
	for _, candidate := range []string{addr, addr + "_" + e.ServerName} {
		if _, ok := taken[name]; !ok && name != "" && len(name) <= maxUpstreamName {
			return name
		}
		name = candidate
	}
	for i := 2; ; i++ {
		if _, ok := taken[name]; !ok && len(name) <= maxUpstreamName {
			return name
		}
		name = fmt.Sprintf("%s_%d", addr, i)
	}
}

func (c *checker) routes(f *raw, cfg *Config) {
	var known []string
	for _, u := range cfg.Upstreams {
		known = append(known, u.Name)
	}
	seen := map[string]string{}
	for i, r := range f.routes {
		path := element("route", i)
		var route Route
		for j, s := range r.domains {
			at := element(join(path, "domains"), j)
			domain, problem, hint := "", "", ""
			if s != "." {
				domain, problem, hint = parseDomain(s)
			}
			if first, ok := seen[domain]; ok && problem == "" {
				problem = fmt.Sprintf("%q is there already, as %s", s, first)
			}
			if problem != "" {
				c.fault(at, problem, hint)
				continue
			}
			seen[domain] = at
			route.Domains = append(route.Domains, domain)
		}
		for j, name := range r.upstreams {
			at := element(join(path, "upstreams"), j)
			switch {
			case !slices.Contains(known, name) && slices.Contains(known, ""):
				// It may be one that could not be named, for faults of its own.
			case !slices.Contains(known, name):
				c.fault(at, fmt.Sprintf("there is no upstream %.80q", name), suggest(name, known))
			case slices.Contains(route.Upstreams, name):
				c.fault(at, fmt.Sprintf("%q is listed twice", name), "")
			default:
				route.Upstreams = append(route.Upstreams, name)
			}
		}
		if len(r.domains) == 0 {
			c.fault(join(path, "domains"), `want at least one, as in domains = ["corp.example"]`, "")
		}
		if len(r.upstreams) == 0 {
			c.fault(join(path, "upstreams"), "want the name of at least one upstream", "")
		}
		cfg.Routes = append(cfg.Routes, route)
	}
}

// levelName is how the file writes a level.
func levelName(l slog.Level) string { return strings.ToLower(l.String()) }

// cause drops the path that an error of package os repeats.
func cause(err error) error {
	var perr *fs.PathError
	if errors.As(err, &perr) {
		return perr.Err
	}
	return err
}
