//go:build unix

package pgstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/storetest"
)

// growUsage inserts the charges of a storetest.UsageHistory, and updates the balances
// and spend counters accordingly.
const growUsage = `
	INSERT INTO txn (id, kind, debtor, creditor, amount, test, at, key, lineage, server, tool, day)
	SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid,
		1, 3 + k %% %[3]d, 2, 1000, false, at, 'key_0190b7a2-5b1c-7d3e-8f40-' || lpad(k::text, 12, '0'), 'key_0190b7a2-5b1c-7d3e-8f40-' || lpad(k::text, 12, '0'),
		'server-' || i %% %[4]d, 'tool_number_' || i / %[4]d %% %[5]d, (at AT TIME ZONE 'UTC')::date - DATE '1970-01-01'
	FROM (SELECT i, (i::bigint * 7919) %% %[2]d AS k, timestamptz '%[6]s' + i * (interval '365 days' / %[1]d) AS at FROM generate_series(0, %[1]d - 1) i) x ORDER BY i;
	INSERT INTO spend_counter (account, holder, name, test, day, spent, held, free, waiting)
	SELECT debtor, h.holder, h.name, false, day, sum(amount), 0, 0, 0
		FROM txn CROSS JOIN LATERAL (VALUES (0::smallint, lineage), (1, ''), (2, server)) AS h (holder, name) WHERE kind = 1 GROUP BY debtor, h.holder, h.name, day;
	UPDATE account SET live = live - s.sum FROM (SELECT debtor, sum(amount) FROM txn WHERE kind = 1 GROUP BY debtor) s WHERE n = s.debtor;
	UPDATE account SET live = live + (SELECT sum(amount) FROM txn WHERE kind = 1) WHERE n = 2;
	ANALYZE;`

// TestUsageGrowth measures reports over a year of charges. With -growth 1000000, each
// must take less than 100 ms. Without this flag, the history is short, and the test
// only checks that reports succeed and that the sums agree with the journal.
func TestUsageGrowth(t *testing.T) {
	long(t)
	charges, limit := *growthCharges, 100*time.Millisecond
	if charges == 0 {
		charges, limit = 2000, 0
	}
	dsn := cluster.Database(t, template)
	s := opened(t, Options{DSN: dsn})
	h := storetest.UsageYear(charges, clock.Now())
	provider := account(t, s, "provider", 0)
	var payers []string
	for i := range h.Accounts {
		a := ledger.Account{ID: newID("acct_"), Name: fmt.Sprint("account-", i), CreditLimit: 1 << 40}
		if err := s.CreateAccount(t.Context(), a, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
		payers = append(payers, a.ID)
	}
	query(t, dsn, fmt.Sprintf(growUsage, h.Charges, h.Keys, h.Accounts, h.Servers, h.Tools, h.Begin.UTC().Format("2006-01-02 15:04:05Z07:00")))
	began, steps, longest := clock.Now(), 0, time.Duration(0)
	for more := true; more; steps++ {
		step := clock.Now()
		p, err := s.SumUsage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		more, longest = p.More, max(longest, clock.Since(step))
	}
	took := clock.Since(began)
	t.Logf("%d charges summed up in %v (%v each), %d steps, the longest %v", charges, took.Round(time.Millisecond), (took / time.Duration(charges)).Round(100*time.Nanosecond), steps, longest)
	var size int64
	if err := s.db.Row(t.Context(), `SELECT pg_total_relation_size('usage_sum') + pg_total_relation_size('usage_key')`, nil, &size); err != nil {
		t.Fatal(err)
	}
	t.Logf("the sums have %d bytes (%d a charge)", size, size/int64(charges))
	storetest.MeasureUsage(t, s, h, payers, provider, limit)
	began = clock.Now()
	clean(t, s)
	t.Logf("verified in %v", clock.Since(began).Round(time.Millisecond))
}
