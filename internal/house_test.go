// Package internal_test holds the rules of the house as tests: who may import whom,
// and what no file may do. They read the sources only, and run nothing.
package internal_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// imports is who imports what, of this module and of others; tests are free to import more. It is a
// statement of policy: a package may import those above it only, and another module's package has
// one door, or as few as the table shows. A change here wants a reason in its commit.
//
// The floors, from the ground up: facts (bytes, pins, the init system, the
// kernel), mechanics (one client's connection, one upstream's, the cache), decisions (which answer,
// which upstream), and the two that know them all: config, which knows every knob, and the program.
const imports = `
internal/histogram:
internal/control:
internal/metrics: internal/histogram
internal/doctor: internal/control golang.org/x/sys/unix
internal/spki:
internal/wire:
internal/journal: golang.org/x/sys/unix
internal/systemd: github.com/coreos/go-systemd/v22/activation github.com/coreos/go-systemd/v22/daemon golang.org/x/sys/unix
internal/sandbox: github.com/landlock-lsm/go-landlock/landlock github.com/landlock-lsm/go-landlock/landlock/syscall golang.org/x/sys/unix kernel.org/pub/linux/libs/security/libcap/psx

internal/cache:
internal/dot: internal/spki internal/wire golang.org/x/sys/unix
internal/frontend: internal/histogram internal/wire golang.org/x/sys/unix

internal/forwarder: internal/cache internal/wire
internal/upstream: internal/dot internal/histogram internal/wire

internal/probe: internal/dot internal/spki internal/wire github.com/miekg/dns
internal/dottest: internal/dot internal/spki github.com/miekg/dns

internal/config: internal/dot internal/forwarder internal/frontend internal/sandbox internal/spki internal/upstream github.com/BurntSushi/toml
cmd/dnsproxy: internal/cache internal/config internal/control internal/doctor internal/dot internal/forwarder internal/frontend internal/histogram internal/journal internal/metrics internal/probe internal/sandbox internal/spki internal/systemd internal/upstream internal/wire github.com/miekg/dns golang.org/x/sys/unix

packaging/bench/load: golang.org/x/sys/unix
packaging/bench/upstream:
`

const (
	module       = "dnsproxy/"
	maxFileLines = 600 // a file is less
	maxFuncLines = 80  // a function is less, tables excepted
)

// source is a Go file of the tree.
type source struct {
	path string // from the module's root
	text []byte
	*ast.File
	set *token.FileSet
}

func (s *source) dir() string  { return path.Dir(s.path) }
func (s *source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }
func (s *source) lines(n ast.Node) int {
	return s.set.Position(n.End()).Line - s.set.Position(n.Pos()).Line + 1
}

// sources returns every Go file, whatever system it is for.
func sources(t *testing.T) (all []*source) {
	t.Helper()
	const root = ".."
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(set, rel, text, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, &source{filepath.ToSlash(rel), text, file, set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// imported returns what a file imports, but for the standard library.
func (s *source) imported(t *testing.T) (paths []string) {
	t.Helper()
	for _, i := range s.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(p, "/")
		if own, ok := strings.CutPrefix(p, module); ok {
			paths = append(paths, own)
		} else if strings.Contains(first, ".") {
			paths = append(paths, p)
		}
	}
	return paths
}

func TestImportsPointDown(t *testing.T) {
	actual := map[string]map[string]bool{}
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		if actual[s.dir()] == nil {
			actual[s.dir()] = map[string]bool{}
		}
		for _, p := range s.imported(t) {
			actual[s.dir()][p] = true
		}
	}
	above := map[string]bool{}
	for line := range strings.Lines(imports) {
		pkg, list, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		allowed := strings.Fields(list)
		for _, p := range allowed {
			if strings.HasPrefix(p, "internal/") && !above[p] {
				t.Errorf("%s is allowed to import %s, which is not above it", pkg, p)
			}
		}
		got := slices.Sorted(maps.Keys(actual[pkg]))
		slices.Sort(allowed)
		if !slices.Equal(got, allowed) {
			t.Errorf("%s imports %q; the table says %q", pkg, got, allowed)
		}
		above[pkg] = true
		delete(actual, pkg)
	}
	for pkg := range actual {
		t.Errorf("%s is missing in the table", pkg)
	}
}

// What tests use must not become what the program needs.
func TestOnlyTestsImportDottest(t *testing.T) {
	for _, s := range sources(t) {
		for _, p := range s.imported(t) {
			if p == "internal/dottest" && !s.isTest() {
				t.Errorf("%s imports it", s.path)
			}
		}
	}
}

// The program is static, and begins in main.
func TestNoInitAndNoCgo(t *testing.T) {
	for _, s := range sources(t) {
		for _, i := range s.Imports {
			if i.Path.Value == `"C"` {
				t.Errorf("%s uses cgo", s.path)
			}
		}
		for _, d := range s.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function", s.path)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	said := map[string]bool{}
	for _, s := range sources(t) {
		if !s.isTest() {
			said[s.dir()] = said[s.dir()] || s.Doc != nil
		}
	}
	for pkg, ok := range said {
		if !ok {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, s := range sources(t) {
		formatted, err := format.Source(s.text)
		if err != nil {
			t.Errorf("%s: %v", s.path, err)
		} else if !bytes.Equal(formatted, s.text) {
			t.Errorf("%s is not as gofmt writes it", s.path)
		}
	}
}

func TestFilesAndFunctionsStayShort(t *testing.T) {
	for _, s := range sources(t) {
		if n := bytes.Count(s.text, []byte("\n")); n >= maxFileLines {
			t.Errorf("%s has %d lines", s.path, n)
		}
		for _, d := range s.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.lines(f) - s.tableLines(f); n >= maxFuncLines {
				t.Errorf("%s: %s has %d lines beside its tables", s.path, f.Name.Name, n)
			}
		}
	}
}

// tableLines returns how many lines of f are entries of lists and maps.
func (s *source) tableLines(f *ast.FuncDecl) (n int) {
	ast.Inspect(f, func(node ast.Node) bool {
		l, ok := node.(*ast.CompositeLit)
		if !ok {
			return true
		}
		switch l.Type.(type) {
		case *ast.ArrayType, *ast.MapType:
			n += s.lines(l) - 1
			return false
		}
		return true
	})
	return n
}
