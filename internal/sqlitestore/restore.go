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
	"github.com/fareboxhq/farebox/internal/durable"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// RestoreOptions configure Restore.
type RestoreOptions struct {
	Path  string // path of the store; its directory must exist, the file need not
	From  string // path of the backup, which stays unchanged
	Actor string // the actor in the audit row of the restore
	// Force restores a backup even if its books do not balance.
	Force bool
	// Progress, if not nil, is called now and then with the name of the current
	// step, and how much of it is done.
	Progress func(what string, done, total int64)

	step func(string) // called after each step; tests kill the process here
}

// Restored is the result of a restore.
type Restored struct {
	Path         string // path of the store
	Kept         string // path under which the previous store is kept; "" if there was no store
	FromSchema   int64  // schema version of the backup
	Schema       int64  // schema version of the store
	Accounts     int64
	Transactions int64
	Disabled     int64    // number of usable keys in the backup, all of which the restore disabled
	People       int64    // number of persons that the restore disabled
	Sessions     int64    // number of sessions that the restore ended
	Invitations  int64    // number of invitations that the restore withdrew
	Differences  []string // the differences in the books; not empty only with Force
}

// keptTime is the time layout in the name of a replaced store.
const keptTime = "20060102T150405Z"

// Restore replaces a closed store with a backup. It first copies the backup to a file
// beside the store, and works on this copy. The copy must be an intact Farebox store
// with a schema known to this program. Restore migrates the copy. The copy's books must
// balance. Then Restore disables every usable key and person, and ends all sessions and
// invitations, in one transaction with the audit row, because keys and sessions that
// ended after the backup would otherwise work again. Last, it moves the copy into place
// by one rename, and keeps the previous store under another name. A crash leaves the
// old store or the new one.
//
// Errors: ErrLocked while the store is open, ledger.ErrNoSpace, fs.ErrNotExist if
// there is no backup. Other errors describe the fault of the backup.
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
	scratch, err := os.MkdirTemp(filepath.Dir(r.Path), scratchPrefix(r.Path)) // MkdirTemp makes the directory with mode 0700
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

// copyBackup copies the backup. It refuses a file that is not a Farebox backup.
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

// isStore checks the header of a file (section 1.3 of SQLite's file format) and
// seeks back to its beginning.
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

// backupError rewords an error about the copy so that it names the backup.
type backupError struct {
	error
	copy, backup string
}

func (e *backupError) Error() string {
	return fmt.Sprintf("backup %s: %s", e.backup, strings.ReplaceAll(e.error.Error(), e.copy, e.backup))
}

func (e *backupError) Unwrap() error { return e.error }

// prepare checks and migrates the copy of the backup. Then it verifies the books in the
// copy, and disables the copy's keys and people.
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

// check returns an error if the database is damaged.
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

// admit prepares the restored copy s for use: it verifies the books of s, disables
// every key that is neither deleted nor disabled, and calls endPeople. A key that was
// deleted after the backup would otherwise work again. admit returns an error if the
// books do not balance, unless o.Force is set.
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
		if err := t.endPeople(now, r); err != nil {
			return err
		}
		detail, err := json.Marshal(struct {
			Backup       string `json:"backup"`
			Transactions int64  `json:"transactions"`
			KeysDisabled int64  `json:"keys_disabled"`
			People       int64  `json:"people_disabled"`
			Sessions     int64  `json:"sessions_ended"`
			Invitations  int64  `json:"invitations_withdrawn"`
			Differences  int    `json:"differences,omitempty"`
		}{filepath.Base(o.From), r.Transactions, r.Disabled, r.People, r.Sessions, r.Invitations, len(r.Differences)})
		if err != nil {
			return err
		}
		return t.audit(ledger.Audit{At: now, Actor: o.Actor, Action: "store.restore", Target: filepath.Base(r.Path), Detail: string(detail)}, now)
	})
}

// endPeople disables all persons and ends all sessions, invitations, ceremonies and OAuth
// grants. Otherwise, sessions and grants that were ended after the backup and passwords
// that were replaced after it would be valid again.
func (t *tx) endPeople(now time.Time, r *Restored) (err error) {
	if r.People, err = t.exec(`UPDATE person SET disabled_at = ? WHERE disabled_at = 0`, micros(now)); err != nil {
		return err
	}
	if r.Sessions, err = t.exec(`DELETE FROM person_session`); err != nil {
		return err
	}
	if r.Invitations, err = t.exec(`DELETE FROM invitation WHERE used_at = 0`); err != nil {
		return err
	}
	if _, err = t.exec(`UPDATE oauth_grant SET revoked_at = ?, reason = 'the store was restored' WHERE revoked_at = 0`, micros(now)); err != nil {
		return err
	}
	if _, err = t.exec(`DELETE FROM oauth_authorization`); err != nil {
		return err
	}
	_, err = t.exec(`DELETE FROM ceremony`)
	return err
}

// wholeAndDurable checks that a closed store has no log, and syncs its file,
// because SQLite synced only its own writes and not the copied contents.
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

// replace moves the copy over the store. It first gives the old store a second
// name, so that a store is in place at every moment. If the rename then never
// happens, the next Open removes the second name.
func replace(ctx context.Context, o *RestoreOptions, fresh string, r *Restored) error {
	kept, err := keptName(r.Path, clock.Now())
	if err != nil {
		return fmt.Errorf("keeping the previous store: %w", err)
	}
	info, err := os.Stat(r.Path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("store %s: %w", r.Path, err)
	}
	exists := err == nil && info.Size() > 0 // an empty file is a store that was never opened
	if err := foldLog(ctx, r.Path, kept, exists); err != nil {
		return err
	}
	o.step("folded")
	if exists {
		if err := secondName(r.Path, kept); err != nil {
			return fmt.Errorf("keeping the previous store: %w", err)
		}
		r.Kept = kept
	}
	o.step("kept")
	if err := os.Rename(fresh, r.Path); err != nil {
		err = fmt.Errorf("moving the restored store into place: %w", err)
		if exists {
			err = errors.Join(err, os.Remove(kept))
		}
		return err
	}
	o.step("moved")
	return durable.SyncDir(filepath.Dir(r.Path))
}

// keptName returns the name under which to keep a store replaced at the given time.
// If an earlier restore used that name for a store or its log, keptName takes a
// later second. The caller holds the store's lock, so the name stays free.
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

// foldLog moves the log of the old store into its database file, because SQLite
// would take a remaining log for the log of the new store. If the database file is
// missing or too damaged, foldLog renames the log along with the old store.
func foldLog(ctx context.Context, path, kept string, exists bool) error {
	if exists {
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
	return durable.SyncDir(filepath.Dir(path))
}

// checkpointed copies the log to the database file, and empties the log.
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

// secondName links the file under another name, or copies it where hard links are
// not supported.
func secondName(path, name string) error {
	linked := os.Link(path, name)
	if linked == nil || errors.Is(linked, os.ErrExist) {
		return errors.Join(linked, durable.SyncDir(filepath.Dir(name)))
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := copyFrom(in, name, nil); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return durable.SyncDir(filepath.Dir(name))
}
