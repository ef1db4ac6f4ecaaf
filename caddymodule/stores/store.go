// Package stores has the part of a config that names the store of accounts, keys and
// charges: its JSON, its grammar, and the functions that open the store.
package stores

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgdsn"
	"github.com/fareboxhq/farebox/internal/pgstore"
	"github.com/fareboxhq/farebox/internal/remotestore"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// Store says where accounts, keys and charges are kept.
type Store struct {
	// The kind of store: `sqlite`, `postgres` for several gateways with one
	// database, or `remote` for a gateway without a store of its own, which asks
	// another Farebox, the platform. Default: `sqlite`.
	Driver string `json:"driver,omitempty"`

	// The file of the SQLite database, relative to the working directory. Its
	// directory is created if it does not exist.
	Path string `json:"path,omitempty"`

	// The PostgreSQL database, as a `postgres://` URL or as `key=value` pairs. Use a
	// placeholder, such as `{env.FAREBOX_DSN}` or `{file./path}`, to keep its
	// password out of the config.
	DSN string `json:"dsn,omitempty"`

	// The address of the site that serves the platform's API. It must be https,
	// except at loopback hosts.
	URL string `json:"url,omitempty"`

	// The secret of a gateway key of the platform. Use a placeholder, such as
	// `{env.FAREBOX_GATEWAY_KEY}` or `{file./path}`, to keep the secret out of the
	// config.
	Key string `json:"key,omitempty"`
}

// Request ids are locked across all processes that share a database only if
// pgstore.Store implements RequestLocks. The engine tests that only at run time, by a
// type assertion, so the compiler checks it here.
var _ engine.RequestLocks = (*pgstore.Store)(nil)

// The kinds of stores.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
	Remote   = "remote"
)

// drivers lists the kinds of stores, for error messages.
var drivers = strings.Join([]string{SQLite, Postgres, Remote}, ", ")

// ErrNoOwnStore refuses operations on keys and accounts at a gateway without a
// store of its own.
var ErrNoOwnStore = errors.New("this gateway has no store of its own: manage keys and accounts at the platform")

// Source is the store of a config, which may not be open yet.
type Source struct {
	// Identity is the store's key in the pool of open stores. It contains no secret,
	// but differs for different credentials.
	Identity string

	// Name describes the store in messages. It contains no secret.
	Name string

	// File is the canonical path of the store's file. If the store is not a file, File
	// is empty.
	File string

	// Place identifies a store that is not a file, without its credentials.
	Place string

	// By identifies the gateway key that is used at a platform, without the key's
	// secret. For SQLite and PostgreSQL, By is empty.
	By string

	// Connect reads the secrets, which must not become part of the config, and
	// completes Identity, Place and By. It must be called before Open, Migrate and
	// Schema.
	Connect func() error

	// Open opens the store. Only a store with its own accounts calls the functions of
	// Events.
	Open func(ctx context.Context, log *slog.Logger, on Events) (engine.Store, error)

	// Migrate brings the schema up to date, and returns the schema's version before and
	// after. For a platform, Migrate is nil.
	Migrate func(ctx context.Context, progress func(done, total int64)) (from, to int64, err error)

	// Schema returns the version of the schema that the store has after it was opened.
	// For a platform, Schema is nil.
	Schema func() (int64, error)
}

// Events are functions that a store calls; any may be nil. They must be fast, because
// the store waits for them, and safe for concurrent use.
type Events struct {
	// NearCap is called when 80 % of a spending cap are spent, once in each period.
	NearCap func(ledger.Cap)
	// Committed is called for each transaction of the store that was committed or has
	// failed. rows is the number of calls and changes in the transaction.
	Committed func(rows int, took time.Duration, err error)
	// Audited is called for each audit record that was committed.
	Audited func(ledger.Audit)
}

