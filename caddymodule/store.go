package caddymodule

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/internal/remotestore"
	"github.com/fareboxhq/farebox/internal/runtime"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// Store says where accounts, keys and charges are kept.
type Store struct {
	// The kind of store: `sqlite`, or `remote` for a gateway that has none of its
	// own and asks another Farebox, the platform. Default: `sqlite`.
	Driver string `json:"driver,omitempty"`

	// The file of the SQLite database; relative to the working directory. Its
	// directory is made if it is not there.
	Path string `json:"path,omitempty"`

	// The address of the site that serves the platform's API. It must be https,
	// but for loopback hosts.
	URL string `json:"url,omitempty"`

	// The secret of a gateway key of the platform. Use a placeholder, such as
	// `{env.FAREBOX_GATEWAY_KEY}` or `{file./path}`, to keep it out of the
	// config.
	Key string `json:"key,omitempty"`
}

// The kinds of stores.
const (
	driverSQLite = "sqlite"
	driverRemote = "remote"
)

// drivers are the kinds of stores, for errors.
var drivers = strings.Join([]string{driverSQLite, driverRemote}, ", ")

// errNoOwnStore says why there are no operations.
var errNoOwnStore = errors.New("this gateway has no store of its own: manage keys and accounts at the platform")

// source is where a config's store is.
type source struct {
	// identity is its key in the pool. It holds no secret, and is another one
	// when a credential is.
	identity string
	file     string // of a store that is a file, canonical; else ""
	// connect resolves what must not be kept in the config. Others come after it.
	connect func() error
	open    func(ctx context.Context, logger *slog.Logger) (runtime.Store, error)
}

// source fills the defaults in and finds the store. Nothing is opened.
func (s *Store) source() (*source, error) {
	if s.Driver == "" {
		s.Driver = driverSQLite
	}
	switch s.Driver {
	case driverSQLite:
		return s.sqlite()
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
		identity: file, file: file, connect: func() error { return nil },
		open: func(ctx context.Context, logger *slog.Logger) (runtime.Store, error) {
			return sqlitestore.Open(ctx, sqlitestore.Options{Path: file, Logger: logger, NearCap: nearCap(logger)})
		},
	}, nil
}

// remote finds the platform. Its key is read when the config is provisioned, and
// stays out of it.
func (s *Store) remote() (*source, error) {
	if s.Path != "" {
		return nil, errors.New("a remote store has a url and a key, and no path")
	}
	r := new(source)
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
		digest := sha256.Sum256([]byte(o.Key))
		r.identity = fmt.Sprintf("%s %s#%x", driverRemote, o.URL, sha256.Sum256(digest[:]))
		return nil
	}
	r.open = func(_ context.Context, logger *slog.Logger) (runtime.Store, error) {
		o.Logger = logger
		return remotestore.New(o)
	}
	return r, nil
}

// ownStore returns the file of the store, or errNoOwnStore.
func (a *App) ownStore() (file string, err error) {
	if a.source.file == "" {
		return "", errNoOwnStore
	}
	return a.source.file, nil
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
