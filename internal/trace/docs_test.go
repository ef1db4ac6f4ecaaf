package trace

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// declared returns the values of the constants of a type in names.go.
func declared(t *testing.T, kind string) (values []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "names.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Type.(*ast.Ident).Name == kind {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, value)
		}
		return true
	})
	return values
}

// TestNamesAreDocumented checks that docs/tracing.md lists each span and each attribute
// once, and no others.
func TestNamesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/tracing.md")
	if err != nil {
		t.Fatal(err)
	}
	for kind, row := range map[string]string{"Name": "(?m)^\\| `([a-z]+)` \\| [^|]+\\|$", "Key": "(?m)^\\| `([a-z_.]+)` \\| [^|]+\\| [^|]*\\|$"} {
		var documented []string
		for _, m := range regexp.MustCompile(row).FindAllStringSubmatch(string(page), -1) {
			documented = append(documented, m[1])
		}
		want := declared(t, kind)
		slices.Sort(documented)
		slices.Sort(want)
		if len(want) == 0 || !slices.Equal(documented, want) {
			t.Errorf("the page has %v, the code has %v", documented, want)
		}
	}
}
