package sqlitestore

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

// newKey stores a new key of the account.
func newKey(t *testing.T, s *Store, account, name string) keys.Key {
	t.Helper()
	k := keys.Key{
		ID: newID("key_"), Account: account, Kind: keys.Agent, Environment: keys.Live, Name: name,
		Digest: keys.DigestOf(name), CreatedAt: clock.Now(),
	}
	k.Lineage = k.ID
	if err := s.CreateKey(t.Context(), k, ledger.Audit{}); err != nil {
		t.Fatal(err)
	}
	return k
}

// end changes the key by set(k), which disables or deletes the key.
func end(t *testing.T, s *Store, k keys.Key, set func(*keys.Key)) {
	t.Helper()
	if _, err := s.UpdateKey(t.Context(), k.ID, func(k *keys.Key) error { set(k); return nil }, ledger.Audit{}); err != nil {
		t.Fatal(err)
	}
}

// furnished makes a store and, beside it, a backup file. The payer had 100 credits. In
// the backup 60 of them are left, and in the store 50. furnished also returns a key
// that is usable in the backup and deleted in the store.
func furnished(t *testing.T) (path, backup string, o ledger.Order, killed keys.Key) {
	t.Helper()
	dir := memoryDir(t)
	path, backup = filepath.Join(dir, "farebox.db"), filepath.Join(dir, "backup.db")
	s := opened(t, Options{Path: path})
	o = pair(t, s, 100)
	charge := func(n int) {
		for range n {
			if _, _, err := s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	killed = newKey(t, s, o.Account, "killed later")
	newKey(t, s, o.Account, "alive")
	end(t, s, newKey(t, s, o.Account, "disabled before"), func(k *keys.Key) { k.DisabledAt = time.UnixMicro(1_000_000) })
	end(t, s, newKey(t, s, o.Account, "deleted before"), func(k *keys.Key) { k.DeletedAt = time.UnixMicro(1_000_000) })
	charge(40)
	made, _ := kept(t, s, nil)
	if err := copyFile(backup, made); err != nil {
		t.Fatal(err)
	}
	charge(10)
	end(t, s, killed, func(k *keys.Key) { k.DeletedAt = clock.Now() })
	left := crashed(t, s) // copy the store while it is open, so that the copy has a log that is not empty
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		_ = os.Remove(path + suffix) // an error does not matter, because Close has removed the log
		if err := copyFile(path+suffix, left+suffix); err != nil {
			t.Fatal(err)
		}
	}
	return path, backup, o, killed
}

// isOld checks that the store is as furnished left it.
func isOld(t *testing.T, path string, o ledger.Order, killed keys.Key) {
	t.Helper()
	s := opened(t, Options{Path: path})
	defer s.Close()
	clean(t, s)
	if p := balanceOf(t, s, o.Account); p.Posted != 50 {
		t.Errorf("the old store has balance %s", p.Posted)
	}
	if k, err := s.Key(t.Context(), killed.ID); err != nil || k.DeletedAt.IsZero() {
		t.Errorf("the deletion was lost: %+v, %v", k, err)
	}
}

// isNew checks that the store has the contents of the backup that furnished made.
func isNew(t *testing.T, path string, o ledger.Order) {
	t.Helper()
	s := opened(t, Options{Path: path})
	defer s.Close()
	clean(t, s)
	if p := balanceOf(t, s, o.Account); p.Posted != 60 {
		t.Errorf("the restored store has balance %s", p.Posted)
	}
	all, _, err := s.Keys(t.Context(), ledger.KeyFilter{})
	if err != nil || len(all) != 4 {
		t.Fatalf("%d keys, %v", len(all), err)
	}
	for _, k := range all {
		if !errors.Is(k.Check(clock.Now(), keys.Use{}), keys.ErrDisabled) && k.Name != "deleted before" {
			t.Errorf("key %q is alive: %+v", k.Name, k)
		}
		if k.Name == "disabled before" && !k.DisabledAt.Equal(time.UnixMicro(1_000_000)) {
			t.Errorf("key %q was disabled again at %v", k.Name, k.DisabledAt)
		}
	}
	audit, _, err := s.AuditLog(t.Context(), ledger.AuditFilter{Page: ledger.Page{Limit: 1}})
	if err != nil || len(audit) != 1 || audit[0].Action != "store.restore" || audit[0].Actor != "tester" ||
		!strings.Contains(audit[0].Detail, `"keys_disabled":2`) || !strings.Contains(audit[0].Detail, `"backup":"backup.db"`) {
		t.Errorf("audit %+v, %v", audit, err)
	}
}

func restoreOptions(path, backup string) RestoreOptions {
	return RestoreOptions{Path: path, From: backup, Actor: "tester"}
}

// TestRestore checks promise 6 of docs/promises.md across a restore. The restored store
// has the contents of the backup, and every key in it is disabled, even a key deleted
// since the backup. The previous store is kept intact under another name, and the
// backup is unchanged.
func TestRestore(t *testing.T) {
	path, backup, o, killed := furnished(t)
	before, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]bool{}
	options := restoreOptions(path, backup)
	options.Progress = func(what string, done, total int64) { parts[what] = done <= total }
	r, err := Restore(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	if r.Path != path || r.Disabled != 2 || r.Transactions != 41 || r.Accounts != 3 || r.Schema < 1 || r.FromSchema != r.Schema || len(r.Differences) > 0 {
		t.Errorf("restored %+v", r)
	}
	if !parts["verifying"] {
		t.Errorf("it told of %v", parts)
	}
	isNew(t, path, o)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the store has mode %v, %v", info.Mode(), err)
	}
	if log, err := os.Stat(r.Kept + "-wal"); err == nil {
		t.Errorf("the previous store needs its log of %d bytes", log.Size())
	}
	isOld(t, r.Kept, o, killed)
	if after, err := os.ReadFile(backup); err != nil || string(after) != string(before) {
		t.Errorf("the backup was changed: %v", err)
	}

	// Restoring to a new path works, even if a log without its store was left there.
	elsewhere := filepath.Join(memoryDir(t), "farebox.db")
	if err := copyFile(elsewhere+"-wal", path+".lock"); err != nil {
		t.Fatal(err)
	}
	if r, err = Restore(t.Context(), restoreOptions(elsewhere, backup)); err != nil || r.Kept != "" {
		t.Fatalf("%+v, %v", r, err)
	}
	isNew(t, elsewhere, o)
}

