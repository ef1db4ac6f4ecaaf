package pgstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/fareboxhq/farebox/internal/schema"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// The advisory locks of a database with a store in it.
const (
	lockSpace   = 1180791397 // "Fare" in ASCII
	migrateLock = 4          // journal_end, revoke and tidy_answers have the others
)

// Migrate brings the schema up to date, one version after the other, and
// returns the version that it had and the one that it has. progress, if not
// nil, hears how many of the versions are done. Opening a store does the same,
// and several may do so at once. A schema that is newer than this program is
// refused.
func Migrate(ctx context.Context, o Options, progress func(done, total int64)) (from, to int64, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return migrate(ctx, &o, progress)
}

func migrate(ctx context.Context, o *Options, progress func(done, total int64)) (from, to int64, err error) {
	config, err := pgx.ParseConfig(o.DSN)
	if err != nil {
		return 0, 0, errDSN
	}
	config.ConnectTimeout = connectTime
	if o.Schema != "" {
		config.RuntimeParams["search_path"] = pgx.Identifier{o.Schema}.Sanitize()
	}
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	if to, err = Schema(); err != nil {
		return 0, 0, err
	}
	if from, err = versionOf(ctx, db); err != nil {
		return 0, 0, failure(ctx, fmt.Errorf("reading the schema version: %w", err))
	}
	if from > to {
		return from, from, fmt.Errorf("the database has schema version %d, newer than %d that this program knows: use a newer Farebox", from, to)
	}
	if from == to {
		return from, to, nil
	}
	return migrateLocked(ctx, db, o, progress)
}

// Schema returns the version of the schema that this program works with, which an
// open store has.
func Schema() (version int64, err error) { return schema.Latest(migrationFiles) }

// versionOf reads the version without changing anything: 0 before there is one.
func versionOf(ctx context.Context, db *sql.DB) (version int64, err error) {
	err = db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&version)
	var e *pgconn.PgError
	if errors.As(err, &e) && (e.Code == "42P01" || e.Code == "3F000") { // no such table, or schema
		return 0, nil
	}
	return version, err
}

// migrateLocked migrates while no other node does.
func migrateLocked(ctx context.Context, db *sql.DB, o *Options, progress func(done, total int64)) (from, to int64, err error) {
	lock, err := db.Conn(ctx)
	if err != nil {
		return 0, 0, failure(ctx, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if _, err := lock.ExecContext(ctx, `SELECT pg_advisory_lock($1, $2)`, lockSpace, migrateLock); err != nil {
		return 0, 0, failure(ctx, fmt.Errorf("waiting for others that migrate: %w", err))
	}
	defer func() {
		_, unlock := lock.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1, $2)`, lockSpace, migrateLock)
		err = errors.Join(err, unlock)
	}()
	if o.Schema != "" {
		if _, err := lock.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgx.Identifier{o.Schema}.Sanitize()); err != nil {
			return 0, 0, failure(ctx, fmt.Errorf("making the schema %s: %w", o.Schema, err))
		}
	}
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return 0, 0, fmt.Errorf("reading migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSlog(o.Logger), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return 0, 0, fmt.Errorf("reading migrations: %w", err)
	}
	if from, to, err = provider.GetVersions(ctx); err != nil {
		return 0, 0, failure(ctx, fmt.Errorf("reading the schema version: %w", err))
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	for version := from; version < to; {
		result, err := provider.UpByOne(ctx)
		if err != nil {
			return from, version, failure(ctx, fmt.Errorf("migrating: %w", err))
		}
		version = result.Source.Version
		progress(version-from, to-from)
	}
	return from, to, nil
}
