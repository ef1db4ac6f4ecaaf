// Package cli implements the commands that manage an installation: its accounts,
// keys, charges, ledger, servers and backups. The commands call the operations of
// package admin through the running server's admin endpoint or, with --offline, on a
// store that they open themselves.
//
// The package depends on cobra, but not on Caddy. The program that registers the
// commands passes in a Host, which reads configs and finds the admin endpoint.
package cli

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ops"
)

// The name and the help texts of the parent command.
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

// Host connects the commands to the program that contains them.
type Host struct {
	// ReadConfig returns a config file as JSON, converted by the named adapter. An
	// empty file stands for the Caddyfile in the working directory. For an empty
	// adapter, ReadConfig chooses an adapter by the file's name.
	ReadConfig func(file, adapter string) ([]byte, error)
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
	// ExitError returns an error that makes the program exit with the given code.
	ExitError func(code int) error
}

// Installation describes the store that a config names, with its files and settings.
// Creating an Installation does not open the store.
type Installation struct {
	Currency string
	Settings *admin.Settings
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

// AddTo adds the commands and their common flags to root.
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
	shorten(root)
}

// Overview is the help of a binary named farebox, which also has Caddy's commands.
func Overview() string {
	var b strings.Builder
	b.WriteString(`Farebox lets agents into MCP servers by token, and charges their accounts for each
call. It is a Caddy server: the file Caddyfile says which servers it guards.

To serve:

	farebox validate    checks the Caddyfile
	farebox run         serves until Ctrl-C
	farebox reload      loads a changed Caddyfile, without ending a call

To manage the accounts, keys and charges of a running server:

`)
	for _, c := range commands(new(connection), ops.All()) {
		fmt.Fprintf(&b, "\tfarebox %-11s %s\n", c.Name(), c.Short)
	}
	b.WriteString("\nAfter each of these, --help says more. The other commands are Caddy's.")
	return b.String()
}

// short replaces "farebox farebox" in usage lines by "farebox". Caddy knows the
// commands of a binary named farebox as "farebox farebox account" and so on, but the
// binary also accepts them without the second word.
func short(usage string) string { return strings.ReplaceAll(usage, "farebox farebox ", "farebox ") }

// shorten gives cmd and its subcommands help with short usage lines.
func shorten(cmd *cobra.Command) {
	cobra.AddTemplateFunc("short", short)
	cmd.SetUsageTemplate(strings.NewReplacer("{{.UseLine}}", "{{short .UseLine}}", "{{.CommandPath}}", "{{short .CommandPath}}").Replace(cmd.UsageTemplate()))
}

// Names returns the names of the commands directly below the command "farebox", such
// as "account". A binary named farebox accepts them as its own commands.
func Names() (names []string) {
	for _, c := range commands(new(connection), ops.All()) {
		names = append(names, c.Name())
	}
	return names
}

// exactly requires one argument for each name. Its error names the first missing
// argument.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		for i, name := range names {
			if i >= len(args) || args[i] == "" {
				return fmt.Errorf("%s is missing, usage: %s", name, short(cmd.UseLine()))
			}
		}
		if len(args) > len(names) {
			return fmt.Errorf("too many arguments, usage: %s", short(cmd.UseLine()))
		}
		return nil
	}
}
