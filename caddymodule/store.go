package caddymodule

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/caddymodule/stores"
)

// logOpened logs which store is open.
func (a *App) logOpened() {
	fields := []any{"store", a.Store.Driver, "at", cmp.Or(a.source.File, a.source.Place)}
	if a.source.Schema != nil {
		if version, err := a.source.Schema(); err == nil { // cannot fail, because opening the store has read the same migrations
			fields = append(fields, "schema", version)
		}
	}
	a.logger.Info("the store is open", append(fields, "currency", a.Currency)...)
}

// storeFile returns the file of the store, for commands that need a file.
func (a *App) storeFile() (file string, err error) {
	switch a.Store.Driver {
	case stores.Remote:
		return "", stores.ErrNoOwnStore
	case stores.Postgres:
		return "", errors.New("the store is a PostgreSQL database: back it up and restore it by PostgreSQL's own means, such as pg_dump")
	}
	return a.source.File, nil
}

// debtDir returns the directory of the refunds that are still owed to payers of the
// store. The directory stays the same when the credentials of the store change, so that
// no refund is lost.
func (a *App) debtDir() string {
	if a.source.File != "" {
		return a.source.File + ".refunds"
	}
	return filepath.Join(dataDir(), fmt.Sprintf("refunds-%.16x", sha256.Sum256([]byte(a.source.Place))))
}

// fillKeyFiles completes the paths of the receipt key and the seal key.
func (a *App) fillKeyFiles() error {
	receipt, seal := filepath.Join(dataDir(), "receipt-key"), filepath.Join(dataDir(), "seal-key")
	if a.source.File != "" {
		receipt, seal = receiptKeyFile(a.source.File), a.source.File+".seal-key"
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
			*f.path, err = stores.Canonical(path)
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
