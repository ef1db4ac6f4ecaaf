package sqlitestore

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// bulk adds n charges to a closed store directly in its file, between the accounts
// that pair made. The resulting journal is like that of a long-used store, with
// rows of half a kilobyte.
func bulk(t *testing.T, path string, n int) {
	t.Helper()
	alter(t, path, `
		CREATE TEMP TABLE pair AS SELECT (SELECT n FROM account WHERE name = 'payer') AS a, (SELECT n FROM account WHERE name = 'payee') AS b,
			(SELECT max(seq) FROM txn) AS last, (SELECT debit_head FROM account WHERE name = 'payer') AS paid;
		WITH RECURSIVE i (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < `+strconv.Itoa(n)+`)
		INSERT INTO txn (seq, id, kind, debtor, creditor, amount, test, at, prev_debtor, prev_creditor, key, server, tool)
			SELECT last + x, randomblob(16), 1, a, b, 1, 0, 1, iif(x = 1, paid, last + x - 1), iif(x = 1, 0, last + x - 1), 'key_1', 's', hex(zeroblob(250)) FROM i, pair`)
}

// large returns a store with the given number of charges, and an order with which the
// test can make further charges.
func large(t *testing.T, charges int) (*Store, ledger.Order) {
	t.Helper()
	path := filepath.Join(memoryDir(t), "farebox.db")
	s := opened(t, Options{Path: path})
	o := pair(t, s, ledger.Amount(charges)+1000)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	bulk(t, path, charges)
	return opened(t, Options{Path: path}), o
}

// kept writes a backup to a file in a directory of its own, and checks the size and
// the sum that Backup passes to deliver.
func kept(t *testing.T, s *Store, progress func(done, total int64)) (path string, head ledger.Backup) {
	t.Helper()
	path = filepath.Join(memoryDir(t), "backup.db")
	err := s.Backup(t.Context(), progress, func(b ledger.Backup, content io.Reader) error {
		text, err := io.ReadAll(content)
		if int64(len(text)) != b.Size || sha256.Sum256(text) != b.Sum {
			t.Errorf("%d bytes, which are not those of %+v", len(text), b)
		}
		head = b
		return errors.Join(err, os.WriteFile(path, text, 0o600))
	})
	if err != nil {
		t.Fatal(err)
	}
	return path, head
}

// alone checks that the store's directory has only the files of the store.
func alone(t *testing.T, s *Store) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(s.path))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		switch strings.TrimPrefix(entry.Name(), filepath.Base(s.path)) {
		case "", "-wal", "-shm", ".lock":
		default:
			t.Errorf("%s was left", entry.Name())
		}
	}
}

