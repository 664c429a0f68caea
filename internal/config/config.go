// Package config turns the TOML file into checked values of the packages that
// obey them: defaults, bounds, errors that name file, line and key, and the
// difference between two configurations.
//
// It opens no socket and changes nothing; only cmd imports it. A Config is not
// changed once it is made, but for what its owner sets, and so may be read from
// many goroutines.
//
// The file is read in three steps. The TOML library says what is in it. read.go
// turns that into a private raw shape that mirrors the file, by the one table of
// knob.go. check.go turns the raw shape into a Config. Every fault is
// reported, not only the first.
package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"dnsproxy/internal/forwarder"
	"dnsproxy/internal/frontend"
	"dnsproxy/internal/sandbox"
	"dnsproxy/internal/upstream"
)

// TLS is the [tls] table. The endpoints of Upstreams already hold it.
type TLS struct {
	CAFile    string
	Suites    []uint16
	Groups    []tls.CurveID
	RequirePQ bool
}

// Route is a [[route]] of the file.
type Route struct {
	Domains   []string // lower case, without the last dot; "" is the root
	Upstreams []string
}

// Config is a checked configuration.
type Config struct {
	File      string // as it was named to Load or Parse
	Listen    []netip.AddrPort
	LogLevel  slog.Level
	Sandbox   sandbox.Mode
	CacheSize int64 // bytes
	Frontend  frontend.Limits
	Forwarder forwarder.Settings // without its Routes, which cmd makes of Routes and Upstreams
	Selection upstream.Settings
	TLS       TLS
	Upstreams []upstream.Upstream
	Routes    []Route
	CAFiles   []string // every CA file that was read
	Warnings  []string // what is allowed, but odd: one line each, as errors are

	ownCAFiles map[string]string // by the name of an upstream that has one
}

// Load reads the file at path and the CA files that it names. An error of what
// the file says is a Faults.
func Load(path string) (*Config, error) {
	text, loose, err := readBounded(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration %q: %w", path, cause(err))
	}
	var warnings []string
	warn := func(name string) {
		warnings = append(warnings, fmt.Sprintf("%s: the file's group may write it; run \"chmod g-w %s\" unless that is meant", name, name))
	}
	if loose {
		warn(path)
	}
	c, err := Parse(text, path, func(name string) ([]byte, error) {
		content, loose, err := readBounded(name, maxCAFile)
		if loose {
			warn(name)
		}
		return content, err
	})
	if err != nil {
		return nil, err
	}
	c.Warnings = append(warnings, c.Warnings...)
	return c, nil
}

// Parse reads text as the file called name. It reads CA files through read, as
// os.ReadFile would, and touches nothing else outside.
func Parse(text []byte, name string, read func(path string) ([]byte, error)) (*Config, error) {
	r := &report{file: name}
	file, err := r.decode(strings.TrimPrefix(string(text), "\uFEFF"))
	if err != nil {
		return nil, err
	}
	f := r.readFile(file)
	c := &checker{report: r, read: read, anchors: map[string]anchors{}}
	cfg := c.config(&f)
	if err := r.err(); err != nil {
		return nil, err
	}
	sortByLine(r.warnings)
	for _, w := range r.warnings {
		cfg.Warnings = append(cfg.Warnings, w.Error())
	}
	return cfg, nil
}

