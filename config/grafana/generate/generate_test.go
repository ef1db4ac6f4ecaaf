package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDashboardsAreGenerated checks that the committed dashboards are those that
// this program makes, and that there are no others.
func TestDashboardsAreGenerated(t *testing.T) {
	const folder = "../dashboards"
	for _, b := range boards {
		want, err := b.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(folder, b.file()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf(`%s differs: run "make dashboards"`, b.file())
		}
	}
	files, err := filepath.Glob(folder + "/*")
	if err != nil || len(files) != len(boards) {
		t.Errorf("%d files for %d dashboards, %v", len(files), len(boards), err)
	}
}

// selector matches the name of a gateway's metric, and the matchers after the name.
var selector = regexp.MustCompile(`\b((?:farebox|process|go|caddy)_[a-z_]+|up)\{([^}]*)`)

// bare matches the name of a gateway's metric that has no matchers after it.
var bare = regexp.MustCompile(`\b(?:farebox|process|go|caddy)_[a-z_]+\b[^{a-z_]`)

// variable matches a variable that was not replaced.
var variable = regexp.MustCompile(`<[a-z]+>|\[[a-z]+\]`)

// TestPanels checks that each panel has a title, a description, a unit and queries,
// that each query uses the variables of its dashboard, and that the panels of each row
// fill its width.
func TestPanels(t *testing.T) {
	for _, b := range boards {
		seen := map[string]bool{}
		for _, r := range b.rows {
			width, height := uint32(0), uint32(0)
			for _, p := range r.panels {
				where := b.title + ", " + p.title
				if seen[p.title] {
					t.Errorf("%s: there are two", where)
				}
				seen[p.title] = true
				if !strings.HasSuffix(p.description, ".") || p.unit == "" || len(p.queries) == 0 || p.title == "" {
					t.Errorf("%s: a panel needs a title, a description with a period, a unit and queries", where)
				}
				if width%24 == 0 {
					height = p.height
				}
				if p.height != height || width%24+p.width > 24 {
					t.Errorf("%s: it does not fit into its line", where)
				}
				width += p.width
				for _, q := range p.queries {
					checkExpression(t, where, b, q.expr)
					if p.shape == lines && q.legend == "" {
						t.Errorf("%s: its series have no names", where)
					}
				}
			}
			if width%24 != 0 {
				t.Errorf("%s, %s: the last line has a gap", b.title, r.title)
			}
		}
	}
}

func checkExpression(t *testing.T, where string, b board, expr string) {
	t.Helper()
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		ok := strings.Contains(m[2], "<node>") || b.servers && strings.Contains(m[2], "<server>") || b.money && strings.Contains(m[2], "<money>")
		if !ok {
			t.Errorf("%s: %s has no matchers of the dashboard's variables in %s", where, m[1], expr)
		}
	}
	if found := bare.FindString(expr); found != "" {
		t.Errorf("%s: %q has no matchers in %s", where, found, expr)
	}
	if rest := variable.FindString(expand.Replace(expr)); rest != "" {
		t.Errorf("%s: there is no variable %s", where, rest)
	}
}

// TestTablesNameTheirColumns checks that each column of a table shows a query of the
// same table, or a label of one of its queries.
func TestTablesNameTheirColumns(t *testing.T) {
	for _, b := range boards {
		for _, r := range b.rows {
			for _, p := range r.panels {
				for _, c := range p.columns {
					known := c.letter == "" && strings.Contains(p.queries[0].expr, c.label)
					for i := range p.queries {
						known = known || c.letter == letter(i)
					}
					if !known {
						t.Errorf("%s, %s: the column %s shows nothing", b.title, p.title, c.title)
					}
				}
			}
		}
	}
}
