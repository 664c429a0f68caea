package config

import (
	"fmt"
	"slices"
	"strings"

	"dnsproxy/internal/upstream"
)

// Diff says what differs between two configurations, one line for each key, for
// people. Lines about what takes effect at the next start only say so.
func Diff(from, to *Config) []string {
	var d difference
	a, b := from.raw(), to.raw()
	for _, k := range knobs {
		diffKnob(&d, join(k.table, k.key), &k, &a, &b)
	}
	d.upstreams(from, to)
	d.routes(from, to)
	return d
}

// NeedsRestart returns the keys that differ, and whose values in to cannot take
// effect in the running process.
func NeedsRestart(from, to *Config) []string {
	var keys []string
	a, b := from.raw(), to.raw()
	for _, k := range knobs {
		if k.restart && !equal(load(k.at(&a)), load(k.at(&b))) {
			keys = append(keys, join(k.table, k.key))
		}
	}
	return keys
}

// difference gathers lines.
type difference []string

func (d *difference) add(format string, args ...any) {
	*d = append(*d, fmt.Sprintf(format, args...))
}

func diffKnob[T any](d *difference, what string, k *knob[T], from, to *T) {
	a, b := load(k.at(from)), load(k.at(to))
	if equal(a, b) {
		return
	}
	note := ""
	if k.restart {
		note = " (at the next start)"
	}
	old, list := a.([]string)
	if !list {
		d.add("%s: %s -> %s%s", what, plain(a), plain(b), note)
		return
	}
	d.add("%s: %s%s", what, diffLists(old, b.([]string)), note)
}

// plain is a value as TOML but without quotes, unless it is empty.
func plain(v any) string {
	if s := strings.Trim(format(v), `"`); s != "" {
		return s
	}
	return "none"
}

// diffLists says what became of a list.
func diffLists(from, to []string) string {
	without := func(list, other []string) string {
		var rest []string
		for _, s := range list {
			if !slices.Contains(other, s) {
				rest = append(rest, s)
			}
		}
		return strings.Join(rest, ", ")
	}
	var parts []string
	if added := without(to, from); added != "" {
		parts = append(parts, "added "+added)
	}
	if removed := without(from, to); removed != "" {
		parts = append(parts, "removed "+removed)
	}
	if parts == nil {
		parts = []string{"order is now " + strings.Join(to, ", ")}
	}
	return strings.Join(parts, "; ")
}

func (d *difference) upstreams(from, to *Config) {
	named := func(c *Config, name string) *upstream.Upstream {
		for i := range c.Upstreams {
			if c.Upstreams[i].Name == name {
				return &c.Upstreams[i]
			}
		}
		return nil
	}
	var kept, order []string
	for _, u := range from.Upstreams {
		if named(to, u.Name) == nil {
			d.add("upstream %q: removed", u.Name)
		} else {
			kept = append(kept, u.Name)
		}
	}
	for _, u := range to.Upstreams {
		before := named(from, u.Name)
		if before == nil {
			d.add("upstream %q: added", u.Name)
			continue
		}
		order = append(order, u.Name)
		what := fmt.Sprintf("upstream %q: ", u.Name)
		a, b := rawOf(*before, from.ownCAFiles[u.Name]), rawOf(u, to.ownCAFiles[u.Name])
		for _, k := range upstreamKnobs {
			diffKnob(d, what+k.key, &k, &a, &b)
		}
		if file := to.CAFileOf(u.Name); file == from.CAFileOf(u.Name) && rootsOf(*before) != "" && rootsOf(u) != "" && rootsOf(*before) != rootsOf(u) {
			d.add("%sthe certificates in %s have changed", what, file)
		}
	}
	if !slices.Equal(kept, order) {
		d.add("upstream: order is now %s", strings.Join(order, ", "))
	}
}

// CAFileOf returns the file that has the trust anchors of the upstream of that name.
func (c *Config) CAFileOf(name string) string {
	if own := c.ownCAFiles[name]; own != "" {
		return own
	}
	return c.TLS.CAFile
}

func rootsOf(u upstream.Upstream) string {
	for _, e := range u.Endpoints {
		return e.RootsID
	}
	return ""
}

func (d *difference) routes(from, to *Config) {
	find := func(c *Config, domain string) ([]string, bool) {
		for _, r := range c.Routes {
			if slices.Contains(r.Domains, domain) {
				return r.Upstreams, true
			}
		}
		return nil, false
	}
	show := func(domain string) string {
		if domain == "" {
			return "."
		}
		return domain
	}
	for _, r := range from.Routes {
		for _, domain := range r.Domains {
			if _, ok := find(to, domain); !ok {
				d.add("route %q: removed", show(domain))
			}
		}
	}
	for _, r := range to.Routes {
		for _, domain := range r.Domains {
			before, ok := find(from, domain)
			switch {
			case !ok:
				d.add("route %q: added, to %s", show(domain), strings.Join(r.Upstreams, ", "))
			case !slices.Equal(before, r.Upstreams):
				d.add("route %q: upstreams: %s", show(domain), diffLists(before, r.Upstreams))
			}
		}
	}
}
