package sqlitestore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"modernc.org/sqlite"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// backupStep is the number of pages, 1 MiB in total, copied between two checks for
// cancellation.
const backupStep = 256

// scratchDSN returns the data source name of the file that a backup is copied to.
// The file need not survive a crash, because a crash ends the backup and the next
// start removes the partial copy.
func scratchDSN(path string) string {
	return dsn(path, "5000", "journal_mode(OFF)", "synchronous(OFF)", "mmap_size(0)")
}

// backups allows one backup at a time, and none after Close.
type backups struct {
	one     chan struct{} // full while a backup is made or delivered
	alive   context.Context
	end     context.CancelFunc
	copying sync.RWMutex // read-locked while a backup reads the store's file; close locks it and never unlocks it
	dsn     func(path string) string
}

func newBackups() *backups {
	alive, end := context.WithCancel(context.Background())
	return &backups{one: make(chan struct{}, 1), alive: alive, end: end, dsn: scratchDSN}
}

// close aborts the running copy and prevents new copies. A finished copy may still be
// delivered.
func (b *backups) close() {
	b.end()
	b.copying.Lock()
}

// Backup copies the state of the store at one moment, while the store serves, and then
// calls deliver(b, r) with an io.Reader r of the copy. deliver(b, r) must read the copy
// before it returns. The copy has every change acknowledged before the call. Neither
// writes nor reads of the store wait for the backup, but the write-ahead log grows
// until the copy is finished.
//
// progress, if not nil, is called now and then with the number of bytes copied so
// far and their total. The copy is in the store's directory, readable by its owner
// only, and is removed before Backup returns.
//
// Errors: ledger.ErrBackupRuns while another backup runs, ledger.ErrNoSpace, the
// errors of ctx and deliver, and ledger.ErrUnavailable if the store cannot write. In
// the last case, Backup makes no copy, because the store's file may show transactions
// that will not last.
func (s *Store) Backup(ctx context.Context, progress func(done, total int64), deliver func(ledger.Backup, io.Reader) error) (err error) {
	select {
	case s.backups.one <- struct{}{}:
		defer func() { <-s.backups.one }()
	default:
		return ledger.ErrBackupRuns
	}
	scratch, err := os.CreateTemp(filepath.Dir(s.path), scratchPrefix(s.path)) // CreateTemp makes the file with mode 0600
	if err != nil {
		return fmt.Errorf("making room for the copy: %w", noSpace(err))
	}
	gone := false
	defer func() {
		err = errors.Join(err, scratch.Close())
		if !gone {
			err = errors.Join(err, os.Remove(scratch.Name()))
		}
	}()
	b := ledger.Backup{At: s.now().UTC().Truncate(time.Microsecond)}
	if err := s.copyTo(ctx, scratch.Name(), &b, progress); err != nil {
		return fmt.Errorf("copying the store: %w", noSpace(err))
	}
	sum := sha256.New()
	if b.Size, err = io.Copy(sum, scratch); err != nil {
		return fmt.Errorf("reading the copy: %w", err)
	}
	sum.Sum(b.Sum[:0])
	if _, err := scratch.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reading the copy: %w", err)
	}
	// Unlink the copy now, so that it disappears with this process even in a crash.
	// Where an open file cannot be unlinked, the deferred function removes it.
	gone = os.Remove(scratch.Name()) == nil
	return deliver(b, io.LimitReader(scratch, b.Size))
}

// copyTo copies the store into the empty file.
func (s *Store) copyTo(ctx context.Context, to string, b *ledger.Backup, progress func(done, total int64)) error {
	if !s.backups.copying.TryRLock() {
		return errClosed
	}
	defer s.backups.copying.RUnlock()
	if err := s.Healthy(); err != nil {
		return err
	}
	connector, err := s.connect(readerDSN(s.path))
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector) // a separate pool, so that other reads never wait for the backup
	defer db.Close()
	conn, err := db.Conn(background())
	if err != nil {
		return failure(err)
	}
	defer conn.Close()
	// One read transaction spans all steps, so that every page is from this moment
	// and writes never restart the copy.
	if _, err := conn.ExecContext(background(), "BEGIN"); err != nil {
		return failure(err)
	}
	defer conn.ExecContext(background(), "ROLLBACK") //nolint:errcheck // the connection is closed anyway
	if err := conn.QueryRowContext(background(), `SELECT (`+selectLength+`), (`+selectSchema+`)`).
		Scan(&b.Transactions, &b.Schema); err != nil {
		return failure(err)
	}
	err = conn.Raw(func(c any) error {
		source, ok := c.(interface {
			NewBackup(to string) (*sqlite.Backup, error)
		})
		if !ok {
			return fmt.Errorf("a %T cannot copy a database", c)
		}
		copying, err := source.NewBackup(s.backups.dsn(to))
		if err != nil {
			return failure(err)
		}
		if err := s.steps(ctx, copying, progress); err != nil {
			_ = copying.Finish() // ignore this error, because it repeats the error of steps
			return err
		}
		return failure(copying.Finish())
	})
	if err != nil {
		return err
	}
	return s.Healthy()
}

// selectSchema reads the schema version of a store.
const selectSchema = `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`

// steps copies the database, backupStep pages at a time. It gives up when the store
// cannot write, because a repair of the store must empty the log, and cannot do so
// while any connection reads the log.
func (s *Store) steps(ctx context.Context, copying *sqlite.Backup, progress func(done, total int64)) error {
	const pageSize = 4096
	for more := true; more; {
		if s.backups.alive.Err() != nil {
			return errClosed
		}
		err := errors.Join(ctx.Err(), s.Healthy())
		if err == nil {
			more, err = copying.Step(backupStep)
			err = failure(err)
		}
		if err != nil {
			return err
		}
		if total := int64(copying.PageCount()); progress != nil {
			progress((total-int64(copying.Remaining()))*pageSize, total*pageSize)
		}
	}
	return nil
}

// noSpace marks the error of a full disk as ledger.ErrNoSpace, and returns other
// errors unchanged.
func noSpace(err error) error {
	if isFull(err) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ledger.ErrNoSpace, err)
	}
	return err
}
