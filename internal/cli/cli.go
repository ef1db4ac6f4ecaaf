// Package cli implements the commands that manage an installation: its accounts,
// keys, charges, ledger, servers and backups. The commands call the operations of
// package admin through the running server's admin endpoint or, with --offline, on a
// store that they open themselves.
//
// The package depends on cobra, but not on Caddy. The program that registers the
// commands passes in a reach.Host, which reads configs and finds the admin endpoint.
package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/cli/reach"
	"github.com/fareboxhq/farebox/internal/ops"
)

// The name and the help texts of the parent command.
const (
	Name  = "farebox"
	Usage = "account|credit|adjust|key|charge|call|usage|receipt|ledger|audit|console|person|invitation|session|alert|grant|server|node|health|backup|restore|migrate|top|connect|tools|add …"
	Short = "Manages the accounts, keys and charges of Farebox"
	Long  = `
Manages the accounts, keys and charges of Farebox.

The commands speak to the running server at Caddy's admin address: the one
given by --address, or in the environment variable CADDY_ADMIN, or that of the
config (--config, or the Caddyfile of the working directory, or that of an
installed package, /etc/farebox/Caddyfile), or else localhost:2019. The permissions of a unix socket decide who may use it. For a TCP
port, the commands read the bearer token that the server keeps in its data
directory: run them as the user that runs the server, in an environment that
names the same directory (HOME, or XDG_DATA_HOME).

With --offline they open the store itself, which --config names. That works
only while no server has it open.

Every command prints text for people, or with --json JSON for programs.
` + exitCodesText
)

// AddTo adds the commands and their common flags to root.
func AddTo(root *cobra.Command, host reach.Host) { addTo(root, host, ops.All()) }

func addTo(root *cobra.Command, host reach.Host, table []ops.Operation) {
	c := connection{Connection: reach.Connection{Host: host}}
	root.Args = cobra.NoArgs
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.SilenceUsage = true
	flags := root.PersistentFlags()
	flags.StringVar(&c.Address, "address", "", "The admin address of the running server")
	flags.BoolVar(&c.Offline, "offline", false, "Open the store itself: no server may have it open")
	flags.StringVarP(&c.Config, "config", "c", "", "The config file that names the admin address or, with --offline, the store (default: Caddyfile, or that of an installed package)")
	flags.StringVarP(&c.Adapter, "adapter", "a", "", "The config adapter")
	flags.BoolVar(&c.json, "json", false, "Print JSON")
	root.AddCommand(commands(&c, table)...)
	addCompletions(&c, root)
	reportErrors(&c, root)
	shorten(root)
}

// Overview returns the help text of a binary that is named farebox and also has Caddy's
// commands.
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
