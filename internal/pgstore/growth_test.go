//go:build unix

package pgstore

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/storetest"
)

var growthCharges = flag.Int("growth", 0, "how many charges TestGrowth makes; 0 for a few")

// grow inserts charges of 1,000 accounts, spread over the last 500 days. It writes
// the same rows as the store: ids of version 7 with the time of the charge, spend
// counters for each day, and balances.
const grow = `
	INSERT INTO txn (id, kind, debtor, creditor, amount, test, at, key, lineage, server, tool, day)
	SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid,
		1, 3 + i %% 1000, 2, 1000, false, at, 'key_0190b7a2-5b1c-7d3e-8f40-' || lpad((i %% 1000)::text, 12, '0'), 'key_0190b7a2-5b1c-7d3e-8f40-' || lpad((i %% 1000)::text, 12, '0'),
		'server-' || i %% 10, 'tool_number_' || i %% 20, (at AT TIME ZONE 'UTC')::date - DATE '1970-01-01'
	FROM (SELECT i, clock_timestamp() - interval '500 days' + i * (interval '500 days' / %[1]d) AS at FROM generate_series(0, %[1]d - 1) i) x ORDER BY i;
	INSERT INTO spend_counter (account, holder, name, test, day, spent, held, free, waiting)
	SELECT debtor, h.holder, h.name, false, day, sum(amount), 0, 0, 0
		FROM txn CROSS JOIN LATERAL (VALUES (0::smallint, lineage), (1, ''), (2, server)) AS h (holder, name) WHERE kind = 1 GROUP BY debtor, h.holder, h.name, day;
	UPDATE account SET live = live - s.sum FROM (SELECT debtor, sum(amount) FROM txn WHERE kind = 1 GROUP BY debtor) s WHERE n = s.debtor;
	UPDATE account SET live = live + (SELECT sum(amount) FROM txn WHERE kind = 1) WHERE n = 2;
	ANALYZE;`

// TestGrowth measures the size of charges and the duration of a start, a
// verification and a listing. Without -growth it makes 2,000 charges, and checks
// that they verify.
func TestGrowth(t *testing.T) {
	long(t)
	charges := *growthCharges
	if charges == 0 {
		charges = 2000
	}
	dsn := cluster.Database(t, template)
	s, err := Open(t.Context(), Options{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	account(t, s, "provider", 0)
	for i := range 1000 {
		a := ledger.Account{ID: newID("acct_"), Name: fmt.Sprint("account-", i), CreditLimit: 1 << 40}
		if err := s.CreateAccount(t.Context(), a, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	began := clock.Now()
	query(t, dsn, fmt.Sprintf(grow, charges))
	t.Logf("%d charges made in %v", charges, clock.Since(began).Round(time.Millisecond))
	measureGrowth(t, dsn, charges, "whole")
}

func measureGrowth(t *testing.T, dsn string, charges int, what string) *Store {
	t.Helper()
	before, began := storetest.Resident(t), clock.Now()
	s := opened(t, Options{DSN: dsn})
	opening := clock.Since(began)
	after := storetest.Resident(t)
	began = clock.Now()
	if _, _, err := s.Charges(t.Context(), ledger.ChargeFilter{}); err != nil {
		t.Fatal(err)
	}
	listing := clock.Since(began)
	began = clock.Now()
	v := clean(t, s)
	verifying := clock.Since(began)
	var journal, meters int64
	err := s.db.Row(context.Background(), `SELECT pg_total_relation_size('txn'), pg_total_relation_size('spend_counter')`, nil, &journal, &meters)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: journal %d bytes (%.0f a charge), meters %d (%.0f); start %v, %+d KiB; list of 500 %v; verify %d transactions in %v, %+d KiB",
		what, journal, float64(journal)/float64(charges), meters, float64(meters)/float64(charges), opening.Round(time.Millisecond), (after-before)>>10,
		listing.Round(100*time.Microsecond), v.Transactions, verifying.Round(time.Millisecond), (storetest.Resident(t)-after)>>10)
	return s
}
