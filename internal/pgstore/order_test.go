//go:build unix

package pgstore

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestOrderByID checks that OrderByID finds the order of an open or released
// reservation and of a charge, even after a crash.
func TestOrderByID(t *testing.T) {
	s := fresh(t)
	payer, payee := someKey(t, s, "alice"), someKey(t, s, "acme")
	if _, _, err := s.PostTransaction(t.Context(), ledger.Transaction{ID: "txn_" + uuid.NewString(), Kind: ledger.KindCredit, Creditor: payer.Account, Amount: 1000, Reason: "test"},
		ledger.Audit{Actor: "test", Action: "credit"}); err != nil {
		t.Fatal(err)
	}
	o := ledger.Order{Account: payer.Account, Provider: payee.Account, Key: payer.ID, Lineage: payer.Lineage, Server: "weather", Tool: "prompt:\x00odd", Amount: 10}
	ids := make(map[string]string)
	for _, state := range []string{"open", "released", "captured"} {
		ids[state] = newID("chg_")
		if _, err := s.Reserve(t.Context(), ids[state], o, ledger.Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Release(t.Context(), ids["released"]); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Capture(t.Context(), ids["captured"], nil); err != nil {
		t.Fatal(err)
	}
	s.crash()
	for state, id := range ids {
		if got, err := s.OrderByID(t.Context(), id); err != nil || got != o {
			t.Errorf("%s: %+v, %v", state, got, err)
		}
	}
	for _, id := range []string{"chg_" + uuid.NewString(), "chg_x"} {
		if _, err := s.OrderByID(t.Context(), id); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("%s: %v", id, err)
		}
	}
}
