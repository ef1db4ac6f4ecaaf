package sqlitestore

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestKeptNameIsFree checks that a replaced store gets a name that no store or
// log of an earlier restore has, even within one second.
func TestKeptNameIsFree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "farebox.db")
	at := time.Date(2026, 1, 2, 3, 4, 59, 999, time.UTC)
	for _, want := range []string{"20260102T030459Z", "20260102T030500Z", "20260102T030501Z"} {
		kept, err := keptName(path, at)
		if err != nil || kept != path+".before-restore-"+want {
			t.Fatalf("%s, %v, want %s", kept, err, want)
		}
		if want == "20260102T030500Z" {
			kept += "-wal" // a log that could not be folded into a damaged store
		}
		if err := os.WriteFile(kept, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