// decode returns the library's view of the file.
func (r *report) decode(text string) (map[string]any, error) {
	if !utf8.ValidString(text) {
		r.lines = positions{}
		valid := strings.ToValidUTF8(text, "\x00")
		f := Fault{File: r.file, Line: 1 + strings.Count(text[:strings.IndexByte(valid, 0)], "\n"), Problem: "this is not UTF-8 text"}
		return nil, Faults{f}
	}
	lines, repeats, deep := scan(text)
	r.lines = lines
	if deep > 0 {
		return nil, Faults{{File: r.file, Line: deep, Problem: "this nests deeper than any key of the file does"}}
	}
	file := map[string]any{}
	_, err := toml.Decode(text, &file)
	if err == nil {
		return file, nil
	}
	for _, again := range repeats {
		r.faults = append(r.faults, Fault{File: r.file, Line: again.line, Key: again.path,
			Problem: fmt.Sprintf("this is here a second time, after line %d", again.first), Hint: "keep one"})
	}
	if f := r.syntax(err); !slices.ContainsFunc(r.faults, func(o Fault) bool { return o.Line == f.Line }) {
		r.faults = append(r.faults, f)
	}
	return nil, r.err()
}

// syntax turns the library's error into a fault.
func (r *report) syntax(err error) Fault {
	var perr toml.ParseError
	if !errors.As(err, &perr) {
		return Fault{File: r.file, Line: 1, Problem: err.Error()}
	}
	f := Fault{File: r.file, Line: max(1, perr.Position.Line), Key: perr.LastKey, Problem: strings.TrimSuffix(perr.Message, ".")}
	if f.Key == "" {
		f.Key = r.lines.on(f.Line)
	}
	if first, size := utf8.DecodeRuneInString(f.Problem); size < len(f.Problem) && !isUpper(f.Problem[size]) {
		f.Problem = strings.ToLower(string(first)) + f.Problem[size:]
	}
	for _, sign := range []string{"expected value but found", "expected a top-level item to end", "expected a comma (',') or array"} {
		if strings.HasPrefix(f.Problem, sign) {
			f.Hint = `text, times and sizes stand in double quotes, lists in [ ] with commas`
		}
	}
	return f
}

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }

// Ports returns the ports that upstreams are connected to, in ascending order.
func (c *Config) Ports() []uint16 {
	var ports []uint16
	for _, u := range c.Upstreams {
		for _, e := range u.Endpoints {
			ports = append(ports, e.Addr.Port())
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// Policy returns what the process must still be able to do to serve c and to
// load its files again.
func (c *Config) Policy() (sandbox.Policy, error) {
	files := slices.Clone(c.CAFiles)
	if c.File != "" {
		files = append(files, c.File)
	}
	dirs, err := sandbox.DirsOf(files...)
	return sandbox.Policy{ReadDirs: dirs, ConnectPorts: c.Ports()}, err
}

// DefaultUpstreams returns the names of the upstreams that are asked where no
// route says otherwise: those of the route "." if there is one, else those that
// no route names, else all.
func (c *Config) DefaultUpstreams() []string {
	var all, unrouted []string
	for _, u := range c.Upstreams {
		all = append(all, u.Name)
		if !slices.ContainsFunc(c.Routes, func(r Route) bool { return slices.Contains(r.Upstreams, u.Name) }) {
			unrouted = append(unrouted, u.Name)
		}
	}
	for _, r := range c.Routes {
		if slices.Contains(r.Domains, "") {
			return r.Upstreams
		}
	}
	if len(unrouted) > 0 {
		return unrouted
	}
	return all
}

// CheckLoop returns an error if an upstream is one of the addresses that are
// served: a query would come back to us for ever.
func (c *Config) CheckLoop(listen []netip.AddrPort) error {
	for _, u := range c.Upstreams {
		for _, e := range u.Endpoints {
			for _, l := range listen {
				if serves(l, e.Addr) {
					return fmt.Errorf("upstream %q (%v) is where dnsproxy itself listens (%v)", u.Name, e.Addr, l)
				}
			}
		}
	}
	return nil
}

// serves reports whether what is sent to addr arrives at a socket on listen. Of
// addresses that are this machine's it knows loopback only.
func serves(listen, addr netip.AddrPort) bool {
	if listen.Port() != addr.Port() {
		return false
	}
	return listen.Addr() == addr.Addr() || listen.Addr().IsUnspecified() && addr.Addr().IsLoopback()
}
