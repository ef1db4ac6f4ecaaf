package sqlitestore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"github.com/fareboxhq/farebox/internal/schema"
)

// Migrate brings the schema of a closed store up to date, one version after the
// other, and returns the old and the new version. Open does the same. progress, if
// not nil, is called with the number of versions applied so far and their total.
// Migrate refuses a schema newer than the program. Errors: fs.ErrNotExist if there
// is no store, ErrLocked while the store is open.
func Migrate(ctx context.Context, path string, progress func(done, total int64)) (from, to int64, err error) {
	path, err = locate(path)
	if err != nil {
		return 0, 0, err
	}
	lock, err := lockFile(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	db, err := openWriter(ctx, path, plainConnect)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return migrateSteps(ctx, db, path, slog.New(slog.DiscardHandler), progress)
}

func plainConnect(dsn string) (driver.Connector, error) { return sqlite.NewConnector(dsn) }

// Schema returns the schema version of this program, which is the version of every
// open store.
func Schema() (version int64, err error) { return schema.Latest(migrationFiles) }

// migrateSteps applies the missing migrations one by one. It refuses a schema newer
// than the program.
func migrateSteps(ctx context.Context, db *sql.DB, path string, log *slog.Logger, progress func(done, total int64)) (from, to int64, err error) {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return 0, 0, fmt.Errorf("reading migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithSlog(log), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return 0, 0, fmt.Errorf("reading migrations: %w", err)
	}
	from, to, err = provider.GetVersions(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("reading the schema version of store %s: %w", path, err)
	}
	if from > to {
		return from, from, fmt.Errorf("store %s has schema version %d, newer than %d that this program knows: use a newer Farebox", path, from, to)
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	if from < to {
		progress(0, to-from)
	}
	for version := from; version < to; {
		result, err := provider.UpByOne(ctx)
		if err != nil {
			return from, version, fmt.Errorf("migrating store %s: %w", path, err)
		}
		version = result.Source.Version
		progress(version-from, to-from)
	}
	return from, to, nil
}
