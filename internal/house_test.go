// Package internal_test holds the rules of the house as tests. They are decisions: a change of
// one needs a reason, and is no way to have a build pass.
package internal_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// allowed is what the packages may import besides the standard library: arrows point down
// only, and each library has one door. A package that is not here may not exist.
//
// Left out are tests, which may use miekg/dns to judge our reading of messages.
const allowed = `
internal/wire
internal/spki
internal/histogram
internal/control
internal/systemd    github.com/coreos/go-systemd golang.org/x/sys
internal/journal    golang.org/x/sys
internal/sandbox    github.com/landlock-lsm/go-landlock kernel.org/pub/linux/libs/security/libcap/psx golang.org/x/sys

internal/cache      internal/wire
internal/frontend   internal/wire internal/histogram golang.org/x/sys
internal/dot        internal/wire internal/spki golang.org/x/sys

internal/forwarder  internal/wire internal/cache
internal/upstream   internal/wire internal/dot internal/histogram

internal/config     internal/spki internal/dot internal/upstream internal/cache internal/forwarder internal/frontend internal/sandbox github.com/BurntSushi/toml

cmd/dnsproxy        internal/wire internal/spki internal/histogram internal/control internal/systemd internal/journal internal/sandbox internal/cache internal/frontend internal/dot internal/forwarder internal/upstream internal/config github.com/miekg/dns golang.org/x/sys

internal/dottest    internal/dot internal/spki github.com/miekg/dns
`

// unsafeFiles are those that may import unsafe: for memory that Go does not collect, for
// system calls, and for what the standard library keeps linkable.
const unsafeFiles = `
internal/cache/memory.go internal/cache/shard.go internal/cache/table.go
internal/dot/stream.go internal/dot/suites.go
internal/frontend/batch.go
internal/sandbox/capabilities.go internal/sandbox/seccomp.go
`

// mutable are the package variables that are assigned to: crypto/tls has no other way.
const mutable = `
internal/dot.offeredSuites internal/dot.offeredSuitesNoAES
`

// inside are the tests that stand in the package: they call its commands in their own
// process, and count its system calls.
const inside = `
cmd/dnsproxy/probe_test.go
internal/frontend/batch_test.go
`

const (
	maxFileLines     = 600
	maxFunctionLines = 80 // tables left out
)

// file is one of Go source.
type file struct {
	path   string // from the module's root
	source []byte
	syntax *ast.File
	lines  int
}

// pkg is where the file belongs.
func (f file) pkg() string { return path.Dir(f.path) }

