package stores

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestCanonical checks that all spellings of a path have one canonical form, also
// before the file exists.
func TestCanonical(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "real"), 0o700), os.Symlink("real", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(dir, "real", "farebox.db")
	check := func() {
		for _, spelling := range []string{"real/farebox.db", "link/farebox.db", "real/../link/./farebox.db"} {
			if got, err := Canonical(filepath.Join(dir, spelling)); err != nil || got != want {
				t.Errorf("%s: %s, %v", spelling, got, err)
			}
		}
	}
	check()
	if err := os.WriteFile(want, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check()
	if err := os.Symlink(want, filepath.Join(dir, "other.db")); err != nil {
		t.Fatal(err)
	}
	if got, err := Canonical(filepath.Join(dir, "other.db")); err != nil || got != want {
		t.Errorf("a link to the file: %s, %v", got, err)
	}
	if got, err := Canonical(filepath.Join(dir, "new", "deep", "f.db")); err != nil || got != filepath.Join(dir, "new", "deep", "f.db") {
		t.Errorf("a file in a directory to be made: %s, %v", got, err)
	}
}
