package walls

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The numbers of CONTRIBUTING.md.
const (
	maxFileLines   = 600
	maxMedianLines = 150
	maxFuncLines   = 70
)

// TestPackageDocs: every package has exactly one doc comment.
func TestPackageDocs(t *testing.T) {
	for _, p := range packages(t) {
		files := p.GoFiles
		if len(files) == 0 {
			files = p.TestGoFiles
		}
		var docs []string
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				docs = append(docs, name)
			}
		}
		if len(docs) != 1 {
			t.Errorf("%s has %d package comments %v, want one", p.ImportPath, len(docs), docs)
		}
	}
}

// TestSizes: files are of one concept, functions can be read at a glance.
func TestSizes(t *testing.T) {
	var sizes []int
	for _, p := range packages(t) {
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles) {
			path := filepath.Join(p.Dir, name)
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			n := bytes.Count(src, []byte("\n"))
			if n > maxFileLines {
				t.Errorf("%s has %d lines, more than %d", path, n, maxFileLines)
			}
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			sizes = append(sizes, n)
			longFunctions(t, path, src)
		}
	}
	slices.Sort(sizes)
	if median := sizes[len(sizes)/2]; median > maxMedianLines {
		t.Errorf("the median file has %d lines, more than %d", median, maxMedianLines)
	}
}

func longFunctions(t *testing.T, path string, src []byte) {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, src, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > maxFuncLines {
				t.Errorf("%s: %s has %d lines, more than %d", path, fn.Name.Name, n, maxFuncLines)
			}
		}
	}
}

// TestNames: no rooms that mean nothing, and nothing at the top that the project did not choose.
func TestNames(t *testing.T) {
	for _, p := range packages(t) {
		for _, bad := range []string{"util", "utils", "common", "helpers", "misc", "pkg"} {
			if slices.Contains(strings.Split(p.ImportPath, "/"), bad) {
				t.Errorf("%s: %q says nothing about what is inside", p.ImportPath, bad)
			}
		}
	}
	chosen := []string{
		"cmd", "backup", "restore", "membership", "go.mod", "go.sum", "Makefile", "systemd", "integration", "docs", "internal",
		".ci", ".git", ".gitignore", ".golangci.yml", "LICENSE", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bin", ".cache",
	}
	top, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range top {
		if !slices.Contains(chosen, e.Name()) {
			t.Errorf("%s stands at the top of the repository, where only %v may", e.Name(), chosen)
		}
	}
}

// TestNoPlaces: the repository names no machine's paths.
func TestNoPlaces(t *testing.T) {
	for _, p := range packages(t) {
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles) {
			src, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range []string{"/wo" + "rk/", "/root" + "/go", "proxy.golang" + ".org"} {
				if bytes.Contains(src, []byte(bad)) {
					t.Errorf("%s/%s names %q", p.ImportPath, name, bad)
				}
			}
		}
	}
}
