package caddymodule

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/pgstore"
	"github.com/fareboxhq/farebox/internal/remotestore"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// Store is the place of accounts, keys and charges.
type Store struct {
	// The kind of store: `sqlite`, `postgres` for several gateways at one
	// database, or `remote` for a gateway that has none of its own and asks another
	// Farebox, the platform. Default: `sqlite`.
	Driver string `json:"driver,omitempty"`

	// The file of the SQLite database; relative to the working directory. Its
	// directory is made if it is not there.
	Path string `json:"path,omitempty"`

	// The PostgreSQL database, as a `postgres://` URL or as `key=value` pairs. Use a
	// placeholder, such as `{env.FAREBOX_DSN}` or `{file./path}`, to keep its
	// password out of the config.
	DSN string `json:"dsn,omitempty"`

	// The address of the site that serves the platform's API. It must be https,
	// but for loopback hosts.
	URL string `json:"url,omitempty"`

	// The secret of a gateway key of the platform. Use a placeholder, such as
	// `{env.FAREBOX_GATEWAY_KEY}` or `{file./path}`, to keep it out of the
	// config.
	Key string `json:"key,omitempty"`
}

// Request ids are locked for all processes of a database only if its store
// implements this; the engine finds out by a type assertion.
var _ engine.RequestLocks = (*pgstore.Store)(nil)

// The kinds of stores.
const (
	driverSQLite   = "sqlite"
	driverPostgres = "postgres"
	driverRemote   = "remote"
)

// drivers are the kinds of stores, for errors.
var drivers = strings.Join([]string{driverSQLite, driverPostgres, driverRemote}, ", ")

// errNoOwnStore says why there are no operations.
var errNoOwnStore = errors.New("this gateway has no store of its own: manage keys and accounts at the platform")

// source is where a config's store is.
type source struct {
	// identity is its key in the pool. It contains no secret, and differs for
	// different credentials.
	identity string
	name     string // for people; without secrets
	file     string // canonical path of a store that is a file, else ""
	place    string // identity of another store apart from its credentials
	by       string // identity of the key that asks a platform, without the secret
	// connect resolves secrets, which must not stay in the config. Call it first.
	connect func() error
	open    func(ctx context.Context, logger *slog.Logger) (engine.Store, error)
	// migrate brings the schema of an own store up to date; nil for a platform.
	migrate func(ctx context.Context, progress func(done, total int64)) (from, to int64, err error)
	// schema returns the schema's version after an own store was opened.
	schema func() (int64, error)
}

// logOpened logs the place of accounts, keys and charges.
func (a *App) logOpened() {
	fields := []any{"store", a.Store.Driver, "at", cmp.Or(a.source.file, a.source.place)}
	if a.source.schema != nil {
		if version, err := a.source.schema(); err == nil { // it has been used to open the store
			fields = append(fields, "schema", version)
		}
	}
	a.logger.Info("the store is open", append(fields, "currency", a.Currency)...)
}

// source fills the defaults in and finds the store. Nothing is opened.
func (s *Store) source() (*source, error) {
	if s.Driver == "" {
		s.Driver = driverSQLite
	}
	switch s.Driver {
	case driverSQLite:
		return s.sqlite()
	case driverPostgres:
		return s.postgres()
	case driverRemote:
		return s.remote()
	}
	return nil, fmt.Errorf("unknown driver %q; known: %s", s.Driver, drivers)
}

func (s *Store) sqlite() (*source, error) {
	if s.Path == "" {
		s.Path = filepath.Join(dataDir(), "farebox.db")
	}
	s.Path = caddy.NewReplacer().ReplaceKnown(s.Path, "")
	file, err := canonical(s.Path)
	if err != nil {
		return nil, err
	}
	return &source{
		identity: file, name: file, file: file, connect: func() error { return nil },
		open: func(ctx context.Context, logger *slog.Logger) (engine.Store, error) {
			return sqlitestore.Open(ctx, sqlitestore.Options{Path: file, Logger: logger, NearCap: nearCap(logger)})
		},
		migrate: func(ctx context.Context, progress func(done, total int64)) (from, to int64, err error) {
			return sqlitestore.Migrate(ctx, file, progress)
		},
		schema: sqlitestore.Schema,
	}, nil
}

