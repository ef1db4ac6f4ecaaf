package archtest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

var (
	namedTest   = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)`")
	definedTest = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)\(`)
	link        = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// files calls do(path, text) for each file in the tree with a name that ends in suffix.
func files(t *testing.T, suffix string, do func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || len(entry.Name()) > 2 && entry.Name()[0] == '.'):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, suffix):
			return nil
		}
		text, err := os.ReadFile(path)
		do(path, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDocumentsNameTests checks that each test named in a document exists in the tree,
// and that each promise in docs/promises.md names at least one test.
func TestDocumentsNameTests(t *testing.T) {
	defined := map[string]bool{}
	files(t, "_test.go", func(_, text string) {
		for _, m := range definedTest.FindAllStringSubmatch(text, -1) {
			defined[m[1]] = true
		}
	})
	files(t, ".md", func(path, text string) {
		for _, m := range namedTest.FindAllStringSubmatch(text, -1) {
			if !defined[m[1]] {
				t.Errorf("%s names %s, which is not in the tree", path, m[1])
			}
		}
	})
	page, err := os.ReadFile(filepath.Join(root, "docs", "promises.md"))
	if err != nil {
		t.Fatal(err)
	}
	promises := strings.Split(string(page), "\n## ")[1:]
	if len(promises) != 11 {
		t.Errorf("%d promises", len(promises))
	}
	for _, promise := range promises {
		title, _, _ := strings.Cut(promise, "\n")
		if !namedTest.MatchString(promise) {
			t.Errorf("nothing is named to prove %q", title)
		}
		for _, part := range []string{"- **How**", "- **Proved by**", "- **Costs**", "- **Ends**"} {
			if !strings.Contains(promise, part) {
				t.Errorf("%q has no %s", title, part)
			}
		}
	}
}

// TestLinksOfDocuments checks that each link in a document leads to an existing file
// and heading.
func TestLinksOfDocuments(t *testing.T) {
	files(t, ".md", func(path, text string) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, heading, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue // links to other sites are not checked
			}
			file := path
			if target != "" {
				file = filepath.Join(filepath.Dir(path), target)
			}
			info, err := os.Stat(file)
			if errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %s leads nowhere", path, m[1])
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if heading == "" || info.IsDir() {
				continue
			}
			page, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !anchors(string(page))[heading] {
				t.Errorf("%s: %s names a heading that is not there", path, m[1])
			}
		}
	})
}

var notInAnchors = regexp.MustCompile(`[^a-z0-9 _-]`)

// anchors returns the names that links use for the headings of a page.
func anchors(page string) map[string]bool {
	names := map[string]bool{}
	for line := range strings.Lines(page) {
		if heading := strings.TrimLeft(line, "#"); heading != line {
			name := notInAnchors.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			names[strings.ReplaceAll(name, " ", "-")] = true
		}
	}
	return names
}
