package table

import (
	"strings"
	"testing"
)

type item struct {
	tool  string
	calls int
}

func row(i item) []any { return []any{i.tool, i.calls} }

// TestPrint checks that cells are aligned below their header.
func TestPrint(t *testing.T) {
	var out strings.Builder
	if err := Print(&out, []string{"TOOL", "CALLS"}, []item{{"get_forecast", 3}, {"x", -1}}, row); err != nil {
		t.Fatal(err)
	}
	if want := "TOOL          CALLS\nget_forecast  3\nx             -1\n"; out.String() != want {
		t.Errorf("printed\n%s, want\n%s", out.String(), want)
	}
}

// TestCSV checks that texts are quoted where CSV requires it, that a name that looks
// like a formula is escaped, and that numbers are not changed.
func TestCSV(t *testing.T) {
	var out strings.Builder
	if err := CSV(&out, []string{"tool", "calls"}, []item{{"a,\"b\"", 3}, {"=1+1", -1}, {"", 0}}, row); err != nil {
		t.Fatal(err)
	}
	if want := "tool,calls\n\"a,\"\"b\"\"\",3\n'=1+1,-1\n,0\n"; out.String() != want {
		t.Errorf("printed\n%s, want\n%s", out.String(), want)
	}
}
