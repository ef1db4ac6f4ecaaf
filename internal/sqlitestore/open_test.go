package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func wantLocked(t *testing.T, path, owner string) {
	t.Helper()
	s, err := Open(context.Background(), Options{Path: path})
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), owner) {
		t.Fatalf("error is %v, want one that says that the store is open in %s", err, owner)
	}
}

// TestOneFileOneStore checks that all spellings of a path share one lock, and that
// a closed store can be opened again.
func TestOneFileOneStore(t *testing.T) {
	dir := memoryDir(t)
	path := filepath.Join(dir, "farebox.db")
	s := opened(t, Options{Path: path})
	owner := fmt.Sprintf("process %d", os.Getpid())
	link, linkedDir := filepath.Join(dir, "link.db"), filepath.Join(t.TempDir(), "linked")
	for to, from := range map[string]string{link: path, linkedDir: dir} {
		if err := os.Symlink(from, to); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for _, other := range []string{path, link, filepath.Join(linkedDir, "farebox.db"), "farebox.db", "./x/../farebox.db", filepath.Join(linkedDir, "link.db")} {
		wantLocked(t, other, owner)
	}
	pair(t, s, 5)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, want 0600", info.Mode())
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log is still there after Close: %v", err)
	}
	again := opened(t, Options{Path: link})
	clean(t, again)
}

// TestPathIsNoQuery checks a path with characters that have a special meaning in a URI.
// In the path of a store they must have no special meaning.
func TestPathIsNoQuery(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?mode=memory&x#%41ö.db")
	s := opened(t, Options{Path: path})
	pair(t, s, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Fatalf("the store is not at its path: %v, %v", info, err)
	}
}

// TestOpenRefuses checks that Open refuses a file that is not an intact store. The
// error names the fault.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	store := func(name string, sabotage func(path string)) string {
		path := filepath.Join(dir, name)
		s := opened(t, Options{Path: path})
		o := pair(t, s, 100)
		for range 50 {
			if _, _, err := s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		sabotage(path)
		return path
	}
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	statement := func(query string) func(string) {
		return func(path string) { alter(t, path, query) }
	}
	foreign := file("foreign.db", "")
	alter(t, foreign, "CREATE TABLE other (x)")
	dangling := filepath.Join(dir, "dangling.db")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{"", "no path"},
		{filepath.Join(dir, "none", "x.db"), "directory of the store must exist"},
		{dir, "not a regular file"},
		{dangling, "no such file"},
		{file("text.db", strings.Repeat("not a database. ", 100)), "damaged or no SQLite database"},
		{foreign, "database of another program"},
		{store("newer.db", statement("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")), "schema version 99, newer than "},
		{store("header.db", overwrite(t, 0, 16)), "damaged or no SQLite database"},
		{store("pages.db", overwrite(t, 4096, 1<<20)), "malformed"},
		{store("cut.db", func(path string) {
			if err := os.Truncate(path, 8192); err != nil {
				t.Fatal(err)
			}
		}), "malformed"},
		{store("ahead.db", statement("UPDATE meta SET replay_from = 1000")), "snapshots are ahead of its journal"},
		{store("ahead2.db", statement("UPDATE account SET as_of = 1000")), "ahead of the journal"},
		{store("chain.db", statement("DROP TRIGGER txn_is_final; UPDATE txn SET prev_debtor = 1 WHERE seq = 40; UPDATE meta SET replay_from = 1; UPDATE account SET as_of = 0, live = 0, debit_head = 0, credit_head = 0")), "does not follow"},
		{store("number.db", statement("UPDATE account SET n = 1 << 40 WHERE n = 3")), "which no account can have"},
		{store("nobody.db", statement("DELETE FROM account WHERE n = 3; UPDATE meta SET replay_from = 1")), "account that does not exist"},
	} {
		s, err := Open(context.Background(), Options{Path: c.path})
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("opening %s: error is %v, want one that says %q", filepath.Base(c.path), err, c.want)
		}
	}
}

