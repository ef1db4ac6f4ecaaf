//go:build unix

package pgstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/storetest"
)

// TestRareCharges lists a long journal with a filter that few charges pass. The listing
// finds these charges page by page, and no statement reads the whole journal. The test
// also checks that a listing by time does not read older charges.
func TestRareCharges(t *testing.T) {
	dsn := cluster.Database(t, template)
	s := opened(t, Options{DSN: dsn})
	payer, earner := account(t, s, "payer", 0), account(t, s, "earner", 0)
	const n = 2*ledger.MaxScan + ledger.MaxScan/2 // two and a half parts of a list
	query(t, dsn, fmt.Sprintf(`INSERT INTO txn (id, kind, debtor, creditor, amount, test, at, key, lineage, server, tool, day)
		SELECT gen_random_uuid(), 1, p.n, e.n, 1, false, timestamptz '2026-01-02 00:00Z' + i * interval '1 second', 'key_1', 'key_1', 's',
			CASE WHEN i IN (1, %[1]d) THEN 'rare' ELSE 't' END, 0
		FROM generate_series(1, %[1]d) i, account p, account e WHERE p.name = 'payer' AND e.name = 'earner' ORDER BY i`, n))
	first := time.Date(2026, 1, 2, 0, 0, 1, 0, time.UTC)
	for _, f := range []ledger.ChargeFilter{{Tool: "rare"}, {Tool: "rare", Account: payer}, {Tool: "rare", Provider: earner}, {Tool: "rare", Since: first}} {
		charges, parts := storetest.AllCharges(t.Context(), t, s, f)
		var found []time.Time
		for _, c := range charges {
			found = append(found, c.At)
		}
		if len(found) != 2 || !found[1].Equal(first) || found[0].Sub(first) != (n-1)*time.Second || parts != 3 {
			t.Errorf("%+v: found %v in %d parts, want the first and the last in 3", f, found, parts)
		}
	}
	later := ledger.ChargeFilter{Since: first.Add(72 * time.Hour)}
	if list, next, err := s.Charges(t.Context(), later); err != nil || len(list) != 0 || next != "" {
		t.Errorf("a listing of charges days later goes on at %q, with %d charges, %v", next, len(list), err)
	}
}
