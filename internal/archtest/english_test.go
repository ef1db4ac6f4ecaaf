package archtest

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var lower = flag.Bool("lower", false, "write the counts of today into testdata/english.txt where they are lower")

// markers match phrases that are typical of sentences translated word by word. A single
// such phrase can be right, but a file with many of them is hard to read.
var markers = []*regexp.Regexp{
	regexp.MustCompile(`(?i)\bwhat\b`),
	regexp.MustCompile(`(?i)\bwho(m|ever|se)?\b`),
	regexp.MustCompile(`(?i)\b(tell|tells|told|telling)\b`),
	regexp.MustCompile(`(?i)(^|[.,;:] )of\b`),
	regexp.MustCompile(`(?i)\b(is|are|was|were) (none|nobody|nothing|no more|not for|to be)\b`),
}

var commentOf = map[string]*regexp.Regexp{
	".go":  regexp.MustCompile(`(?:^|\s)//(.*)$`),
	".sql": regexp.MustCompile(`--(.*)$`),
}

func countMarkers(t *testing.T, path string) (n int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		found := commentOf[filepath.Ext(path)].FindSubmatch(bytes.TrimRight(line, "\n"))
		if found == nil {
			continue
		}
		for _, m := range markers {
			n += len(m.FindAll(bytes.TrimSpace(found[1]), -1))
		}
	}
	return n
}

const englishFile = "testdata/english.txt"

// TestCommentsReadAsEnglish checks that no file has more markers in its comments than
// testdata/english.txt allows. The budget of a file that is not listed is zero. To
// lower the budgets to the current counts, run
// `go test ./internal/archtest -run English -lower`. Budgets must never rise.
func TestCommentsReadAsEnglish(t *testing.T) {
	budget := readBudget(t)
	counts := make(map[string]int)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// Migrations never change, and neither do their comments.
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git" || d.Name() == "migrations") {
			return filepath.SkipDir
		}
		if !d.IsDir() && commentOf[filepath.Ext(path)] != nil {
			name, err := filepath.Rel(root, path)
			if n := countMarkers(t, path); n > 0 {
				counts[filepath.ToSlash(name)] = n
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[name]; n > budget[name] {
			t.Errorf("%s: %d markers in its comments, %d allowed: put the subject first and name the thing", name, n, budget[name])
		}
	}
	if *lower && !t.Failed() {
		writeBudget(t, counts)
	}
}

func readBudget(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile(englishFile)
	if err != nil {
		t.Fatal(err)
	}
	budget := make(map[string]int)
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		var n int
		var name string
		if _, err := fmt.Sscan(s.Text(), &n, &name); err != nil {
			t.Fatalf("%s: %q: %v", englishFile, s.Text(), err)
		}
		budget[name] = n
	}
	return budget
}

func writeBudget(t *testing.T, counts map[string]int) {
	t.Helper()
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintln(&out, counts[name], name)
	}
	if err := os.WriteFile(englishFile, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
