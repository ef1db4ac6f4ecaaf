//go:build unix

package pgstore

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// empty returns the DSN of a database without tables.
func empty(t *testing.T) (dsn string) {
	t.Helper()
	dsn = cluster.Database(t, template)
	query(t, dsn, `DROP SCHEMA public CASCADE; CREATE SCHEMA public`)
	return dsn
}

// TestNodesStartAtOnce checks that several nodes can open an empty database at once.
func TestNodesStartAtOnce(t *testing.T) {
	long(t)
	dsn := empty(t)
	together(6, func(int) {
		s, err := Open(context.Background(), Options{DSN: dsn, MaxConns: 2})
		if err != nil {
			t.Error(err)
			return
		}
		if err := errors.Join(s.Healthy(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	clean(t, opened(t, Options{DSN: dsn}))
}

// TestMigrateReportsProgress checks that Migrate reports its progress, and that a
// second Migrate changes nothing.
func TestMigrateReportsProgress(t *testing.T) {
	dsn := empty(t)
	var heard []int64
	from, to, err := Migrate(t.Context(), Options{DSN: dsn}, func(done, total int64) { heard = append(heard, done, total) })
	if err != nil || from != 0 || to < 1 || len(heard) != int(2*to) || heard[len(heard)-1] != to {
		t.Fatalf("migrated from %d to %d, %v, heard %v", from, to, err, heard)
	}
	if from, again, err := Migrate(t.Context(), Options{DSN: dsn}, nil); err != nil || from != to || again != to {
		t.Fatalf("migrated again from %d to %d, %v", from, again, err)
	}
}

// TestNewerSchemaIsRefused checks that Open refuses a database of a later version.
func TestNewerSchemaIsRefused(t *testing.T) {
	dsn := cluster.Database(t, template)
	query(t, dsn, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`)
	_, err := Open(t.Context(), Options{DSN: dsn})
	if err == nil || !strings.Contains(err.Error(), "version 99") || errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("opening a newer schema: %v", err)
	}
}

// TestSchemaOfItsOwn checks that two stores in one database share nothing if each
// has its own schema.
func TestSchemaOfItsOwn(t *testing.T) {
	dsn := empty(t)
	a, b := opened(t, Options{DSN: dsn, Schema: "farebox"}), opened(t, Options{DSN: dsn, Schema: `odd "name"`})
	payer := account(t, a, "payer", 100)
	if _, err := b.Account(t.Context(), payer); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("the account of another schema: %v", err)
	}
	account(t, b, "payer", 7)
	if _, _, err := a.Charge(t.Context(), newID("chg_"), order(payer, payer, 100), ledger.Terms{}, nil); err != nil {
		t.Error(err)
	}
	clean(t, a)
	clean(t, b)
}

// TestClosed checks that the methods of a closed store return ErrUnavailable.
func TestClosed(t *testing.T) {
	s := fresh(t)
	payer := account(t, s, "payer", 100)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := s.Reserve(t.Context(), newID("chg_"), order(payer, payer, 1), ledger.Terms{})
	for what, err := range map[string]error{
		"reserving": err, "health": s.Healthy(), "touching": s.TouchKeys(t.Context(), nil),
	} {
		if !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("%s on a closed store: %v", what, err)
		}
	}
	if n := s.OpenReservations(); n != 0 {
		t.Errorf("%d open reservations", n)
	}
}

// TestJournalIsAppendOnly checks that the database itself refuses to update or
// delete rows of the journal and the audit log.
func TestJournalIsAppendOnly(t *testing.T) {
	s := fresh(t)
	account(t, s, "payer", 100)
	for _, text := range []string{
		`UPDATE txn SET amount = 1`, `DELETE FROM txn`, `TRUNCATE txn`, `UPDATE audit SET actor = 'x'`, `DELETE FROM audit`, `TRUNCATE audit`,
	} {
		if _, err := s.pool.Exec(t.Context(), text); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", text, err)
		}
	}
	clean(t, s)
}

// TestVerifyFindsDamage checks that Verify finds each figure that contradicts the
// journal or the reservations.
func TestVerifyFindsDamage(t *testing.T) {
	long(t)
	for _, damage := range []string{
		`UPDATE account SET live = live + 1 WHERE name = 'payer'`,
		`UPDATE account SET test_reserved = 1 WHERE name = 'payer'`,
		`UPDATE spend_counter SET spent = spent + 1 WHERE holder = 0`,
		`UPDATE spend_counter SET held = held + 1 WHERE holder = 1`,
		`DELETE FROM spend_counter WHERE holder = 2`,
		`DELETE FROM reservation`,
		`UPDATE account SET idempotency_keys = 0 WHERE name = 'payer'`,
		`DELETE FROM earning; UPDATE account SET live = 0 WHERE name = 'payee'`,
		`INSERT INTO earning VALUES (1, true, 5)`,
		`ALTER TABLE txn DISABLE TRIGGER ALL; DELETE FROM txn WHERE kind = 5`,
		`ALTER TABLE txn DISABLE TRIGGER ALL; UPDATE txn SET amount = amount - 1 WHERE kind = 5`,
		`ALTER TABLE txn DISABLE TRIGGER ALL; UPDATE txn SET creditor = 99 WHERE kind = 2`,
		`ALTER TABLE txn DISABLE TRIGGER ALL; UPDATE txn SET ref = ref - 1 WHERE kind = 3`,
		`ALTER TABLE txn DISABLE TRIGGER ALL; UPDATE txn SET amount = amount + 50 WHERE kind = 3`,
	} {
		s := fresh(t)
		o := order(account(t, s, "payer", 100), account(t, s, "payee", 0), 20)
		o.Fee, o.FeeTo = 5, account(t, s, "operator", 0)
		c, _, err := s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.PostTransaction(t.Context(), ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: c.ID, Amount: 8}, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Reserve(t.Context(), newID("chg_"), o, ledger.Terms{Idempotency: ledger.Idempotency{Key: "k"}}); err != nil {
			t.Fatal(err)
		}
		clean(t, s)
		query(t, s.o.DSN, damage)
		v, err := s.Verify(t.Context(), nil)
		if err != nil || len(v.Differences) == 0 {
			t.Errorf("after %s verify found %v, %v", damage, v.Differences, err)
		}
	}
}
