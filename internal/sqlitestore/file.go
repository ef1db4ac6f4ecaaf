package sqlitestore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/url"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// applicationID marks a Farebox store in the file's header. It is "Fare" in ASCII.
const applicationID = 1180791397

// connect opens connectors to a store. Tests replace it to inject faults.
type connect func(dsn string) (driver.Connector, error)

// dsn returns the data source name of the file. busy_timeout comes first, so that
// the following pragmas wait for locks instead of failing.
func dsn(path, busy string, pragmas ...string) string {
	u := url.URL{Scheme: "file", Path: path}
	q := url.Values{"_busy_timeout": {busy}, "mode": {"rw"}, "_pragma": pragmas}
	u.RawQuery = q.Encode()
	return u.String()
}

// writerDSN returns the data source name of the writer's connection.
// synchronous=FULL makes each commit durable. The writer itself checkpoints,
// because a checkpoint on another connection could never restart the log.
func writerDSN(path string) string {
	return dsn(path, "5000", "page_size(4096)", "journal_mode(WAL)", "synchronous(FULL)",
		"wal_autocheckpoint(1000)", "mmap_size(0)", "locking_mode(NORMAL)", "cache_size(-16000)")
}

func readerDSN(path string) string {
	return dsn(path, "5000", "query_only(1)", "mmap_size(0)")
}

// openWriter opens the one connection that writes, and checks that the file is a
// store or empty.
func openWriter(ctx context.Context, path string, c connect) (*sql.DB, error) {
	connector, err := c(writerDSN(path))
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	if err := checkFile(ctx, db, path); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func checkFile(ctx context.Context, db *sql.DB, path string) error {
	var id, objects int64
	var mode string
	err := db.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT count(*) FROM sqlite_schema), (SELECT journal_mode FROM pragma_journal_mode)`).Scan(&id, &objects, &mode)
	switch {
	case isDamage(err):
		return fmt.Errorf("store %s is damaged or no SQLite database (restore a backup): %w", path, err)
	case err != nil:
		return fmt.Errorf("opening store %s: %w", path, err)
	case id != applicationID && (id != 0 || objects > 0):
		return fmt.Errorf("%s is a database of another program, not a Farebox store", path)
	case mode != "wal":
		return fmt.Errorf("store %s: its file system does not allow the write-ahead log (journal mode is %s)", path, mode)
	}
	return nil
}

// migrate brings the schema up to date. It refuses a schema newer than the
// program.
func migrate(ctx context.Context, db *sql.DB, path string, log *slog.Logger) error {
	_, _, err := migrateSteps(ctx, db, path, log, nil)
	return err
}

// code returns the primary SQLite result code of an error, or 0 if it has none.
func code(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff
}

func isDamage(err error) bool {
	c := code(err)
	return c == sqlite3.SQLITE_NOTADB || c == sqlite3.SQLITE_CORRUPT
}

// isFull reports whether the error means that the disk is full. After such an error the
// transaction is certain to be rolled back, and the connection works again as soon as
// there is space.
func isFull(err error) bool { return code(err) == sqlite3.SQLITE_FULL }

// isDisk reports whether the error is a failure of the file or the disk, after which
// the connection cannot be used any more.
func isDisk(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_NOMEM:
		return true
	default:
		return errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone)
	}
}
