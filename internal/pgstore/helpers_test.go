//go:build unix

package pgstore

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgtest"
	"github.com/fareboxhq/farebox/internal/storetest"
)

// cluster is the server of all tests that do not need to stop their server.
var cluster pgtest.Cluster

func TestMain(m *testing.M) {
	if os.Getenv(nodeDSN) != "" {
		fmt.Fprintln(os.Stderr, runNode())
		os.Exit(1)
	}
	cluster.Main(m)
}

// template migrates the database from which the databases of the tests are cloned.
func template(ctx context.Context, dsn string) error {
	_, _, err := Migrate(ctx, Options{DSN: dsn}, nil)
	return err
}

// opened opens a store, and closes it when the test ends.
func opened(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func fresh(t testing.TB) *Store {
	t.Helper()
	return opened(t, Options{DSN: cluster.Database(t, template)})
}

// crash cuts the store's connections without waiting for operations, as the end of a
// killed process would.
func (s *Store) crash() {
	for _, l := range []*batcher{s.reserves, s.settles} {
		l.pool.Reset()
	}
	s.pool.Reset()
}

// suiteBegins is the time at which the clock of the suite starts, two days before
// the end of a month.
var suiteBegins = time.Date(2030, 1, 30, 9, 0, 0, 0, time.UTC)

// harness opens a store on a database of its own. The clock moves only when a test
// advances it, so that a failed run can be repeated.
func harness(t *testing.T) storetest.Harness {
	t.Helper()
	var ahead atomic.Int64
	now := func() time.Time { return suiteBegins.Add(time.Duration(ahead.Load())) }
	var warnings struct {
		sync.Mutex
		list []ledger.Cap
	}
	o := Options{
		DSN: cluster.Database(t, template), Shift: func() time.Duration { return now().Sub(time.Unix(0, 0)) }, Remember: 100 * 365 * 24 * time.Hour,
		NearCap: func(c ledger.Cap) {
			warnings.Lock()
			defer warnings.Unlock()
			warnings.list = append(warnings.list, c)
		},
	}
	reports := new(storetest.Reports)
	o.Audited = reports.Add
	query(t, o.DSN, `CREATE OR REPLACE FUNCTION moved_clock(shift bigint) RETURNS timestamptz LANGUAGE sql VOLATILE AS
		'SELECT timestamptz ''epoch'' + shift * interval ''1 microsecond'''`)
	current := opened(t, o)
	return storetest.Harness{
		Store: current, Now: now, Advance: func(d time.Duration) { ahead.Add(int64(d)) }, Reports: reports,
		Near: func() []ledger.Cap {
			warnings.Lock()
			defer warnings.Unlock()
			return slices.Clone(warnings.list)
		},
		Crash: func() storetest.Store {
			current.crash()
			if err := current.Close(); err != nil {
				t.Fatal(err)
			}
			current = opened(t, o)
			return current
		},
		BreakAudit: func() func() {
			query(t, o.DSN, `CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''broken''; END';
				CREATE TRIGGER broken BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION broken()`)
			return func() { query(t, o.DSN, `DROP TRIGGER broken ON audit; DROP FUNCTION broken`) }
		},
	}
}

// query runs statements on a new connection.
func query(t testing.TB, dsn, text string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

func newID(prefix string) string { return ids.New(prefix) }

// account creates an account with a balance.
func account(t testing.TB, s *Store, name string, balance ledger.Amount) string {
	t.Helper()
	a := ledger.Account{ID: newID("acct_"), Name: name}
	if err := s.CreateAccount(context.Background(), a, ledger.Audit{}); err != nil {
		t.Fatal(err)
	}
	if balance > 0 {
		p := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: a.ID, Amount: balance, Reason: "test"}
		if _, _, err := s.PostTransaction(context.Background(), p, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
	}
	return a.ID
}

func order(payer, payee string, amount ledger.Amount) ledger.Order {
	return ledger.Order{Account: payer, Provider: payee, Key: "key_1", Lineage: "key_1", Server: "weather", Tool: "get_forecast", Amount: amount}
}

func balanceOf(t testing.TB, s *Store, account string) ledger.Balance {
	t.Helper()
	a, err := s.Account(context.Background(), account)
	if err != nil {
		t.Fatal(err)
	}
	return a.Live
}

// long skips the test in short runs, which repeat the tests at other dates. Tests of
// faults or speed call long, because such tests do not depend on the date.
func long(t *testing.T) {
	if testing.Short() {
		t.Skip("it does not depend on the date")
	}
}

// clean checks that the books balance.
func clean(t testing.TB, s *Store) ledger.Verification {
	t.Helper()
	v, err := s.Verify(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range v.Differences {
		t.Error(d)
	}
	return v
}
