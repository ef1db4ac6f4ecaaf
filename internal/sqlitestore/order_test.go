package sqlitestore

import (
	"errors"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestOrderByID checks that OrderByID finds reservations in every state. After a
// crash, which forgets reservations, it still finds charges.
func TestOrderByID(t *testing.T) {
	s := fresh(t)
	o := pair(t, s, 1000)
	open, released, captured := newID("chg_"), newID("chg_"), newID("chg_")
	for _, charge := range []string{open, released, captured} {
		if _, err := s.Reserve(t.Context(), charge, o, ledger.Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Release(t.Context(), released); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Capture(t.Context(), captured, nil); err != nil {
		t.Fatal(err)
	}
	check := func(s *Store, charge string, want error) {
		t.Helper()
		switch got, err := s.OrderByID(t.Context(), charge); {
		case !errors.Is(err, want):
			t.Errorf("%v, want %v", err, want)
		case err == nil && got != o:
			t.Errorf("%+v, want %+v", got, o)
		}
	}
	for _, charge := range []string{open, released, captured} {
		check(s, charge, nil)
	}
	check(s, newID("chg_"), ledger.ErrNotFound)
	check(s, "chg_x", ledger.ErrNotFound)
	again := opened(t, Options{Path: crashed(t, s)})
	check(again, captured, nil)
	check(again, open, ledger.ErrNotFound)
}
