package internal_test

import (
	"errors"
	"go/ast"
	"go/token"
	"go/types"
	"path"
	"slices"
	"strings"
	"testing"
)

// unsafeFiles may import unsafe: for memory that Go does not collect, for system calls, and for
// what the standard library keeps linkable.
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
internal/frontend/batch_test.go
`

func TestUnsafeStaysWhereItIs(t *testing.T) {
	for _, s := range sources(t) {
		for _, i := range s.Imports {
			if i.Path.Value == `"unsafe"` && !s.isTest() && !slices.Contains(strings.Fields(unsafeFiles), s.path) {
				t.Errorf("%s imports unsafe", s.path)
			}
		}
	}
}

func TestPackagesHaveNamesThatSaySomething(t *testing.T) {
	for _, s := range sources(t) {
		if name := path.Base(s.dir()); slices.Contains([]string{"util", "utils", "common", "types", "helper", "helpers", "log", "misc"}, name) {
			t.Errorf("%s: a package called %s may hold anything", s.path, name)
		}
	}
}

// Tests see what users of a package see. What they need besides is exported to them
// in export_test.go.
func TestTestsStandOutside(t *testing.T) {
	for _, s := range sources(t) {
		if !s.isTest() || path.Base(s.path) == "export_test.go" || slices.Contains(strings.Fields(inside), s.path) {
			continue
		}
		if !strings.HasSuffix(s.Name.Name, "_test") {
			t.Errorf("%s is in package %s, want %[2]s_test", s.path, s.Name.Name)
		}
	}
}

func TestExportedNamesAreExplained(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() || s.dir() == "internal/dottest" { // where some are explained in groups
			continue
		}
		for _, decl := range s.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || receiver(d).IsExported()) {
					t.Errorf("%s: %s has no comment", s.at(d), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if name, ok := spec.(*ast.TypeSpec); ok && name.Name.IsExported() && name.Doc == nil && d.Doc == nil {
						t.Errorf("%s: %s has no comment", s.at(name), name.Name.Name)
					}
				}
			}
		}
	}
}

// at tells where n stands.
func (s *source) at(n ast.Node) token.Position { return s.set.Position(n.Pos()) }

// receiver returns the name of the method's type.
func receiver(d *ast.FuncDecl) *ast.Ident {
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if name, ok := t.(*ast.Ident); ok {
		return name
	}
	return ast.NewIdent("_")
}

// State has an owner: package variables are not assigned to.
func TestPackageVariablesStayAsTheyAre(t *testing.T) {
	packages := map[string][]*source{}
	for _, s := range sources(t) {
		if !s.isTest() {
			packages[s.dir()] = append(packages[s.dir()], s)
		}
	}
	for dir, all := range packages {
		var files []*ast.File
		for _, s := range all {
			files = append(files, s.File)
		}
		// Types of other packages are not needed to tell whose variable a name is.
		info := types.Info{Uses: map[*ast.Ident]types.Object{}}
		lenient := types.Config{Importer: noImporter{}, Error: func(error) {}}
		pkg, _ := lenient.Check(dir, all[0].set, files, &info)
		for _, s := range all {
			for _, name := range assigned(s.File) {
				v, ok := info.Uses[name].(*types.Var)
				if ok && v.Parent() == pkg.Scope() && !slices.Contains(strings.Fields(mutable), dir+"."+v.Name()) {
					t.Errorf("%s: assigns to the package variable %s", s.at(name), v.Name())
				}
			}
		}
	}
}

type noImporter struct{}

func (noImporter) Import(string) (*types.Package, error) { return nil, errors.New("not imported") }

// assigned returns the variables that statements in f change, as a whole or a part.
func assigned(f *ast.File) (names []*ast.Ident) {
	add := func(e ast.Expr) {
		for {
			switch x := e.(type) {
			case *ast.Ident:
				names = append(names, x)
				return
			case *ast.IndexExpr:
				e = x.X
			case *ast.SelectorExpr:
				e = x.X
			case *ast.ParenExpr:
				e = x.X
			case *ast.StarExpr:
				e = x.X
			default:
				return
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, e := range n.Lhs {
				add(e)
			}
		case *ast.IncDecStmt:
			add(n.X)
		}
		return true
	})
	return names
}
