package archtest

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxLines bounds the lines of a package, without its tests.
const maxLines = 3500

// large lists the packages that may have more than maxLines lines.
var large = []string{"internal/mcp", "internal/sqlitestore", "internal/storetest"}

// TestPackagesStaySmall checks that no package has more than maxLines lines, except for
// a few listed ones. A package that grows beyond the limit usually contains a second
// package that can be moved out.
func TestPackagesStaySmall(t *testing.T) {
	lines := map[string]int{}
	files(t, ".go", func(path, text string) {
		if !strings.HasSuffix(path, "_test.go") {
			lines[filepath.ToSlash(filepath.Dir(path))] += strings.Count(text, "\n")
		}
	})
	for dir, n := range lines {
		name := strings.TrimPrefix(dir, filepath.ToSlash(root)+"/")
		if n > maxLines && !slices.Contains(large, name) {
			t.Errorf("%s has %d lines, at most %d are allowed: move a part of it into a package of its own", name, n, maxLines)
		}
	}
	for _, name := range large {
		if lines[filepath.ToSlash(root)+"/"+name] <= maxLines {
			t.Errorf("%s has become small, so it need not be listed as large", name)
		}
	}
}
