// Package pgschema defines the tables, views and functions of a store on PostgreSQL,
// and brings the schema of a database up to date.
package pgschema

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/pgdsn"
	"github.com/fareboxhq/farebox/internal/pgerr"
	"github.com/fareboxhq/farebox/internal/schema"
)

// Migrations holds the numbered files of the folder migrations.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// The advisory locks that stores take in a database. The SQL functions use the same
// numbers.
const (
	LockSpace   = 1180791397 // "Fare" in ASCII
	JournalLock = 1          // writers to the journal take this lock in shared mode
	migrateLock = 4          // locks 2 and 3 belong to the SQL functions revoke and bound_responses
	UsageLock   = 5          // held by the node that sums usage up
	RowsLock    = 7          // taken by each change through package pgrows, such as one of package peoplestore
)

// firstWithFunctions is the first migration that can load the functions.
const firstWithFunctions = 9

// Options name the database to migrate.
type Options struct {
	// DSN names the database on the primary server, as a postgres:// URL or as
	// key=value pairs.
	DSN string

	// Schema is the schema of the tables, created if it does not exist. If Schema is
	// "", the connection's search path decides.
	Schema string

	// ConnectTimeout bounds each attempt to connect.
	ConnectTimeout time.Duration

	// Logger must not be nil.
	Logger *slog.Logger
}

// NewerError is the error for a database with a schema newer than this program.
type NewerError struct{ Version, Known int64 }

// Error names both versions.
func (e *NewerError) Error() string {
	return fmt.Sprintf("the database has schema version %d, newer than %d that this program knows: use a newer Farebox", e.Version, e.Known)
}

// Migrate brings the schema up to date, one version after the other, and returns the
// version before and after. After each version it calls progress, if not nil, with
// the number of versions done. Several nodes may migrate at once. Migrate returns a
// *NewerError if the schema is newer than this program. Other errors are
// pgdsn.ErrInvalid and failures of the database.
//
// Nodes of the previous version may keep running: a migration keeps the tables,
// views and functions that they use, and only a later version removes them.
func Migrate(ctx context.Context, o *Options, progress func(done, total int64)) (from, to int64, err error) {
	config, err := pgx.ParseConfig(o.DSN)
	if err != nil {
		return 0, 0, pgdsn.ErrInvalid // the library's error may quote a password
	}
	config.ConnectTimeout = o.ConnectTimeout
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // one call runs all statements of a migration file
	if o.Schema != "" {
		config.RuntimeParams["search_path"] = pgx.Identifier{o.Schema}.Sanitize()
	}
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	if to, err = Latest(); err != nil {
		return 0, 0, err
	}
	if from, err = versionOf(ctx, db); err != nil {
		return 0, 0, fmt.Errorf("reading the schema version: %w", err)
	}
	if from > to {
		return from, from, &NewerError{Version: from, Known: to}
	}
	if from == to {
		_, sum, err := Functions()
		if err != nil {
			return 0, 0, fmt.Errorf("reading functions: %w", err)
		}
		if load, err := outdated(ctx, db, sum); err != nil || !load {
			return from, to, err
		}
	}
	return migrateLocked(ctx, db, o, progress)
}

// Latest returns the version of the schema that this program works with.
func Latest() (version int64, err error) { return schema.Latest(Migrations) }

// versionOf returns the version of the schema, or 0 if the database has no schema. It
// changes nothing.
func versionOf(ctx context.Context, db *sql.DB) (version int64, err error) {
	err = db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&version)
	var e *pgconn.PgError
	if errors.As(err, &e) && (e.Code == "42P01" || e.Code == "3F000") { // the table or the schema does not exist
		return 0, nil
	}
	return version, err
}

// migrateLocked migrates while it holds a lock, so that no other node migrates at the
// same time.
func migrateLocked(ctx context.Context, db *sql.DB, o *Options, progress func(done, total int64)) (from, to int64, err error) {
	lock, err := db.Conn(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if _, err := lock.ExecContext(ctx, `SELECT pg_advisory_lock($1, $2)`, LockSpace, migrateLock); err != nil {
		return 0, 0, fmt.Errorf("waiting for another node's migration: %w", err)
	}
	defer func() {
		_, unlock := lock.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1, $2)`, LockSpace, migrateLock)
		err = errors.Join(err, unlock)
	}()
	if o.Schema != "" {
		if _, err := lock.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgx.Identifier{o.Schema}.Sanitize()); err != nil {
			return 0, 0, fmt.Errorf("making the schema %s: %w", o.Schema, err)
		}
	}
	provider, err := migrations(db, o.Logger)
	if err != nil {
		return 0, 0, fmt.Errorf("reading migrations: %w", err)
	}
	if from, to, err = provider.GetVersions(ctx); err != nil {
		return 0, 0, fmt.Errorf("reading the schema version: %w", err)
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	for version := from; version < to; {
		next, err := nextVersion(ctx, provider)
		if err != nil {
			return from, version, fmt.Errorf("migrating: %w", err)
		}
		version = next
		progress(version-from, to-from)
	}
	if from == to { // otherwise the last migration has loaded the functions
		if err := inTransaction(ctx, lock, loadFunctions); err != nil {
			return from, to, err
		}
	}
	return from, to, nil
}

// maxMigrations bounds the attempts at a migration that conflicts with running nodes.
const maxMigrations = 30

// nextVersion migrates by one version. If a migration deadlocks with a statement
// from a running node, or waits too long for a lock, it is rolled back and repeated.
func nextVersion(ctx context.Context, provider *goose.Provider) (int64, error) {
	for attempt := 1; ; attempt++ {
		result, err := provider.UpByOne(ctx)
		if err == nil {
			return result.Source.Version, nil
		}
		var e *pgconn.PgError
		crowded := errors.As(err, &e) && (pgerr.Contended(err) || e.Code == "55P03") // 55P03: the lock was not available in time
		if !crowded || attempt == maxMigrations || clock.Sleep(ctx, time.Second) != nil {
			return 0, err
		}
	}
}

// migrations returns a provider of all migrations. A migration that can load the
// functions does so in its own transaction. So nodes of an older version, which keep
// running during a migration, never find tables and functions that do not match.
func migrations(db *sql.DB, log *slog.Logger) (*goose.Provider, error) {
	files, err := fs.Sub(Migrations, "migrations")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	var withFunctions []*goose.Migration
	var excluded []string
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, err
		}
		if version < firstWithFunctions {
			continue
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		excluded = append(excluded, name)
		withFunctions = append(withFunctions, goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, string(text)); err != nil {
				return err
			}
			return loadFunctions(ctx, tx)
		}}, nil))
	}
	return goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSlog(log), goose.WithDisableGlobalRegistry(true),
		goose.WithExcludeNames(excluded), goose.WithGoMigrations(withFunctions...))
}

// inTransaction calls do(ctx, tx) in a transaction. It rolls back if do returns an
// error.
func inTransaction(ctx context.Context, conn *sql.Conn, do func(context.Context, *sql.Tx) error) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(ctx, tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
