package schema

import (
	"testing"
	"testing/fstest"
)

// TestLatest checks that Latest returns the greatest number in the file names, whatever
// the order of the files. A file name without a number is an error. Without files, the
// version is 0.
func TestLatest(t *testing.T) {
	files := fstest.MapFS{"migrations/00010_b.sql": {}, "migrations/00002_a.sql": {}, "other/00011_c.sql": {}}
	if version, err := Latest(files); err != nil || version != 10 {
		t.Errorf("version %d, %v; want 10", version, err)
	}
	if version, err := Latest(fstest.MapFS{}); err != nil || version != 0 {
		t.Errorf("without a file: version %d, %v", version, err)
	}
	files["migrations/first.sql"] = &fstest.MapFile{}
	if version, err := Latest(files); err == nil {
		t.Errorf("a file without a number: version %d", version)
	}
}
