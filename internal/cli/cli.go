// Package cli has the commands that manage an installation: accounts, keys,
// charges, the ledger, servers, backups. They call the operations of package
// admin over the running server's admin endpoint or, with --offline, on a store
// that they open themselves.
//
// The package knows cobra and no server. The program that registers the commands
// passes in a Host, which reads configs and finds the admin endpoint.
package cli

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ops"
)

// The texts with which the command that holds all others is registered.
const (
	Name  = "farebox"
	Usage = "account|credit|adjust|key|charge|receipt|ledger|audit|server|backup|restore|migrate …"
	Short = "Manages the accounts, keys and charges of Farebox"
	Long  = `
Manages the accounts, keys and charges of Farebox.

The commands speak to the running server at Caddy's admin address: the one
given by --address, or in the environment variable CADDY_ADMIN, or that of the
config (--config, or the Caddyfile of the working directory), or else
localhost:2019. The permissions of a unix socket decide who may use it. For a TCP
port, the commands read the bearer token that the server keeps in its data
directory: run them as the user that runs the server, in an environment that
names the same directory (HOME, or XDG_DATA_HOME).

With --offline they open the store itself, which --config names. That works
only while no server has it open.

Every command prints text for people, or with --json JSON for programs.
` + exitCodesText
)

// Host connects the commands with the program that they are part of.
type Host struct {
	// ReadConfig returns a config file as JSON, converted by the named adapter. An
	// empty file stands for the Caddyfile in the working directory; an empty adapter
	// is chosen by the file's name.
	ReadConfig func(file, adapter string) ([]byte, error)
	// Installation returns the installation that a config in JSON describes. The
	// error is ErrNoConfig if it describes none.
	Installation func(config []byte) (*Installation, error)
	// AdminAddress returns the admin address that a config in JSON names, or the
	// default address if there is no config or it names none.
	AdminAddress func(config []byte) (string, error)
	// SplitAddress parses an admin address. It returns the network and address to
	// dial, and the Host header that the endpoint accepts.
	SplitAddress func(address string) (network, target, host string, err error)
	// DataDir returns the directory in which the server keeps the admin token.
	DataDir func() string
	// ExitError returns an error that makes the program exit with that code.
	ExitError func(code int) error
}

// Installation is a store as a config describes it, with the files and settings
// that belong to it. Nothing is open yet.
type Installation struct {
	Currency string
	Settings *admin.Settings
	// ReceiptKeyFile is the file of the key that signs receipts.
	ReceiptKeyFile string
	// StoreName names the store for people. It holds no secret.
	StoreName string
	// StoreFile is the store's file; empty for a store that is not a file.
	StoreFile string
	// Connect resolves the store's credentials. It is called before Open and
	// Migrate, and fails if the installation has no store of its own.
	Connect func() error
	// Open opens the store, and makes it if necessary.
	Open func(ctx context.Context, log *slog.Logger) (Store, error)
	// Migrate brings the store's schema up to date.
	Migrate func(ctx context.Context, progress func(done, total int64)) (from, to int64, err error)
	// RestoreTo returns the file that a backup replaces, or an error if such a store
	// is not restored from files.
	RestoreTo func() (file string, err error)
}

// Store is a store with all operations.
type Store interface {
	engine.Store
	admin.Store
}

// AddTo adds the commands and their common flags below root.
func AddTo(root *cobra.Command, host Host) { addTo(root, host, ops.All()) }

func addTo(root *cobra.Command, host Host, table []ops.Operation) {
	c := connection{host: host}
	root.Args = cobra.NoArgs
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.SilenceUsage = true
	flags := root.PersistentFlags()
	flags.StringVar(&c.address, "address", "", "The admin address of the running server")
	flags.BoolVar(&c.offline, "offline", false, "Open the store itself: no server may have it open")
	flags.StringVarP(&c.config, "config", "c", "", "The config file that names the admin address or, with --offline, the store (default: Caddyfile)")
	flags.StringVarP(&c.adapter, "adapter", "a", "", "The config adapter")
	flags.BoolVar(&c.json, "json", false, "Print JSON")
	root.AddCommand(commands(&c, table)...)
	addCompletions(&c, root)
	reportErrors(&c, root)
}

// Names returns the names of the commands directly below "farebox", such as
// "account". A binary named farebox accepts them without that word.
func Names() (names []string) {
	for _, c := range commands(new(connection), ops.All()) {
		names = append(names, c.Name())
	}
	return names
}

// exactly requires one argument for each name, and names the first missing one.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		for i, name := range names {
			if i >= len(args) || args[i] == "" {
				return fmt.Errorf("%s is missing, usage: %s", name, cmd.UseLine())
			}
		}
		if len(args) > len(names) {
			return fmt.Errorf("too many arguments, usage: %s", cmd.UseLine())
		}
		return nil
	}
}
