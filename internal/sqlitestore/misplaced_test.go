package sqlitestore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// awaitPlace waits until the store has noticed that its file is misplaced. If misplaced
// is false, it waits until the store has noticed that the file is back in its place.
func awaitPlace(t *testing.T, s *Store, misplaced bool) {
	t.Helper()
	for until := clock.Now().Add(10 * flushEvery); errors.Is(s.Healthy(), errMisplaced) != misplaced; {
		if clock.Now().After(until) {
			t.Fatalf("the store reports %v; want it misplaced: %v", s.Healthy(), misplaced)
		}
		<-time.After(time.Millisecond)
	}
}

// TestFileIsMoved checks that a store refuses calls while its file is not in its place,
// because charges in such a file would be lost when the process ends. The store works
// again when the file is back, but not if another file is in its place.
func TestFileIsMoved(t *testing.T) {
	path := filepath.Join(memoryDir(t), "farebox.db")
	s := opened(t, Options{Path: path})
	o := pair(t, s, 10)
	charge := func() error {
		id := newID("chg_")
		if _, err := s.Reserve(t.Context(), id, o, ledger.Terms{}); err != nil {
			return err
		}
		_, _, err := s.Capture(t.Context(), id, nil)
		return err
	}
	if err := charge(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Skipf("an open file cannot be moved here: %v", err)
	}
	awaitPlace(t, s, true)
	if err := charge(); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("a charge without the file: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.writer.checkPlace(); !errors.Is(err, errMisplaced) {
		t.Errorf("with another file in its place: %v", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	awaitPlace(t, s, false)
	if err := charge(); err != nil {
		t.Errorf("with the file back: %v", err)
	}
	if b := balanceOf(t, s, o.Account); b.Posted != 8 || b.Reserved != 0 {
		t.Errorf("balance %+v; want two charges", b)
	}
	clean(t, s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