// postgres finds the database. Its DSN, which may hold a password, is read when
// the config is provisioned.
func (s *Store) postgres() (*source, error) {
	if s.Path != "" || s.URL != "" || s.Key != "" {
		return nil, errors.New("a postgres store has a dsn, and nothing else")
	}
	r := &source{name: "the PostgreSQL database", schema: pgstore.Schema}
	var o pgstore.Options
	r.connect = func() error {
		dsn, err := caddy.NewReplacer().ReplaceOrErr(s.DSN, true, true)
		if err != nil {
			return fmt.Errorf("dsn: %w", err)
		}
		if o.DSN = strings.TrimSpace(dsn); o.DSN == "" {
			return errors.New("the dsn is missing: want a database, as in postgres://farebox@db.example.com/farebox or {env.FAREBOX_DSN}")
		}
		if err := pgstore.CheckDSN(o.DSN); err != nil {
			return err
		}
		r.identity = driverPostgres + fingerprint(o.DSN)
		r.place, err = pgstore.Place(o.DSN)
		return err
	}
	r.open = func(ctx context.Context, logger *slog.Logger) (engine.Store, error) {
		o := o
		o.Logger, o.NearCap = logger, nearCap(logger)
		return pgstore.Open(ctx, o)
	}
	r.migrate = func(ctx context.Context, progress func(done, total int64)) (from, to int64, err error) {
		return pgstore.Migrate(ctx, o, progress)
	}
	return r, nil
}

// fingerprint identifies a credential without revealing it: stores know keys by
// their plain hash, so it is the hash of that hash.
func fingerprint(credential string) string {
	digest := sha256.Sum256([]byte(credential))
	return fmt.Sprintf("#%x", sha256.Sum256(digest[:]))
}

// remote finds the platform. Its key is read when the config is provisioned, and
// stays out of it.
func (s *Store) remote() (*source, error) {
	if s.Path != "" {
		return nil, errors.New("a remote store has a url and a key, and no path")
	}
	r := &source{name: "the platform"}
	var o remotestore.Options
	r.connect = func() error {
		repl := caddy.NewReplacer()
		address, err := repl.ReplaceOrErr(s.URL, true, true)
		if err == nil {
			o.URL, err = remotestore.Canonical(address)
		}
		if err != nil {
			return err
		}
		key, err := repl.ReplaceOrErr(s.Key, true, true)
		if err != nil {
			return fmt.Errorf("key: %w", err)
		}
		if o.Key = strings.TrimSpace(key); o.Key == "" {
			return errors.New("the key is missing: want the secret of a gateway key of the platform, as in {env.FAREBOX_GATEWAY_KEY}")
		}
		r.identity = driverRemote + " " + o.URL + fingerprint(o.Key)
		r.place, r.by = o.URL, fingerprint(o.Key)[:17]
		return nil
	}
	r.open = func(_ context.Context, logger *slog.Logger) (engine.Store, error) {
		o.Logger = logger
		return remotestore.New(o)
	}
	return r, nil
}

// storeFile returns the file of the store, for commands that need a file.
func (a *App) storeFile() (file string, err error) {
	switch a.Store.Driver {
	case driverRemote:
		return "", errNoOwnStore
	case driverPostgres:
		return "", errors.New("the store is a PostgreSQL database: back it up and restore it by PostgreSQL's own means, such as pg_dump")
	}
	return a.source.file, nil
}

// debtDir returns the directory for the refunds that are owed to payers of the
// store. A changed credential does not change the directory.
func (a *App) debtDir() string {
	if a.source.file != "" {
		return a.source.file + ".refunds"
	}
	return filepath.Join(dataDir(), fmt.Sprintf("refunds-%.16x", sha256.Sum256([]byte(a.source.place))))
}

// fillKeyFiles says where the installation's own keys are.
func (a *App) fillKeyFiles() error {
	receipt, seal := filepath.Join(dataDir(), "receipt-key"), filepath.Join(dataDir(), "seal-key")
	if a.source.file != "" {
		receipt, seal = receiptKeyFile(a.source.file), a.source.file+".seal-key"
	}
	repl := caddy.NewReplacer()
	for _, f := range []struct {
		name, standard string
		path           *string
	}{{"receipt_key_file", receipt, &a.ReceiptKeyFile}, {"seal_key_file", seal, &a.SealKeyFile}} {
		if *f.path == "" {
			*f.path = f.standard
		}
		path, err := repl.ReplaceOrErr(*f.path, true, true)
		if err == nil {
			*f.path, err = canonical(path)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if a.ReceiptKeyFile == a.SealKeyFile {
		return errors.New("receipt_key_file and seal_key_file are the same file")
	}
	return nil
}
