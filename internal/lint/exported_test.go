package lint

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// hidden are what users of replkv never see, so that it can be exchanged: the
// engines, their file system, raft's logger.
var hidden = regexp.MustCompile(`^(github\.com/cockroachdb/pebble|go\.etcd\.io/bbolt|github\.com/hashicorp/(go-hclog|raft-boltdb))(/|$)`)

// private says which packages users cannot import or are not promised.
func private(path string) bool {
	dir := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
	first, _, _ := strings.Cut(dir, "/")
	return slices.Contains([]string{"store", "transport", "internal", "cmd", "examples", "bench", "tools"}, first)
}

func TestExported(t *testing.T) {
	paths, imports := compiled(t)
	for _, path := range paths {
		p, err := imports.Import(path)
		if err != nil {
			t.Fatal(err)
		}
		report(t, checkExported(p))
	}
}

// compiled returns the public packages of this module, and an importer that
// reads what the compiler exported of them and all they depend on.
func compiled(t *testing.T) ([]string, types.Importer) {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Export,Name", "./...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	files := map[string]string{}
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p struct{ ImportPath, Export, Name string }
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		files[p.ImportPath] = p.Export
		ours := p.ImportPath == module || strings.HasPrefix(p.ImportPath, module+"/")
		if ours && p.Name != "main" && !private(p.ImportPath) {
			paths = append(paths, p.ImportPath)
		}
	}
	if len(paths) < 2 {
		t.Fatalf("only the packages %q found", paths)
	}
	return paths, importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(files[path]) })
}

// checkExported follows the types that users of p can name or reach.
func checkExported(p *types.Package) []string {
	w := walker{pkg: p, seen: map[types.Type]bool{}}
	for _, name := range p.Scope().Names() {
		if o := p.Scope().Lookup(name); o.Exported() {
			w.object(p.Path()+"."+name, o)
		}
	}
	slices.Sort(w.complaints)
	return w.complaints
}

type walker struct {
	pkg        *types.Package
	seen       map[types.Type]bool
	complaints []string
}

func (w *walker) object(where string, o types.Object) {
	if o.Pkg() != nil && hidden.MatchString(o.Pkg().Path()) {
		w.complaints = append(w.complaints, fmt.Sprintf("%s mentions %s.%s: users must not depend on it", where, o.Pkg().Path(), o.Name()))
		return
	}
	w.visit(where, o.Type())
}

// visit looks into t. Named types of other packages are looked at for their
// name only: those of this module are walked on their own.
func (w *walker) visit(where string, t types.Type) {
	if t == nil || w.seen[t] {
		return
	}
	w.seen[t] = true
	switch t := t.(type) {
	case *types.Alias:
		w.typeName(where, t.Obj(), t.TypeArgs())
		w.visit(where, t.Rhs())
	case *types.Named:
		w.typeName(where, t.Obj(), t.TypeArgs())
		if t.Obj().Pkg() == w.pkg {
			w.named(where, t)
		}
	case *types.Struct:
		for f := range t.Fields() {
			if f.Exported() || f.Embedded() {
				w.visit(where+"."+f.Name(), f.Type())
			}
		}
	case *types.Interface:
		for m := range t.Methods() {
			w.visit(where+"."+m.Name(), m.Type())
		}
	case *types.Signature:
		w.visit(where, t.Params())
		w.visit(where, t.Results())
	case *types.Tuple:
		for v := range t.Variables() {
			w.visit(where, v.Type())
		}
	case *types.Map:
		w.visit(where, t.Key())
		w.visit(where, t.Elem())
	case interface{ Elem() types.Type }: // pointer, slice, array, channel
		w.visit(where, t.Elem())
	}
}

func (w *walker) typeName(where string, o *types.TypeName, args *types.TypeList) {
	if o.Pkg() != nil && hidden.MatchString(o.Pkg().Path()) {
		w.complaints = append(w.complaints, fmt.Sprintf("%s mentions %s.%s: users must not depend on it", where, o.Pkg().Path(), o.Name()))
	}
	for i := range args.Len() {
		w.visit(where, args.At(i))
	}
}

// named walks what users reach through a type of the package itself.
func (w *walker) named(where string, t *types.Named) {
	w.visit(where, t.Underlying())
	for m := range t.Methods() {
		if m.Exported() {
			w.visit(where+"."+m.Name(), m.Type())
		}
	}
}

// fakeImports gives planted sources something to mention.
type fakeImports map[string]*types.Package

func (f fakeImports) Import(path string) (*types.Package, error) {
	if f[path] == nil {
		return nil, fmt.Errorf("no package %s", path)
	}
	return f[path], nil
}

func (f fakeImports) check(t *testing.T, path, src string) *types.Package {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "planted.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := types.Config{Importer: f}
	p, err := c.Check(path, fset, []*ast.File{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f[path] = p
	return p
}

func TestExportedPlanted(t *testing.T) {
	imports := fakeImports{}
	const vfs = pebbleModule + "/v2/vfs"
	imports.check(t, vfs, "package vfs\ntype FS interface{ Open() }\n")
	imports.check(t, module+"/store/disk", "package disk\nimport \""+vfs+"\"\ntype FS = vfs.FS\n")
	head := "package p\nimport (\n\"" + vfs + "\"\n\"" + module + "/store/disk\"\n)\nvar _ vfs.FS\nvar _ disk.FS\n"
	for _, bad := range []string{
		"type Config struct { FS vfs.FS }",
		"type Config struct { FS disk.FS }",
		"type Config struct { Of func(string) []map[string]*vfs.FS }",
		"type Config struct { inner }\ntype inner struct { FS vfs.FS }",
		"type FS = vfs.FS",
		"var Default vfs.FS",
		"func Open(fs vfs.FS) {}",
		"func Open() *db { return nil }\ntype db struct{}\nfunc (*db) FS() vfs.FS { return nil }",
		"type DB interface { FS() chan vfs.FS }",
		"type list[T any] []T\nvar L list[vfs.FS]",
	} {
		wantComplaint(t, checkExported(imports.check(t, module+"/p", head+bad)), "pebble")
	}
	for _, good := range []string{
		"type Config struct { fs vfs.FS }",
		"type DB struct{}\nfunc (DB) fs() vfs.FS { return nil }",
		"func open(vfs.FS) {}",
	} {
		report(t, checkExported(imports.check(t, module+"/p", head+good)))
	}
}