// TestBackupWhileCharging checks promises 4 and 5 of docs/promises.md. A backup made
// under load has every charge that was acknowledged before the backup began, and no
// charge that the store does not have. The books in the backup balance.
func TestBackupWhileCharging(t *testing.T) {
	s, o := large(t, 4_000)
	topUp(t, s, o.Account, 1_000_000)
	var (
		mu      sync.Mutex
		taken   []string
		enough  = make(chan struct{})
		callers sync.WaitGroup
		ctx     context.Context
		stop    func()
	)
	ctx, stop = context.WithCancel(t.Context())
	for range 8 {
		callers.Go(func() {
			for ctx.Err() == nil {
				c := newID("chg_")
				if _, _, err := s.Charge(context.Background(), c, o, ledger.Terms{}, nil); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if taken = append(taken, c); len(taken) == 100 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	mu.Lock()
	before := append([]string{}, taken...)
	mu.Unlock()
	path, head := kept(t, s, nil)
	stop()
	callers.Wait()

	copied := opened(t, Options{Path: path})
	if v := clean(t, copied); v.Transactions != head.Transactions || v.Transactions < int64(4_000+len(before)) {
		t.Errorf("%d transactions, the head says %d", v.Transactions, head.Transactions)
	}
	for _, c := range before {
		if _, err := copied.ChargeByID(t.Context(), c); err != nil {
			t.Errorf("charge %s was acknowledged before: %v", c, err)
		}
	}
	rows, err := copied.readRows(selectJournal, 4_002, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) < len(before)-1 {
		t.Fatalf("only %d rows to compare", len(rows))
	}
	for i := range rows {
		r, err := s.captured(rows[i].id)
		if err != nil || r != rows[i] {
			t.Errorf("row %+v is %+v in the store, %v", rows[i], r, err)
		}
	}
	alone(t, s)
}

// TestBackupBlocksNothing checks that the store captures charges during a backup, and
// that the backup does not have them. It also checks that only one backup runs at a
// time, and that only the owner of the copied file can read it.
func TestBackupBlocksNothing(t *testing.T) {
	s, o := large(t, 4_000)
	var during []string
	told := 0
	path, head := kept(t, s, func(done, total int64) {
		told++
		if done > total || done <= 0 {
			t.Errorf("%d of %d", done, total)
		}
		c := newID("chg_")
		if _, _, err := s.Charge(t.Context(), c, o, ledger.Terms{}, nil); err != nil {
			t.Error(err)
		}
		during = append(during, c)
		if err := s.Backup(t.Context(), nil, nil); !errors.Is(err, ledger.ErrBackupRuns) {
			t.Errorf("a second one at once: %v", err)
		}
		found, err := filepath.Glob(filepath.Join(filepath.Dir(s.path), ".farebox.db.scratch-*"))
		if err != nil || len(found) != 1 {
			t.Fatalf("copies %v, %v", found, err)
		}
		if info, err := os.Stat(found[0]); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the copy has mode %v, %v", info.Mode(), err)
		}
	})
	if told < 2 {
		t.Errorf("it told of its progress %d times", told)
	}
	if head.Transactions != 4_001 || head.Schema < 1 || head.At.IsZero() {
		t.Errorf("head %+v", head)
	}
	copied := opened(t, Options{Path: path})
	clean(t, copied)
	for _, c := range during {
		if _, err := copied.ChargeByID(t.Context(), c); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("a charge that was made meanwhile: %v", err)
		}
	}
	alone(t, s)
	clean(t, s)
}

// TestBackupLeavesNothing checks that a failed backup returns its error and leaves
// no files behind, and that the next backup succeeds.
func TestBackupLeavesNothing(t *testing.T) {
	s, _ := large(t, 4_000)
	read := func(_ ledger.Backup, content io.Reader) error { _, err := io.Copy(io.Discard, content); return err }
	errGone := errors.New("the client has left")
	for what, c := range map[string]struct {
		dsn     func(string) string
		tell    func(stop func())
		deliver func(ledger.Backup, io.Reader) error
		want    error
	}{
		"full disk":              {dsn: func(path string) string { return dsn(path, "1", "journal_mode(OFF)", "max_page_count(300)") }, want: ledger.ErrNoSpace},
		"client gone, copying":   {tell: func(stop func()) { stop() }, want: context.Canceled},
		"client gone, receiving": {deliver: func(_ ledger.Backup, content io.Reader) error { return errGone }, want: errGone},
		"none":                   {},
	} {
		ctx, stop := context.WithCancel(t.Context())
		s.backups.dsn = scratchDSN
		if c.dsn != nil {
			s.backups.dsn = c.dsn
		}
		if c.deliver == nil {
			c.deliver = read
		}
		err := s.Backup(ctx, func(int64, int64) {
			if c.tell != nil {
				c.tell(stop)
			}
		}, c.deliver)
		stop()
		if !errors.Is(err, c.want) {
			t.Errorf("%s: error is %v, want %v", what, err, c.want)
		}
		alone(t, s)
	}
}

// TestBackupAndClose checks that Close aborts a running copy and prevents new copies,
// but lets a finished copy be delivered.
func TestBackupAndClose(t *testing.T) {
	s, _ := large(t, 4_000)
	closed := make(chan error, 1)
	err := s.Backup(t.Context(), func(int64, int64) {
		if s.backups.alive.Err() == nil {
			go func() { closed <- s.Close() }()
			<-s.backups.alive.Done()
		}
	}, nil)
	if !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("error is %v, want %v", err, ledger.ErrUnavailable)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := s.Backup(t.Context(), nil, nil); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
	alone(t, s)

	s = fresh(t)
	err = s.Backup(t.Context(), nil, func(b ledger.Backup, content io.Reader) error {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		n, err := io.Copy(io.Discard, content)
		if n != b.Size {
			t.Errorf("%d bytes of %d", n, b.Size)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	alone(t, s)
}

// TestBackupOfStoreThatIsDown checks that a store refuses a backup while it cannot
// write. The reason for the refusal is that the store's file may then show
// transactions that will not last.
func TestBackupOfStoreThatIsDown(t *testing.T) {
	s, f := faulty(t)
	o := pair(t, s, 5)
	f.commit.Store(commitLost)
	if _, _, err := s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{}, nil); err == nil {
		t.Fatal("the charge was captured")
	}
	if err := s.Backup(t.Context(), nil, nil); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("error is %v, want %v", err, ledger.ErrUnavailable)
	}
	alone(t, s)
	f.commit.Store(commitWorks)
	until(t, "it works again", healthy(s))
}

// TestOpenSweeps checks that Open removes the partial copies that a crash left, and
// no other files.
func TestOpenSweeps(t *testing.T) {
	dir := memoryDir(t)
	path := filepath.Join(dir, "farebox.db")
	s := opened(t, Options{Path: path})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	stays := []string{"farebox.db.backup", "other.db", ".other.db.scratch-1", "farebox.db.before-restore-20260101T000000Z", ".farebox.db.scratch"}
	for _, name := range append([]string{".farebox.db.scratch-1", ".farebox.db.scratch-2"}, stays...) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, ".farebox.db.scratch-3", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	opened(t, Options{Path: path})
	if left, err := filepath.Glob(filepath.Join(dir, ".farebox.db.scratch-*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, name := range stays {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
