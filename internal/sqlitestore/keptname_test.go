package sqlitestore

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestKeptNameIsFree checks the name under which a restore keeps the replaced store.
// The name is not that of a store or log kept by an earlier restore, even if both
// restores happen within one second.
func TestKeptNameIsFree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "farebox.db")
	at := time.Date(2026, 1, 2, 3, 4, 59, 999, time.UTC)
	for _, want := range []string{"20260102T030459Z", "20260102T030500Z", "20260102T030501Z"} {
		kept, err := keptName(path, at)
		if err != nil || kept != path+".before-restore-"+want {
			t.Fatalf("%s, %v, want %s", kept, err, want)
		}
		if want == "20260102T030500Z" {
			kept += "-wal" // an earlier restore kept a log that it could not fold into a damaged store
		}
		if err := os.WriteFile(kept, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
