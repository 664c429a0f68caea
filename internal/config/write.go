package config

import (
	"fmt"
	"io"
	"strings"
	"time"

	"dnsproxy/internal/spki"
	"dnsproxy/internal/upstream"
)

// WriteTo writes the configuration in force as the file that says all of it.
func (c *Config) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, c.String())
	return int64(n), err
}

// String returns the configuration in force as the file that says all of it: each
// key has its value, and those at their default are marked.
func (c *Config) String() string {
	f := c.raw()
	var b strings.Builder
	table := ""
	for _, k := range knobs {
		if k.table != table {
			table = k.table
			fmt.Fprintf(&b, "\n[%s]\n", table)
		}
		writeKnob(&b, &k, &f)
	}
	for i := range f.upstreams {
		b.WriteString("\n[[upstream]]\n")
		for _, k := range upstreamKnobs {
			writeKnob(&b, &k, &f.upstreams[i])
		}
	}
	for i := range f.routes {
		b.WriteString("\n[[route]]\n")
		for _, k := range routeKnobs {
			writeKnob(&b, &k, &f.routes[i])
		}
	}
	return b.String()
}

func writeKnob[T any](b *strings.Builder, k *knob[T], from *T) {
	v := load(k.at(from))
	fmt.Fprintf(b, "%s = %s", k.key, format(v))
	if equal(v, k.std) {
		b.WriteString(" # default")
	}
	b.WriteByte('\n')
}

// raw returns the file that says what c holds.
func (c *Config) raw() raw {
	f := raw{
		listen:       texts(c.Listen),
		allow:        texts(c.Frontend.Allow),
		timeout:      c.Forwarder.Timeout,
		logLevel:     levelName(c.LogLevel),
		sandbox:      string(c.Sandbox),
		caFile:       c.TLS.CAFile,
		suites:       namesOf(c.TLS.Suites, suites[:]),
		groups:       namesOf(c.TLS.Groups, groups),
		requirePQ:    c.TLS.RequirePQ,
		cacheSize:    size(c.CacheSize),
		minTTL:       seconds(c.Forwarder.MinTTL),
		maxTTL:       seconds(c.Forwarder.MaxTTL),
		maxNegative:  seconds(c.Forwarder.MaxNegativeTTL),
		staleFor:     seconds(c.Forwarder.ServeStale),
		prefetch:     c.Forwarder.Prefetch,
		policy:       string(c.Selection.Policy),
		hedge:        c.Selection.HedgeBudget,
		pending:      c.Frontend.Pending,
		tcpClients:   c.Frontend.TCPClients,
		tcpIdle:      time.Duration(c.Frontend.TCPIdleTimeout),
		udpPayload:   c.Frontend.UDPPayload,
		specialNames: c.Forwarder.SpecialNames,
	}
	for _, u := range c.Upstreams {
		f.upstreams = append(f.upstreams, rawOf(u, c.ownCAFiles[u.Name]))
	}
	for _, r := range c.Routes {
		route := rawRoute{upstreams: r.Upstreams}
		for _, domain := range r.Domains {
			if domain == "" {
				domain = "."
			}
			route.domains = append(route.domains, domain)
		}
		f.routes = append(f.routes, route)
	}
	return f
}

// rawOf returns the [[upstream]] that says what u holds.
func rawOf(u upstream.Upstream, caFile string) rawUpstream {
	out := defaultUpstream()
	out.name, out.caFile = u.Name, caFile
	for _, e := range u.Endpoints {
		out.addresses = append(out.addresses, e.Addr.String())
		out.serverName = e.ServerName
		out.pins = texts[spki.Pin](e.Pins)
		if e.ReportOnly {
			out.pinMode = "report"
		}
	}
	return out
}

func texts[T fmt.Stringer](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.String()
	}
	return out
}
