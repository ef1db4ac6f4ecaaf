package reach

import (
	"context"
	"log/slog"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/people"
)

// Host connects the commands to the program that contains them.
type Host struct {
	// ReadConfig returns a config file as JSON, converted by the named adapter. An
	// empty file stands for the Caddyfile in the working directory. For an empty
	// adapter, ReadConfig chooses an adapter by the file's name.
	ReadConfig func(file, adapter string) ([]byte, error)
	// InstalledConfig is the config file of an installed package. The commands read
	// it if no file is named and the working directory has no Caddyfile.
	InstalledConfig string
	// Installation returns the installation that a config in JSON describes. The
	// error is ErrNoConfig if the config describes no installation.
	Installation func(config []byte) (*Installation, error)
	// AdminAddress returns the admin address that a config in JSON names. If the
	// config is nil or names no address, AdminAddress returns the default address.
	AdminAddress func(config []byte) (string, error)
	// SplitAddress parses an admin address. It returns the network and address to
	// dial, and the Host header that the endpoint accepts.
	SplitAddress func(address string) (network, target, host string, err error)
	// DataDir returns the directory where the server keeps the admin token.
	DataDir func() string
	// Serve serves a config in this process until stop is called.
	Serve func(config []byte) (stop func(), err error)
	// ExitError returns an error that makes the program exit with the given code.
	ExitError func(code int) error
}

// Installation describes the store that a config names, with its files and settings.
// Creating an Installation does not open the store.
type Installation struct {
	Currency string
	Settings *admin.Settings
	// People are the settings of people and of the console that the config describes.
	// Nil means that the config describes no console.
	People *people.Settings
	// ReceiptKeyFile is the path of the file with the key that signs receipts.
	ReceiptKeyFile string
	// StoreName is a name of the store to show to people. It contains no secret.
	StoreName string
	// StoreFile is the path of the store's file. It is empty if the store is not a
	// file.
	StoreFile string
	// Connect resolves the store's credentials. It is called before Open and
	// Migrate, and fails if the installation has no store of its own.
	Connect func() error
	// Open opens the store, and creates it if it does not exist.
	Open func(ctx context.Context, log *slog.Logger) (Store, error)
	// Migrate brings the store's schema up to date.
	Migrate func(ctx context.Context, progress func(done, total int64)) (from, to int64, err error)
	// RestoreTo returns the path of the file that a restored backup replaces. It
	// returns an error if a store of this type cannot be restored from a file.
	RestoreTo func() (file string, err error)
}

// Store is a store that supports both serving and administration.
type Store interface {
	engine.Store
	admin.Store
}