// alter runs SQL directly on the file of a closed store.
func alter(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(query); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// overwrite returns a function that overwrites a part of a file with noise.
func overwrite(t *testing.T, from, size int64) func(path string) {
	return func(path string) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		noise := make([]byte, min(size, info.Size()-from))
		for i := range noise {
			noise[i] = byte(i*7 + 1)
		}
		if _, err := f.WriteAt(noise, from); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestClosedStoreRefuses checks that a closed store refuses calls with
// ledger.ErrUnavailable.
func TestClosedStoreRefuses(t *testing.T) {
	s := fresh(t)
	o := pair(t, s, 5)
	held := newID("chg_")
	if _, err := s.Reserve(t.Context(), held, o, ledger.Terms{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, capture := s.Capture(t.Context(), held, nil)
	_, _, charge := s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{}, nil)
	_, _, post := s.PostTransaction(t.Context(), ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: o.Account, Amount: 1}, ledger.Audit{})
	_, byDigest := s.KeyByDigest(t.Context(), [32]byte{})
	_, reserve := s.Reserve(t.Context(), newID("chg_"), o, ledger.Terms{})
	for what, err := range map[string]error{
		"capture": capture, "charge": charge, "post": post, "key": byDigest, "reserve": reserve, "health": s.Healthy(),
	} {
		if !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("%s: error is %v, want %v", what, err, ledger.ErrUnavailable)
		}
	}
}

// TestVerifyFindsDamage checks that Verify reports each kind of damage to the
// books.
func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	for i, c := range []struct{ damage, want string }{
		{"UPDATE account SET live = live + 1 WHERE name = 'payer'", "snapshot of account payer: the live balance"},
		{"UPDATE account SET test = 7 WHERE name = 'payee'", "snapshot of account payee: the test balance"},
		{"UPDATE account SET debit_head = 1 WHERE name = 'payer'", "snapshot of account payer: it last paid 1"},
		{"UPDATE txn SET amount = 2 WHERE seq = 3", "journal gives"},
		{"UPDATE txn SET prev_creditor = 2 WHERE seq = 4", "transaction 4 says"},
		{"UPDATE txn SET ref = 1 WHERE kind = 3", "no charge that it could refund"},
		{"UPDATE txn SET amount = 9 WHERE kind = 3", "more than the charge"},
		{"UPDATE txn SET test = 1 WHERE kind = 3", "no charge that it could refund"},
		{"UPDATE txn SET creditor = 77 WHERE seq = 2", "which does not exist"},
		{"UPDATE txn SET creditor = 1 << 40 WHERE seq = 2", "which does not exist"},
		{"INSERT INTO account (n, id, name, created_at, credit_limit) VALUES (-7, 'acct_x', 'x', 0, 0)", "number -7, which no account can have"},
	} {
		path := filepath.Join(dir, fmt.Sprintf("%d.db", i))
		s := opened(t, Options{Path: path})
		o := pair(t, s, 100)
		var last ledger.Charge
		for range 3 {
			var err error
			if last, _, err = s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{}, nil); err != nil {
				t.Fatal(err)
			}
		}
		refund := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: last.ID}
		if _, _, err := s.PostTransaction(t.Context(), refund, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
		clean(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		alter(t, path, "DROP TRIGGER txn_is_final; "+c.damage)
		s = opened(t, Options{Path: path})
		v, err := s.Verify(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if all := strings.Join(v.Differences, "\n"); !strings.Contains(all, c.want) {
			t.Errorf("after %s it found %q, want %q", c.damage, all, c.want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestJournalIsFinal checks that the database itself refuses to change the journal
// and the audit log.
func TestJournalIsFinal(t *testing.T) {
	s := fresh(t)
	pair(t, s, 5)
	for _, query := range []string{"UPDATE txn SET amount = 1", "DELETE FROM txn", "UPDATE audit SET actor = ''", "DELETE FROM audit"} {
		err := s.do(context.Background(), func(x *tx) error { _, err := x.exec(query); return err })
		if err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: error is %v, want a refusal", query, err)
		}
	}
	clean(t, s)
}