// TestRestoreOverDamage checks that Restore replaces a store that SQLite cannot
// read any more, and keeps the damaged file as it is.
func TestRestoreOverDamage(t *testing.T) {
	path, backup, o, _ := furnished(t)
	overwrite(t, 0, 4096)(path)
	if err := os.Truncate(path+"-wal", 0); err != nil {
		t.Fatal(err)
	}
	damaged, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Restore(t.Context(), restoreOptions(path, backup))
	if err != nil {
		t.Fatal(err)
	}
	isNew(t, path, o)
	if now, err := os.ReadFile(r.Kept); err != nil || string(now) != string(damaged) {
		t.Errorf("the damaged store was not kept as it was: %v", err)
	}
}

// TestRestoreRefuses checks that Restore refuses a file that is not an intact
// backup with balanced books. It gives the reason, leaves the store unchanged, and
// leaves no other files.
func TestRestoreRefuses(t *testing.T) {
	path, backup, o, killed := furnished(t)
	dir := filepath.Dir(path)
	other := func(name string, sabotage func(path string)) string {
		to := filepath.Join(dir, name)
		if err := copyFile(to, backup); err != nil {
			t.Fatal(err)
		}
		sabotage(to)
		return to
	}
	file := func(name, content string) string {
		to := filepath.Join(dir, name)
		if err := os.WriteFile(to, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return to
	}
	statement := func(query string) func(string) { return func(path string) { alter(t, path, query) } }
	foreign := file("foreign.db", "")
	alter(t, foreign, "CREATE TABLE other (x)")
	unbalanced := other("unbalanced.db", statement("UPDATE account SET live = live + 1 WHERE name = 'payer'"))
	for _, c := range []struct{ from, want string }{
		{filepath.Join(dir, "none.db"), "no such file"},
		{dir, "not a regular file"},
		{path, "the store itself"},
		{file("empty.db", ""), "no SQLite database"},
		{file("text.db", strings.Repeat("no database. ", 100)), "no SQLite database"},
		{foreign, "another program"},
		{other("live.db", func(path string) { file("live.db-wal", "x") }), "live.db-wal"},
		{other("newer.db", statement("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")), "newer.db has schema version 99, newer than"},
		{other("pages.db", overwrite(t, 8192, 1<<20)), "pages.db: "},
		{other("index.db", statement("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'WHERE ref IS NOT NULL', '') WHERE name = 'txn_ref'")), "it is damaged, use another one"},
		{other("cut.db", func(path string) {
			if err := os.Truncate(path, 8192); err != nil {
				t.Fatal(err)
			}
		}), "cut.db: "},
		{unbalanced, "do not balance, differences: 2; the first: snapshot of account payer"},
	} {
		_, err := Restore(t.Context(), restoreOptions(path, c.from))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), scratchInfix) {
			t.Errorf("restoring %s: error is %v, want one that says %q", filepath.Base(c.from), err, c.want)
		}
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if _, err := Restore(stopped, restoreOptions(path, backup)); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*before-restore*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	isOld(t, path, o, killed)

	s := opened(t, Options{Path: path})
	if _, err := Restore(t.Context(), restoreOptions(path, backup)); !errors.Is(err, ErrLocked) {
		t.Errorf("a store in use: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// With Force, Restore restores unbalanced books, reports the differences and
	// disables the keys.
	options := restoreOptions(path, unbalanced)
	options.Force = true
	if r, err := Restore(t.Context(), options); err != nil || len(r.Differences) != 2 || r.Disabled != 2 {
		t.Errorf("by force: %+v, %v", r, err)
	}
}

// TestMigrate checks that Migrate brings a store up to date, then changes nothing
// more, and refuses a store that is open, newer or missing.
func TestMigrate(t *testing.T) {
	dir := memoryDir(t)
	path := filepath.Join(dir, "farebox.db")
	if _, _, err := Migrate(t.Context(), path, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no store: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var told []int64
	from, to, err := Migrate(t.Context(), path, func(done, total int64) { told = append(told, total-done) })
	if err != nil || from != 0 || to < 1 || int64(len(told)) != to+1 || told[0] != to || told[to] != 0 {
		t.Fatalf("from %d to %d, progress %v, %v", from, to, told, err)
	}
	told = nil
	if from, again, err := Migrate(t.Context(), path, func(int64, int64) { told = append(told, 1) }); err != nil || from != to || again != to || told != nil {
		t.Errorf("again: from %d to %d, progress %v, %v", from, again, told, err)
	}
	s := opened(t, Options{Path: path})
	pair(t, s, 5)
	if _, _, err := Migrate(t.Context(), path, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("a store in use: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	alter(t, path, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
	if _, _, err := Migrate(t.Context(), path, nil); err == nil || !strings.Contains(err.Error(), "schema version 99, newer than") {
		t.Errorf("a newer one: %v", err)
	}
}
