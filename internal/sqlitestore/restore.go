package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// RestoreOptions say what to put in a store's place.
type RestoreOptions struct {
	Path  string // of the store; its directory must exist, the file need not
	From  string // the backup, which is left as it is
	Actor string // who asks, for the audit
	// Force restores a backup also if its books do not balance.
	Force bool
	// Progress, if not nil, is called now and then with the name of what is
	// being done, and how much of it.
	Progress func(what string, done, total int64)

	step func(string) // tests stop the process between two steps
}

// Restored tells what a restore did.
type Restored struct {
	Path         string // the store
	Kept         string // where the previous store is; "" if there was none
	FromSchema   int64  // the version of the backup's schema
	Schema       int64  // that of the store
	Accounts     int64
	Transactions int64
	Disabled     int64    // keys that were neither deleted nor disabled in the backup
	Differences  []string // in books that were restored by force
}

// keptTime is how the name of a replaced store tells when that was.
const keptTime = "20060102T150405Z"

// Restore puts a backup in the place of the store, which nobody may have open.
// All is done on a copy beside the store: it must be a whole Farebox store of a
// schema that this program knows, is brought up to date, and its books must
// balance. Then every key that is neither deleted nor disabled is disabled, in
// one transaction with the audit row: a key that was deleted after the backup
// was made would be alive again. Last, the copy is moved into place by one
// rename, and the previous store keeps its content under another name. A crash
// leaves the old store or the new one.
//
// Errors: ErrLocked while a store has the file open, ledger.ErrNoSpace,
// fs.ErrNotExist if there is no backup; others say what is wrong with it.
func Restore(ctx context.Context, o RestoreOptions) (r Restored, err error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if o.step == nil {
		o.step = func(string) {}
	}
	if r.Path, err = locate(o.Path); errors.Is(err, os.ErrNotExist) {
		r.Path, err = inDirectory(o.Path)
	}
	if err != nil {
		return r, err
	}
	lock, err := lockFile(r.Path)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	if err := removeLeftovers(r.Path); err != nil {
		return r, err
	}
	scratch, err := os.MkdirTemp(filepath.Dir(r.Path), scratchPrefix(r.Path)) // of mode 0700
	if err != nil {
		return r, fmt.Errorf("making room for the copy: %w", noSpace(err))
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	fresh := filepath.Join(scratch, "farebox.db")
	if err := copyBackup(ctx, &o, r.Path, fresh); err != nil {
		return r, fmt.Errorf("copying %s: %w", o.From, noSpace(err))
	}
	o.step("copied")
	if err := prepare(ctx, &o, fresh, &r); err != nil {
		return r, &backupError{noSpace(err), fresh, o.From}
	}
	o.step("prepared")
	return r, noSpace(replace(ctx, &o, fresh, &r))
}

// fetch copies the backup.
func copyBackup(ctx context.Context, o *RestoreOptions, store, to string) error {
	in, err := os.Open(o.From)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	if current, err := os.Stat(store); err == nil && os.SameFile(info, current) {
		return errors.New("it is the store itself")
	}
	if log, err := os.Stat(o.From + "-wal"); err == nil && log.Size() > 0 {
		return fmt.Errorf("it has a log beside it, %s-wal, so the file alone is not whole: is it a store in use? Make a backup of that", o.From)
	}
	if err := isStore(in); err != nil {
		return err
	}
	return copyFrom(in, to, func(n int64) error {
		o.Progress("copying", n, info.Size())
		return ctx.Err()
	})
}

// isStore looks at the head of a file (section 1.3 of SQLite's file format) and
// goes back to its beginning.
func isStore(f *os.File) error {
	const magic, idAt, head = "SQLite format 3\x00", 68, 100
	var b [head]byte
	if _, err := io.ReadFull(f, b[:]); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	switch {
	case string(b[:len(magic)]) != magic:
		return errors.New("it is not a backup: no SQLite database")
	case binary.BigEndian.Uint32(b[idAt:]) != applicationID:
		return errors.New("it is not a backup: a database of another program")
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// aboutBackup is an error about the copy, told as one about the backup.
type backupError struct {
	error
	copy, backup string
}

func (e *backupError) Error() string {
	return fmt.Sprintf("backup %s: %s", e.backup, strings.ReplaceAll(e.error.Error(), e.copy, e.backup))
}

func (e *backupError) Unwrap() error { return e.error }

// prepare makes the copy a store that may take the place of another.
func prepare(ctx context.Context, o *RestoreOptions, fresh string, r *Restored) error {
	if err := check(ctx, fresh); err != nil {
		return err
	}
	from, to, err := Migrate(ctx, fresh, func(done, total int64) { o.Progress("migrating", done, total) })
	if err != nil {
		return err
	}
	r.FromSchema, r.Schema = from, to
	o.step("migrated")
	s, err := Open(ctx, Options{Path: fresh})
	if err != nil {
		return err
	}
	if err := errors.Join(s.admit(ctx, o, r), s.Close()); err != nil {
		return err
	}
	return wholeAndDurable(fresh)
}

// check refuses a damaged database.
func check(ctx context.Context, path string) error {
	db, err := openWriter(ctx, path, plainConnect)
	if err != nil {
		return err
	}
	defer db.Close()
	var found string
	switch err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&found); {
	case err != nil:
		return fmt.Errorf("its integrity cannot be checked, use another one: %w", err)
	case found != "ok":
		return fmt.Errorf("it is damaged, use another one: %s", strings.Join(strings.Fields(found), " "))
	}
	return nil
}

// admit verifies the books and disables the keys.
func (s *Store) admit(ctx context.Context, o *RestoreOptions, r *Restored) error {
	v, err := s.Verify(ctx, func(done, total int64) { o.Progress("verifying", done, total) })
	if err != nil {
		return err
	}
	r.Accounts, r.Transactions, r.Differences = v.Accounts, v.Transactions, v.Differences
	if n := len(v.Differences); n > 0 && !o.Force {
		return fmt.Errorf("its books do not balance, differences: %d; the first: %s (use another backup, or this one with --force)", n, v.Differences[0])
	}
	return s.do(ctx, func(t *tx) error {
		now := s.now()
		var err error
		r.Disabled, err = t.exec(`UPDATE key SET disabled_at = ? WHERE deleted_at IS NULL AND disabled_at IS NULL`, micros(now))
		if err != nil {
			return err
		}
		detail, err := json.Marshal(struct {
			Backup       string `json:"backup"`
			Transactions int64  `json:"transactions"`
			KeysDisabled int64  `json:"keys_disabled"`
			Differences  int    `json:"differences,omitempty"`
		}{filepath.Base(o.From), r.Transactions, r.Disabled, len(r.Differences)})
		if err != nil {
			return err
		}
		return t.audit(ledger.Audit{At: now, Actor: o.Actor, Action: "store.restore", Target: filepath.Base(r.Path), Detail: string(detail)}, now)
	})
}

// wholeAndDurable makes sure that all of a closed store is in the one file, and
// on disk: SQLite syncs only what it wrote itself.
func wholeAndDurable(path string) error {
	if log, err := os.Stat(path + "-wal"); err == nil && log.Size() > 0 {
		return errors.New("its log could not be emptied")
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// replace moves the copy to where the store is. The old store gets a second
// name first, so that at each moment there is one in place; should the rename
// not come to pass, opening the store takes the second name away.
func replace(ctx context.Context, o *RestoreOptions, fresh string, r *Restored) error {
	kept, err := keptName(r.Path, clock.Now())
	if err != nil {
		return fmt.Errorf("keeping the previous store: %w", err)
	}
	info, err := os.Stat(r.Path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("store %s: %w", r.Path, err)
	}
	there := err == nil && info.Size() > 0 // an empty file was made, and never used
	if err := foldLog(ctx, r.Path, kept, there); err != nil {
		return err
	}
	o.step("folded")
	if there {
		if err := secondName(r.Path, kept); err != nil {
			return fmt.Errorf("keeping the previous store: %w", err)
		}
		r.Kept = kept
	}
	o.step("kept")
	if err := os.Rename(fresh, r.Path); err != nil {
		err = fmt.Errorf("moving the restored store into place: %w", err)
		if there {
			err = errors.Join(err, os.Remove(kept))
		}
		return err
	}
	o.step("moved")
	return syncDir(filepath.Dir(r.Path))
}

// keptName returns the name that the store gets when it is replaced at that
// time: of a second for which no earlier restore has kept a store, or the log of
// one. Whoever calls it holds the store's lock, so the name stays free.
func keptName(path string, at time.Time) (string, error) {
	for {
		kept := path + keptInfix + at.UTC().Format(keptTime)
		taken := false
		for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
			_, err := os.Lstat(kept + suffix)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return "", err
			}
			taken = taken || err == nil
		}
		if !taken {
			return kept, nil
		}
		at = at.Add(time.Second)
	}
}

// settle brings all of the old store into its one file. A log that stayed where
// it is would be taken for one of the new store. So if the file is too damaged
// to take it, or not there, the log goes where the old store will be.
func foldLog(ctx context.Context, path, kept string, there bool) error {
	if there {
		db, err := openWriter(ctx, path, plainConnect)
		if err == nil {
			err = errors.Join(checkpointed(ctx, db), db.Close())
		}
		if err != nil && !isDamage(err) {
			return fmt.Errorf("closing the previous store: %w", err)
		}
	}
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if err := os.Rename(path+suffix, kept+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("keeping the previous store: %w", err)
		}
	}
	return syncDir(filepath.Dir(path))
}

// checkpointed empties the log into the database file.
func checkpointed(ctx context.Context, db *sql.DB) error {
	var busy, frames, moved int
	if err := db.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &moved); err != nil {
		return err
	}
	if busy != 0 {
		return errors.New("its log cannot be emptied: another program reads the file")
	}
	return nil
}

// secondName gives the file another name, or makes a copy of that name where
// files have only one.
func secondName(path, name string) error {
	linked := os.Link(path, name)
	if linked == nil || errors.Is(linked, os.ErrExist) {
		return errors.Join(linked, syncDir(filepath.Dir(name)))
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := copyFrom(in, name, nil); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return syncDir(filepath.Dir(name))
}
