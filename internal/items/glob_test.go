package items

import (
	"path"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestGlobsCrossSlashes checks that "*" matches every tool and "delete_*" every tool
// with that prefix. A rule that requires a scope must not miss a tool because its name
// has a slash.
func TestGlobsCrossSlashes(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "a/b", true}, {"*", "", true}, {"delete_*", "delete_a/b/c", true}, {"*/admin", "a/b/admin", true}, {"a?b", "a/b", true}, {"a[!-~]b", "a/b", true},
		{"a[^x]b", "a/b", true}, {"a[^/]b", "a/b", false}, {"a*b", "a/c", false}, {"*a*b", "xa/yb", true}, {`\*`, "*", true}, {`\*`, "a/b", false}, {"日*", "日/本", true},
	} {
		var table Table[bool]
		if err := table.Add(Item{Name: c.pattern}, true); err != nil {
			t.Fatal(err)
		}
		if _, got := table.Find(Item{Name: c.name}); got != c.want {
			t.Errorf("%q for %q: %v", c.pattern, c.name, got)
		}
	}
}

// FuzzGlobAgainstPath checks that matchGlob agrees with path.Match if there are no
// slashes.
func FuzzGlobAgainstPath(f *testing.F) {
	for _, seed := range [][2]string{{"a*b*c", "aXbYbZc"}, {"[a-c]?\\*", "bx*"}, {"[^a]*", "b"}, {"**", "x"}, {"[]a]", "]"}, {"[\\]]", "]"}, {"[a-", "a"}, {"*é?", "xéy"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if strings.Contains(pattern+name, "/") || !utf8.ValidString(pattern) || !utf8.ValidString(name) {
			return
		}
		want, err := path.Match(pattern, name)
		if _, bad := path.Match(pattern, ""); err != nil || bad != nil {
			return
		}
		if got := matchGlob(pattern, name); got != want {
			t.Errorf("%q for %q: %v, want %v", pattern, name, got, want)
		}
	})
}

func BenchmarkGlob(b *testing.B) {
	for b.Loop() {
		matchGlob("search_*_by_[a-z]*", "search_invoices_by_customer")
	}
}