func (f file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// house is all Go source of the module.
type house struct {
	fset  *token.FileSet
	files []file
}

func read(t *testing.T) house {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	h := house{fset: token.NewFileSet()}
	err = fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		source, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		syntax, err := parser.ParseFile(h.fset, name, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		h.files = append(h.files, file{name, source, syntax, bytes.Count(source, []byte("\n"))})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(h.files) == 0 {
		t.Fatal("no source found")
	}
	return h
}

// at tells where n stands.
func (h house) at(n ast.Node) string {
	p := h.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// packages returns the files that are not tests, by package.
func (h house) packages() map[string][]file {
	all := map[string][]file{}
	for _, f := range h.files {
		if !f.isTest() {
			all[f.pkg()] = append(all[f.pkg()], f)
		}
	}
	return all
}

func TestImports(t *testing.T) {
	h := read(t)
	may := map[string][]string{}
	for line := range strings.Lines(allowed) {
		if words := strings.Fields(line); len(words) > 0 {
			may[words[0]] = words[1:]
		}
	}
	for pkg, files := range h.packages() {
		modules, known := may[pkg]
		if !known {
			t.Errorf("%s: not in the table of allowed imports; decide on which floor it stands", pkg)
			continue
		}
		for _, f := range files {
			for _, spec := range f.syntax.Imports {
				imported := strings.TrimPrefix(strings.Trim(spec.Path.Value, `"`), "dnsproxy/")
				first, _, _ := strings.Cut(imported, "/")
				if first != "internal" && !strings.Contains(first, ".") {
					continue // the standard library
				}
				if !slices.ContainsFunc(modules, func(m string) bool { return imported == m || strings.HasPrefix(imported, m+"/") }) {
					t.Errorf("%s: imports %s, which %s may not", h.at(spec), imported, pkg)
				}
			}
		}
	}
}

func TestUnsafeStaysWhereItIs(t *testing.T) {
	h := read(t)
	for _, f := range h.files {
		for _, spec := range f.syntax.Imports {
			switch spec.Path.Value {
			case `"unsafe"`:
				if !f.isTest() && !slices.Contains(strings.Fields(unsafeFiles), f.path) {
					t.Errorf("%s: imports unsafe", h.at(spec))
				}
			case `"C"`: // the sandbox reaches all threads without it only
				t.Errorf("%s: uses cgo", h.at(spec))
			}
		}
	}
}

func TestFormat(t *testing.T) {
	for _, f := range read(t).files {
		formatted, err := format.Source(f.source)
		if err != nil {
			t.Errorf("%s: %v", f.path, err)
		} else if !bytes.Equal(formatted, f.source) {
			t.Errorf("%s: gofmt differs", f.path)
		}
	}
}

func TestSizes(t *testing.T) {
	h := read(t)
	for _, f := range h.files {
		if f.lines > maxFileLines {
			t.Errorf("%s: %d lines, want at most %d", f.path, f.lines, maxFileLines)
		}
		for _, decl := range f.syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok {
				if n := h.lines(fn) - h.tableLines(fn); n > maxFunctionLines {
					t.Errorf("%s: %s has %d lines, want at most %d", h.at(fn), fn.Name.Name, n, maxFunctionLines)
				}
			}
		}
	}
}

func (h house) lines(n ast.Node) int {
	return h.fset.Position(n.End()).Line - h.fset.Position(n.Pos()).Line + 1
}

// tableLines counts the lines of the composite literals in n.
func (h house) tableLines(n ast.Node) (sum int) {
	ast.Inspect(n, func(n ast.Node) bool {
		if table, ok := n.(*ast.CompositeLit); ok {
			sum += h.lines(table) - 1
			return false
		}
		return true
	})
	return sum
}

func TestPackageComments(t *testing.T) {
	for pkg, files := range read(t).packages() {
		var comments []string
		for _, f := range files {
			if f.syntax.Doc != nil {
				comments = append(comments, f.syntax.Doc.Text())
			}
		}
		want := "Package " + path.Base(pkg) + " "
		if files[0].syntax.Name.Name == "main" {
			want = "Command " + path.Base(pkg) + " "
		}
		if len(comments) != 1 || !strings.HasPrefix(comments[0], want) {
			t.Errorf("%s: has %d package comments, want one that begins with %q", pkg, len(comments), want)
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	h := read(t)
	for _, f := range h.files {
		if f.isTest() || f.pkg() == "internal/dottest" { // where some are explained in groups
			continue
		}
		for _, decl := range f.syntax.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || receiver(d).IsExported()) {
					t.Errorf("%s: %s has no comment", h.at(d), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if s, ok := spec.(*ast.TypeSpec); ok && s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
						t.Errorf("%s: %s has no comment", h.at(s), s.Name.Name)
					}
				}
			}
		}
	}
}

// receiver returns the name of the method's type.
func receiver(d *ast.FuncDecl) *ast.Ident {
	switch r := d.Recv.List[0].Type.(type) {
	case *ast.Ident:
		return r
	case *ast.StarExpr:
		if name, ok := r.X.(*ast.Ident); ok {
			return name
		}
	}
	return ast.NewIdent("_")
}

func TestNamesThatSayNothing(t *testing.T) {
	for _, f := range read(t).files {
		if name := path.Base(f.pkg()); slices.Contains([]string{"util", "utils", "common", "types", "helper", "helpers", "log", "misc"}, name) {
			t.Errorf("%s: a package called %s may hold anything", f.path, name)
		}
	}
}

// Tests see what users of a package see. What they need besides is exported to them
// in export_test.go.
func TestTestsStandOutside(t *testing.T) {
	for _, f := range read(t).files {
		if !f.isTest() || path.Base(f.path) == "export_test.go" || slices.Contains(strings.Fields(inside), f.path) {
			continue
		}
		if !strings.HasSuffix(f.syntax.Name.Name, "_test") {
			t.Errorf("%s: is in package %s, want %[2]s_test", f.path, f.syntax.Name.Name)
		}
	}
}

// errNoImport: types of other packages are not needed to tell who assigns to a variable.
var errNoImport = errors.New("not imported")

type noImporter struct{}

func (noImporter) Import(string) (*types.Package, error) { return nil, errNoImport }

func TestNothingHappensBehindTheBack(t *testing.T) {
	h := read(t)
	for pkg, files := range h.packages() {
		var syntax []*ast.File
		for _, f := range files {
			syntax = append(syntax, f.syntax)
		}
		info := types.Info{Uses: map[*ast.Ident]types.Object{}}
		lenient := types.Config{Importer: noImporter{}, Error: func(error) {}}
		checked, _ := lenient.Check(pkg, h.fset, syntax, &info)
		assigned := func(e ast.Expr) {
			name, ok := root(e)
			if !ok {
				return
			}
			v, ok := info.Uses[name].(*types.Var)
			if ok && v.Parent() == checked.Scope() && !slices.Contains(strings.Fields(mutable), pkg+"."+v.Name()) {
				t.Errorf("%s: assigns to the package variable %s", h.at(e), v.Name())
			}
		}
		for _, f := range syntax {
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					if n.Recv == nil && n.Name.Name == "init" {
						t.Errorf("%s: init", h.at(n))
					}
				case *ast.AssignStmt:
					for _, e := range n.Lhs {
						assigned(e)
					}
				case *ast.IncDecStmt:
					assigned(n.X)
				}
				return true
			})
		}
	}
}

// root returns the variable that an assignment to e changes, a part of it maybe.
func root(e ast.Expr) (*ast.Ident, bool) {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x, true
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return nil, false
		}
	}
}
