package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// usageStore returns a store with charges, a refund and a fee. Some of these
// transactions are in the sums of usage, and some are not yet.
func usageStore(t *testing.T) *Store {
	t.Helper()
	s, ctx := fresh(t), context.Background()
	var ids []string
	for _, name := range []string{"payer", "provider", "operator"} {
		a := ledger.Account{ID: newID("acct_"), Name: name, CreditLimit: 1 << 40}
		if err := s.CreateAccount(ctx, a, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, a.ID)
	}
	for i := range 6 {
		o := ledger.Order{Account: ids[0], Provider: ids[1], Key: "key_1", Lineage: fmt.Sprint("key_", i%2), Server: "weather", Tool: fmt.Sprint("tool_", i%3), Amount: 100, Fee: 10, FeeTo: ids[2]}
		c, _, err := s.Charge(ctx, newID("chg_"), o, ledger.Terms{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			if _, _, err := s.PostTransaction(ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: c.ID, Amount: 30, Reason: "test"}, ledger.Audit{}); err != nil {
				t.Fatal(err)
			}
		}
		if i == 4 {
			if _, err := s.SumUsage(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

// TestVerifyFindsWrongUsage checks that a verification reports each kind of error in
// the sums of usage. It also checks that correct sums are accepted, whether or not they
// include the whole journal.
func TestVerifyFindsWrongUsage(t *testing.T) {
	t.Parallel()
	for _, of := range []struct{ name, query string }{
		{"", `SELECT 1`},
		{"a call too many", `UPDATE usage_sum SET calls = calls + 1 WHERE view = 9 << 3 | 2`},
		{"an amount in another row", `UPDATE usage_sum SET charged = charged + CASE WHEN x = 1 THEN 5 ELSE -5 END WHERE view = 8 << 3 | 2`},
		{"a row that is missing", `DELETE FROM usage_sum WHERE view = 1 << 3`},
		{"sums of another environment", `UPDATE usage_sum SET view = view | 1 WHERE view >> 3 = 7`},
		{"two keys that have changed their names", `UPDATE usage_key SET lineage = CASE lineage WHEN 'key_0' THEN 'key_9' ELSE 'key_0' END WHERE lineage IN ('key_0', 'key_1')`},
		{"a name of another tool", `UPDATE usage_name SET name = 'tool_9' WHERE name = 'tool_1'`},
		{"another account of a key", `UPDATE usage_key SET account = 3 WHERE lineage = 'key_1'`},
		{"a cursor that is ahead", `UPDATE usage_state SET cursor = (SELECT max(seq) FROM txn)`},
		{"a cursor that is behind", `UPDATE usage_state SET cursor = 1`},
		{"a returned fee that is missing", `UPDATE usage_sum SET fee_returned = 0 WHERE view = 12 << 3 | 4`},
	} {
		t.Run(of.name, func(t *testing.T) {
			s := usageStore(t)
			write(t, s, of.query)
			v, err := s.Verify(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if found := len(v.Differences) > 0; found != (of.name != "") {
				t.Fatalf("differences: %q", v.Differences)
			}
			for _, d := range v.Differences {
				if !strings.HasPrefix(d, "usage of ") {
					t.Errorf("%q is not about usage", d)
				}
			}
		})
	}
}

// TestUsageIsBuiltAnew changes the sums of usage, and then runs the statements by which
// docs/runbook.md rebuilds them. It checks that reports and verifications are right at
// once, and stay so while the sums are rebuilt from the journal.
func TestUsageIsBuiltAnew(t *testing.T) {
	t.Parallel()
	s := usageStore(t)
	report := func() string {
		r, err := s.UsageReport(t.Context(), ledger.UsageQuery{Group: ledger.GroupKey, By: ledger.ByMonth})
		if err != nil || !r.Complete {
			t.Fatalf("%+v, %v", r, err)
		}
		return fmt.Sprint(r.Rows)
	}
	want := report()
	write(t, s, `UPDATE usage_sum SET calls = calls + 1`)
	write(t, s, `DELETE FROM usage_sum`)
	write(t, s, `UPDATE usage_state SET cursor = 0, cursor_at = 0, hours_from = 0`)
	for range 2 {
		if got := report(); got != want {
			t.Fatalf("the report is %s, want %s", got, want)
		}
		if v, err := s.Verify(t.Context(), nil); err != nil || len(v.Differences) > 0 {
			t.Fatalf("%v, %q", err, v.Differences)
		}
		if _, err := s.SumUsage(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestArchiveWaitsForUsage checks that a trigger in the database refuses to archive
// transactions that are not in the sums of usage yet.
func TestArchiveWaitsForUsage(t *testing.T) {
	t.Parallel()
	s := usageStore(t)
	insert := func(last string) error {
		return s.do(context.Background(), func(x *tx) error {
			_, err := x.exec(`INSERT INTO archive (n, at, first_seq, last_seq, last_at, transactions, charges, last_day, last_id, sum)
				SELECT 1, 0, 1, ` + last + `, 0, 1, 0, 0, zeroblob(16), zeroblob(32)`)
			return errors.Join(err, errRollBack)
		})
	}
	if err := insert(`(SELECT max(seq) FROM txn)`); err == nil || !strings.Contains(err.Error(), "not summed up yet") {
		t.Fatalf("the whole journal: %v", err)
	}
	if err := insert(`(SELECT cursor FROM usage_state)`); !errors.Is(err, errRollBack) || strings.Contains(err.Error(), "summed") {
		t.Fatalf("up to the cursor: %v", err)
	}
}

var errRollBack = errors.New("the test rolls back")

// TestUsageOfAnOlderStore checks a store with charges from before the schema had
// sums of usage. Reports have these charges at once, and still have them after SumUsage
// has summed them up.
func TestUsageOfAnOlderStore(t *testing.T) {
	t.Parallel()
	s := opened(t, Options{Path: older(t, 7), Now: func() time.Time { return olderAt.Add(time.Minute) }})
	check := func() {
		t.Helper()
		r, err := s.UsageReport(t.Context(), ledger.UsageQuery{Group: ledger.GroupKey, By: ledger.ByMonth})
		if err != nil {
			t.Fatal(err)
		}
		if !r.Complete || len(r.Rows) != 1 || r.Rows[0].Calls != 4 || r.Rows[0].Free != 1 || r.Rows[0].Charged != 300 || r.Rows[0].RefundCount != 1 || r.Rows[0].Key != "key_1" {
			t.Fatalf("the report is %+v", r)
		}
		v, err := s.Verify(t.Context(), nil)
		if err != nil || len(v.Differences) > 0 {
			t.Fatalf("%v, %q", err, v.Differences)
		}
	}
	check()
	p, err := s.SumUsage(t.Context())
	if err != nil || p.Summed == 0 || p.More || p.Pending != 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	check()
}
