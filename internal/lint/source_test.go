package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/replkv/replkv"
	root   = "../.."
)

// pkg is a package of the root module: its files without tests, for all
// platforms.
type pkg struct {
	dir   string // relative to the module's root, "." for the root package
	fset  *token.FileSet
	files []*ast.File
}

// in says whether the package is dir or lies below it.
func (p pkg) in(dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return p.dir == d || strings.HasPrefix(p.dir, d+"/") })
}

// imports returns the import paths of all files, sorted.
func (p pkg) imports() []string {
	var out []string
	for _, f := range p.files {
		for _, i := range f.Imports {
			if name, err := strconv.Unquote(i.Path.Value); err == nil {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// repository parses all packages of the root module.
func repository(t *testing.T) []pkg {
	t.Helper()
	found := map[string]*pkg{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipDir(name, d.Name()):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		dir = filepath.ToSlash(dir)
		if found[dir] == nil {
			found[dir] = &pkg{dir: dir, fset: token.NewFileSet()}
		}
		p := found[dir]
		f, err := parser.ParseFile(p.fset, name, nil, parser.ParseComments)
		p.files = append(p.files, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []pkg
	for _, p := range found {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b pkg) int { return strings.Compare(a.dir, b.dir) })
	if len(out) < 5 {
		t.Fatalf("only %d packages found: is %s the module's root?", len(out), root)
	}
	return out
}

// skipDir leaves out what is not of the root module.
func skipDir(name, base string) bool {
	if name == root {
		return false
	}
	_, err := os.Stat(filepath.Join(name, "go.mod"))
	return err == nil || base == "testdata" || base == "replkv-data" || strings.HasPrefix(base, ".")
}

// planted is a package made up to break a rule.
func planted(t *testing.T, dir, src string) pkg {
	t.Helper()
	p := pkg{dir: dir, fset: token.NewFileSet()}
	f, err := parser.ParseFile(p.fset, path.Join(dir, "planted.go"), src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	p.files = []*ast.File{f}
	return p
}

// report fails the test for each complaint.
func report(t *testing.T, complaints []string) {
	t.Helper()
	for _, c := range complaints {
		t.Error(c)
	}
}

// wantComplaint expects a complaint that holds text.
func wantComplaint(t *testing.T, complaints []string, text string) {
	t.Helper()
	if !slices.ContainsFunc(complaints, func(c string) bool { return strings.Contains(c, text) }) {
		t.Errorf("no complaint about %q, but %q", text, complaints)
	}
}
