//go:build unix

package pgstore

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestVerifyFindsWrongUsage checks that a verification reports each kind of error in
// the sums of usage. It also checks that correct sums are accepted, although they do
// not include the last charge of the journal.
func TestVerifyFindsWrongUsage(t *testing.T) {
	long(t)
	for _, of := range []struct{ name, query string }{
		{"right", `SELECT 1`},
		{"a call too many", `UPDATE usage_sum SET calls = calls + 1 WHERE view = (9 << 3 | 2)`},
		{"a row that is missing", `DELETE FROM usage_sum WHERE view = (1 << 3)`},
		{"a name of another tool", `UPDATE usage_name SET name = 'tool_9' WHERE name = 'tool_1'`},
		{"a cursor that is ahead", `UPDATE usage_state SET cursor = (SELECT max(seq) FROM txn)`},
	} {
		t.Run(of.name, func(t *testing.T) {
			o := Options{DSN: cluster.Database(t, template)}
			s := opened(t, o)
			payer, provider := account(t, s, "payer", 1000), account(t, s, "provider", 0)
			for i := range 6 {
				order := order(payer, provider, 10)
				order.Lineage, order.Tool = fmt.Sprint("key_", i%2), fmt.Sprint("tool_", i%3)
				if _, _, err := s.Charge(context.Background(), newID("chg_"), order, ledger.Terms{}, nil); err != nil {
					t.Fatal(err)
				}
				if i == 4 {
					if _, err := s.SumUsage(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
			}
			query(t, o.DSN, of.query)
			v, err := s.Verify(context.Background(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if found := len(v.Differences) > 0; found != (of.name != "right") {
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

// TestUsageIsSummedUpByOneNode checks that a node sums nothing up while another node
// holds the lock for this work. After the death of the other node, the node sums up the
// charges.
func TestUsageIsSummedUpByOneNode(t *testing.T) {
	o := Options{DSN: cluster.Database(t, template)}
	one, two := opened(t, o), opened(t, o)
	payer, provider := account(t, one, "payer", 1000), account(t, one, "provider", 0)
	if _, _, err := one.Charge(context.Background(), newID("chg_"), order(payer, provider, 10), ledger.Terms{}, nil); err != nil {
		t.Fatal(err)
	}
	conn, err := one.pool.Acquire(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(context.Background(), `BEGIN; SELECT pg_advisory_xact_lock(1180791397, 5)`); err != nil {
		t.Fatal(err)
	}
	if p, err := two.SumUsage(context.Background()); err != nil || p.Summed != 0 || p.Pending == 0 || p.More {
		t.Fatalf("%+v, %v while another node sums up", p, err)
	}
	_ = conn.Conn().Close(context.Background()) // the death of the node would close the connection, too
	conn.Release()
	var p ledger.UsageProgress
	for range 1000 { // the server may need a moment to end the connection
		if p, err = two.SumUsage(context.Background()); err != nil || p.Summed > 0 {
			break
		}
		if _, err = two.pool.Exec(context.Background(), `SELECT pg_sleep(0.01)`); err != nil {
			break
		}
	}
	if err != nil || p.Summed == 0 || p.Pending != 0 {
		t.Fatalf("%+v, %v after its end", p, err)
	}
	clean(t, one)
}
