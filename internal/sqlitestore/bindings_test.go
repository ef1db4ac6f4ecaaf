package sqlitestore

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestBindingsAreSwept checks that the store deletes expired bindings from the
// file, and keeps the others.
func TestBindingsAreSwept(t *testing.T) {
	t.Parallel()
	var c fakeClock
	s := opened(t, Options{Path: filepath.Join(memoryDir(t), "farebox.db"), Now: c.now})
	for i := range maxBindingsPerSweep + 1 {
		b := ledger.Binding{HandleHash: ledger.HandleHash{byte(i >> 8), byte(i)}, Account: "a", Until: c.now().Add(time.Hour)}
		if i == 0 {
			b.Until = b.Until.Add(time.Hour)
		}
		if err := s.Bind(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	c.advance(time.Hour)
	deadline := clock.Now().Add(20 * time.Second)
	for left := 0; left != 1; {
		if err := s.inspect(t.Context(), func(tx *tx) error {
			return tx.queryRow(`SELECT count(*) FROM binding`).Scan(&left)
		}); err != nil {
			t.Fatal(err)
		}
		if clock.Now().After(deadline) {
			t.Fatalf("%d bindings are left", left)
		}
	}
	if _, err := s.Binding(t.Context(), "", ledger.HandleHash{}); err != nil {
		t.Errorf("the one that has not ended: %v", err)
	}
}
