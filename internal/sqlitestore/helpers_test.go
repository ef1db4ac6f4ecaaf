package sqlitestore

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/storetest"
)

// fakeClock is a wall clock that a test can advance or set back.
type fakeClock struct{ ahead atomic.Int64 }

func (c *fakeClock) now() time.Time          { return clock.Now().Add(time.Duration(c.ahead.Load())) }
func (c *fakeClock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// diskDir returns a temporary directory on a disk, even if the directory for temporary
// files is in memory: writing in batches only pays where a commit takes time.
func diskDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "farebox-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// memoryDir returns a directory in memory, if the system has one. It is meant for
// tests that do not depend on the disk. On a disk, such tests would spend most of
// their time on syncs.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "farebox-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// opened opens a store and closes it at the end of the test.
func opened(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // ignore the error, because a test that checks it calls Close itself
	return s
}

func fresh(t *testing.T) *Store {
	t.Helper()
	return opened(t, Options{Path: filepath.Join(memoryDir(t), "farebox.db")})
}

// crashed copies the files of the store as a crash would leave them. It copies in the
// writer's goroutine, so that the store writes nothing meanwhile.
func crashed(t *testing.T, s *Store) (path string) {
	t.Helper()
	path = filepath.Join(memoryDir(t), "farebox.db")
	err := s.inspect(context.Background(), func(*tx) error {
		for _, suffix := range []string{"", "-wal"} {
			if err := copyFile(path+suffix, s.path+suffix); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

// TestSuite runs the tests that every kind of store must pass. A simulated crash leaves
// only the files of the store.
func TestSuite(t *testing.T) {
	t.Parallel()
	template := templateStore(t)
	storetest.Run(t, func(t *testing.T) storetest.Harness { return harness(t, template, sound, "") })
}

// templateStore makes an empty store. Tests copy this store instead of migrating a new
// store each time.
func templateStore(t *testing.T) (path string) {
	t.Helper()
	s := fresh(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s.path
}

// sound wraps a store and adds no fault.
func sound(s *Store) storetest.Store { return s }

// harness opens a copy of the template. Only the test moves the clock of the store, so
// that a failed run can be repeated. The suite gets wrap(s) in place of each store s.
// The last argument, if not "", is a query that alters the file after each crash.
func harness(t *testing.T, template string, wrap func(*Store) storetest.Store, crash string) storetest.Harness {
	t.Helper()
	var ahead atomic.Int64
	now := func() time.Time { return suiteBegins.Add(time.Duration(ahead.Load())) }
	var warnings struct {
		sync.Mutex
		list []ledger.Cap
	}
	o := Options{Path: filepath.Join(memoryDir(t), "farebox.db"), Now: now, NearCap: func(c ledger.Cap) {
		warnings.Lock()
		defer warnings.Unlock()
		warnings.list = append(warnings.list, c)
	}}
	reports := new(storetest.Reports)
	o.Audited = reports.Add
	if err := copyFile(o.Path, template); err != nil {
		t.Fatal(err)
	}
	current := opened(t, o)
	return storetest.Harness{
		Store: wrap(current), Now: now, Advance: func(d time.Duration) { ahead.Add(int64(d)) }, Backwards: true, Forgets: true, Reports: reports,
		Near: func() []ledger.Cap {
			warnings.Lock()
			defer warnings.Unlock()
			return slices.Clone(warnings.list)
		},
		Crash: func() storetest.Store {
			o.Path = crashed(t, current)
			if crash != "" {
				alter(t, o.Path, crash)
			}
			if err := current.Close(); err != nil {
				t.Fatal(err)
			}
			current = opened(t, o)
			return wrap(current)
		},
		BreakAudit: func() func() {
			write(t, current, `CREATE TEMP TRIGGER broken BEFORE INSERT ON main.audit BEGIN SELECT RAISE(ABORT, 'broken'); END`)
			return func() { write(t, current, `DROP TRIGGER temp.broken`) }
		},
	}
}

// suiteBegins is the time at which the suite's clock starts, two days before the
// end of a month.
var suiteBegins = time.Date(2030, 1, 30, 9, 0, 0, 0, time.UTC)

// write runs a statement on the writer's connection.
func write(t *testing.T, s *Store, query string) {
	t.Helper()
	err := s.inspect(context.Background(), func(x *tx) error {
		_, err := x.exec(query)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func newID(prefix string) string { return ids.New(prefix) }

// pair makes two accounts and credits the first account with the given amount. It
// returns an order by which the first account pays the second.
func pair(t testing.TB, s *Store, balance ledger.Amount) ledger.Order {
	t.Helper()
	o := ledger.Order{Account: newID("acct_"), Provider: newID("acct_"), Key: "key_1", Lineage: "key_1", Server: "s", Tool: "t", Amount: 1}
	for name, account := range map[string]string{"payer": o.Account, "payee": o.Provider} {
		if err := s.CreateAccount(context.Background(), ledger.Account{ID: account, Name: name}, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
	}
	if balance > 0 {
		topUp(t, s, o.Account, balance)
	}
	return o
}

func topUp(t testing.TB, s *Store, account string, amount ledger.Amount) {
	t.Helper()
	p := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: account, Amount: amount, Reason: "test"}
	if _, _, err := s.PostTransaction(context.Background(), p, ledger.Audit{}); err != nil {
		t.Fatal(err)
	}
}

// clean checks that the books balance, and returns the result of the verification.
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

func balanceOf(t testing.TB, s *Store, account string) ledger.Balance {
	t.Helper()
	a, err := s.Account(context.Background(), account)
	if err != nil {
		t.Fatal(err)
	}
	return a.Live
}

// heldAs returns the hold with the given id, or nil.
func heldAs(s *Store, id string) *hold {
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	return heldLocked(s, id)
}

// heldLocked is like heldAs, for callers that have locked the mutex of the books.
func heldLocked(s *Store, id string) *hold {
	u, err := parseID(chargePrefix, id)
	if err != nil {
		return nil
	}
	return s.books.holds[u]
}
