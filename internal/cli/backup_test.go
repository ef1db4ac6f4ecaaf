package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
)

// TestWriteWhole checks that a file is either created with its whole content, readable
// only by its owner, or not created at all. An existing file is kept unless force is set. No temporary file is
// left behind.
func TestWriteWhole(t *testing.T) {
	errFull := errors.New("no space left on device")
	text := func(s string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
	}
	for name, c := range map[string]struct {
		before string // the file's content before; "" if there is no file
		force  bool
		write  func(file string) func(io.Writer) error
		after  string
		wrong  string // a part of the error; "" for success
	}{
		"new":            {write: func(string) func(io.Writer) error { return text("new") }, after: "new"},
		"there":          {before: "old", write: func(string) func(io.Writer) error { return text("new") }, after: "old", wrong: "exists already"},
		"there, forced":  {before: "old", force: true, write: func(string) func(io.Writer) error { return text("new") }, after: "new"},
		"breaks off":     {write: func(string) func(io.Writer) error { return func(io.Writer) error { return errFull } }, wrong: "no space"},
		"breaks, forced": {before: "old", force: true, write: func(string) func(io.Writer) error { return func(io.Writer) error { return errFull } }, after: "old", wrong: "no space"},
		"comes meanwhile": {write: func(file string) func(io.Writer) error {
			return func(w io.Writer) error {
				return errors.Join(text("new")(w), os.WriteFile(file, []byte("other"), 0o600))
			}
		}, after: "other", wrong: "exists already"},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "backup.db")
		if c.before != "" {
			if err := os.WriteFile(file, []byte(c.before), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		err := writeWhole(file, c.force, c.write(file))
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: error is %v, want %q", name, err, c.wrong)
		}
		got, err := os.ReadFile(file)
		if string(got) != c.after || (err == nil) != (c.after != "") {
			t.Errorf("%s: the file has %q, %v", name, got, err)
		}
		if info, err := os.Stat(file); c.wrong == "" && (err != nil || info.Mode().Perm() != 0o600) {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}

// TestReceive checks that only content of the announced length and SHA-256 is
// accepted.
func TestReceive(t *testing.T) {
	const content = "all of a store"
	sum := sha256.Sum256([]byte(content))
	for name, c := range map[string]struct{ sent, wrong string }{
		"whole":   {content, ""},
		"cut":     {content[:5], "broke off after 5 of 14 bytes"},
		"changed": {strings.ToUpper(content), "damaged on its way"},
		"nothing": {"", "broke off after 0 of 14 bytes"},
	} {
		var got bytes.Buffer
		head := admin.BackupView{Size: int64(len(content)), Sum: hex.EncodeToString(sum[:])}
		reported := int64(0)
		err := receive(&got, strings.NewReader(c.sent), &head, func(done, total int64) { reported = done })
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: error is %v, want %q", name, err, c.wrong)
		}
		if got.String() != c.sent || reported != int64(len(c.sent)) {
			t.Errorf("%s: got %q, %d bytes reported", name, got.String(), reported)
		}
	}
}
