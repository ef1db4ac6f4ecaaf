package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	glossaryRow  = regexp.MustCompile(`(?m)^\| \*\*([^*]+)\*\* \|`)
	glossaryName = regexp.MustCompile("`([a-z]+)\\.([A-Z][A-Za-z]*)`")
)

// TestGlossary checks that each term of docs/glossary.md names an exported
// identifier, and that this identifier exists, so that the docs and the code use the
// same words. It also checks that the terms are in alphabetical order.
func TestGlossary(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "glossary.md"))
	if err != nil {
		t.Fatal(err)
	}
	last, rows := "", 0
	for line := range strings.Lines(string(page)) {
		row := glossaryRow.FindStringSubmatch(line)
		if row == nil {
			continue
		}
		rows++
		if term := strings.ToLower(row[1]); term < last {
			t.Errorf("%q comes after %q", row[1], last)
		} else {
			last = term
		}
		names := glossaryName.FindAllStringSubmatch(line, -1)
		if len(names) == 0 {
			t.Errorf("%q names nothing in the code", row[1])
		}
		for _, name := range names {
			if !exports(t, name[1])[name[2]] {
				t.Errorf("%q: package %s exports no %s", row[1], name[1], name[2])
			}
		}
	}
	if rows < 25 {
		t.Errorf("only %d terms were read", rows)
	}
}

// exports returns the names that a package in internal/ declares at package level, as a
// set.
func exports(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "internal", pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				names[d.Name.Name] = d.Recv == nil || names[d.Name.Name]
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						names[s.Name.Name] = true
					case *ast.ValueSpec:
						for _, id := range s.Names {
							names[id.Name] = true
						}
					}
				}
			}
		}
	}
	return names
}
