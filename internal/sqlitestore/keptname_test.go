package sqlitestore

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A store that a restore replaces gets a name that neither a store nor a log of
// an earlier restore has, also within one second.
func TestKeptNameIsFree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "farebox.db")
	at := time.Date(2026, 1, 2, 3, 4, 59, 999, time.UTC)
	for _, want := range []string{"20260102T030459Z", "20260102T030500Z", "20260102T030501Z"} {
		kept, err := keptName(path, at)
		if err != nil || kept != path+".before-restore-"+want {
			t.Fatalf("%s, %v, want %s", kept, err, want)
		}
		if want == "20260102T030500Z" {
			kept += "-wal" // the store was too damaged to take its log
		}
		if err := os.WriteFile(kept, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