// Source fills in the defaults and returns the store of the config, without opening it.
// dataDir is the default directory of a store that is a file.
func (s *Store) Source(dataDir string) (*Source, error) {
	if s.Driver == "" {
		s.Driver = SQLite
	}
	switch s.Driver {
	case SQLite:
		return s.sqlite(dataDir)
	case Postgres:
		return s.postgres()
	case Remote:
		return s.remote()
	}
	return nil, fmt.Errorf("unknown driver %q; known: %s", s.Driver, drivers)
}

func (s *Store) sqlite(dataDir string) (*Source, error) {
	if s.DSN != "" || s.URL != "" || s.Key != "" {
		return nil, errors.New("a sqlite store has a path, and nothing else")
	}
	if s.Path == "" {
		s.Path = filepath.Join(dataDir, "farebox.db")
	}
	s.Path = caddy.NewReplacer().ReplaceKnown(s.Path, "")
	file, err := Canonical(s.Path)
	if err != nil {
		return nil, err
	}
	return &Source{
		Identity: file, Name: file, File: file, Connect: func() error { return nil },
		Open: func(ctx context.Context, log *slog.Logger, on Events) (engine.Store, error) {
			return sqlitestore.Open(ctx, sqlitestore.Options{Path: file, Logger: log, NearCap: on.NearCap, Committed: on.Committed, Audited: on.Audited})
		},
		Migrate: func(ctx context.Context, progress func(done, total int64)) (from, to int64, err error) {
			return sqlitestore.Migrate(ctx, file, progress)
		},
		Schema: sqlitestore.Schema,
	}, nil
}

// postgres returns the source of a database. Its DSN, which may contain a password,
// is read when the config is provisioned.
func (s *Store) postgres() (*Source, error) {
	if s.Path != "" || s.URL != "" || s.Key != "" {
		return nil, errors.New("a postgres store has a dsn, and nothing else")
	}
	r := &Source{Name: "the PostgreSQL database", Schema: pgstore.Schema}
	var o pgstore.Options
	r.Connect = func() error {
		dsn, err := caddy.NewReplacer().ReplaceOrErr(s.DSN, true, true)
		if err != nil {
			return fmt.Errorf("dsn: %w", err)
		}
		if o.DSN = strings.TrimSpace(dsn); o.DSN == "" {
			return errors.New("the dsn is missing: want a database, as in postgres://farebox@db.example.com/farebox or {env.FAREBOX_DSN}")
		}
		if err := pgdsn.Check(o.DSN); err != nil {
			return err
		}
		r.Identity = Postgres + fingerprint(o.DSN)
		r.Place, err = pgdsn.Place(o.DSN)
		return err
	}
	r.Open = func(ctx context.Context, log *slog.Logger, on Events) (engine.Store, error) {
		o := o
		o.Logger, o.NearCap, o.Committed, o.Audited = log, on.NearCap, on.Committed, on.Audited
		return pgstore.Open(ctx, o)
	}
	r.Migrate = func(ctx context.Context, progress func(done, total int64)) (from, to int64, err error) {
		return pgstore.Migrate(ctx, o, progress)
	}
	return r, nil
}

// fingerprint identifies a credential without revealing it. Stores find keys by their
// plain hash, so that hash must not be revealed either. The fingerprint is therefore
// the hash of that hash.
func fingerprint(credential string) string {
	digest := sha256.Sum256([]byte(credential))
	return fmt.Sprintf("#%x", sha256.Sum256(digest[:]))
}

// remote returns the source of a platform. Its key is read when the config is
// provisioned, and does not become part of the config.
func (s *Store) remote() (*Source, error) {
	if s.Path != "" || s.DSN != "" {
		return nil, errors.New("a remote store has a url and a key, and neither path nor dsn")
	}
	r := &Source{Name: "the platform"}
	var o remotestore.Options
	r.Connect = func() error {
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
		r.Identity = Remote + " " + o.URL + fingerprint(o.Key)
		r.Place, r.By = o.URL, fingerprint(o.Key)[:17]
		return nil
	}
	r.Open = func(_ context.Context, log *slog.Logger, _ Events) (engine.Store, error) {
		o.Logger = log
		return remotestore.New(o)
	}
	return r, nil
}
