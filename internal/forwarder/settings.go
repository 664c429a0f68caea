package forwarder

import (
	"strings"
	"time"
)

// settings are Settings as the query's way reads them.
type settings struct {
	Settings
	minTTL, maxTTL, maxNegativeTTL uint32            // seconds
	routes                         map[string]*Route // by domain, wire form in lower case; the root aside
	root                           *Route
}

func compile(s Settings) *settings {
	c := &settings{
		Settings:       s,
		minTTL:         uint32(s.MinTTL / time.Second),
		maxTTL:         uint32(s.MaxTTL / time.Second),
		maxNegativeTTL: uint32(s.MaxNegativeTTL / time.Second),
		routes:         make(map[string]*Route),
	}
	for i := range s.Routes {
		if r := &s.Routes[i]; r.Domain == "" {
			c.root = r
		} else {
			c.routes[wireName(r.Domain)] = r
		}
	}
	if c.root == nil {
		panic("forwarder: internal error: no route for the root")
	}
	return c
}

// route returns the route with the longest domain that name is at or under, and
// the length of that domain in wire form. name is in wire form and lower case.
func (s *settings) route(name []byte) (r *Route, depth int) {
	if len(s.routes) == 0 {
		return s.root, 0
	}
	for len(name) > 1 {
		if r, ok := s.routes[string(name)]; ok {
			return r, len(name)
		}
		name = name[1+name[0]:]
	}
	return s.root, 0
}

// wireName is a domain name in wire form and lower case.
func wireName(domain string) string {
	var b strings.Builder
	for label := range strings.SplitSeq(strings.ToLower(domain), ".") {
		b.WriteByte(byte(len(label)))
		b.WriteString(label)
	}
	b.WriteByte(0)
	return b.String()
}

// presentation is a name in wire form for people, its octets escaped as RFC 4343, section
// 2.1 has it.
func presentation(name []byte) string {
	if len(name) <= 1 {
		return "."
	}
	var b strings.Builder
	for name[0] != 0 {
		for _, c := range name[1 : 1+name[0]] {
			switch {
			case c == '.' || c == '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c <= ' ' || c > '~':
				b.Write([]byte{'\\', '0' + c/100, '0' + c/10%10, '0' + c%10})
			default:
				b.WriteByte(c)
			}
		}
		b.WriteByte('.')
		name = name[1+name[0]:]
	}
	return b.String()
}
