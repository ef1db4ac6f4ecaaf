package reach

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
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/inprocess"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// ErrNoConfig reports that there is no config, or that it describes no installation.
var ErrNoConfig = errors.New("no config names the store: give one with --config")

// Installation returns the installation that the config describes.
func (c *Connection) Installation() (*Installation, error) {
	config, err := c.readConfig()
	if errors.Is(err, fs.ErrNotExist) && c.Config == "" {
		return nil, ErrNoConfig
	}
	if err != nil {
		return nil, err
	}
	return c.Host.Installation(config)
}

// openStore opens the store and calls use(client) with a client of the store. The
// client calls the same handler that a server uses, but in this process. If the store
// does not exist and the method is GET, openStore fails instead of creating it.
func (c *Connection) openStore(ctx context.Context, method string, use func(*ops.Client) error) (err error) {
	in, err := c.Installation()
	if err != nil {
		return err
	}
	if err := in.Connect(); err != nil {
		return err
	}
	if err := OwnStore(in.StoreFile); err != nil {
		return err
	}
	if file := in.StoreFile; file != "" {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) && method == http.MethodGet {
			return NoStore(file)
		}
		if err := MakeDir(filepath.Dir(file)); err != nil {
			return err
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	store, err := in.Open(ctx, log)
	if errors.Is(err, sqlitestore.ErrLocked) {
		return locked(err)
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
	if calls := engine.NewCalls(store); calls != nil {
		service.WithCalls(calls)
	}
	grants := engine.NewOAuth(store, service, func() *admin.Settings { return in.Settings })
	handler := ops.NewAdminEndpoint(identity.As{Subject: "offline", Rights: identity.Operator}, log)
	ops.Register(handler, ops.Always(service), ops.Store())
	if grants != nil {
		ops.Register(handler, ops.Always(&ops.Grants{OAuth: grants, Accounts: service}), ops.OnGrants())
	}
	if alerts := engine.NewAlerts(store, service, nil, log); alerts != nil {
		alerts.Configure(alert.Config{Currency: in.Currency})
		ops.Register(handler, ops.Always(alerts), ops.OnAlerts())
	}
	if persons := engine.NewPeople(store, service, grants, log); persons != nil {
		if in.People != nil {
			if err := persons.Configure(*in.People); err != nil {
				return err
			}
		}
		ops.Register(handler, ops.Always(persons), ops.OnPeople())
	}
	return use(&ops.Client{HTTP: &http.Client{Transport: inprocess.Transport{Handler: handler}}, Host: "offline"})
}

// OwnStore returns an error if root would open a store in a directory of another user.
// The files that root creates there could not be opened by the server of that user.
func OwnStore(file string) error {
	if file == "" {
		return nil
	}
	dir := filepath.Dir(file)
	if name := owner(dir); name != "" {
		return fmt.Errorf("the directory of the store, %s, belongs to the user %s: run the command as that user, with sudo -u '%s'", dir, name, name)
	}
	return nil
}

// locked explains that a server has the store open.
func locked(err error) error {
	return fmt.Errorf("%w\nstop the server first, or leave --offline out to speak to it%s", err, adminOffHint)
}

// NoStore returns the error for a store without a file at the path.
func NoStore(path string) error {
	return fmt.Errorf("there is no store at %s yet: is this the right config, in the right directory?", path)
}

// MakeDir creates a directory that only this user may access.
func MakeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of the store: %w", err)
	}
	return nil
}
