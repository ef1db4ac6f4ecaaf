package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/inprocess"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// ErrNoConfig reports that there is no config, or that it describes no installation.
var ErrNoConfig = errors.New("no config names the store: give one with --config")

// installation returns the installation that the config describes.
func (c *connection) installation() (*Installation, error) {
	config, err := c.host.ReadConfig(c.config, c.adapter)
	if errors.Is(err, fs.ErrNotExist) && c.config == "" {
		return nil, ErrNoConfig
	}
	if err != nil {
		return nil, err
	}
	return c.host.Installation(config)
}

// reachStore opens the store and calls the function use with a client of the store.
// The client calls the same handler that a server uses, but in this process. If the
// store does not exist and the method is GET, reachStore fails instead of creating
// it.
func (c *connection) reachStore(ctx context.Context, method string, use func(*ops.Client) error) (err error) {
	in, err := c.installation()
	if err != nil {
		return err
	}
	if err := in.Connect(); err != nil {
		return err
	}
	if file := in.StoreFile; file != "" {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) && method == http.MethodGet {
			return noStore(file)
		}
		if err := makeDir(filepath.Dir(file)); err != nil {
			return err
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	store, err := in.Open(ctx, log)
	if errors.Is(err, sqlitestore.ErrLocked) {
		return lockedOffline(err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := store.UseCurrency(ctx, in.Currency); err != nil {
		return err
	}
	now := func() time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }
	service := admin.New(store, engine.Offline(ctx, store), func() *admin.Settings { return in.Settings }, now)
	if signer, err := engine.LoadSigner(in.ReceiptKeyFile); err == nil { // without a key, operations that sign fail with their own error
		service.WithSigner(signer).WithReceiptKeys(knownKeys(in.ReceiptKeyFile, signer))
	}
	handler := ops.NewAdminEndpoint(identity.As{Subject: "offline", Rights: identity.Operator}, log)
	ops.Register(handler, ops.Always(service), ops.Store())
	return use(&ops.Client{HTTP: &http.Client{Transport: inprocess.Transport{Handler: handler}}, Host: "offline"})
}

// lockedOffline explains that a server has the store open.
func lockedOffline(err error) error {
	return fmt.Errorf("%w\nstop the server first, or leave --offline out to speak to it%s", err, adminOffHint)
}

func noStore(path string) error {
	return fmt.Errorf("there is no store at %s yet: is this the right config, in the right directory?", path)
}

// makeDir creates a directory that only this user may access.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of the store: %w", err)
	}
	return nil
}

// knownKeys returns the public receipt keys that a server has published, and the
// signer's own public key. The parameter file is the path of the private key.
func knownKeys(file string, signer *ledger.Signer) ledger.ReceiptKeys {
	keys, err := readReceiptKeys(engine.ReceiptKeysFile(file))
	if err != nil || !keys.Has(signer.Public()) {
		keys = append(keys, signer.Public())
	}
	return keys
}
