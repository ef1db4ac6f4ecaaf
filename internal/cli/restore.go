package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/cli/reach"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
	"github.com/fareboxhq/farebox/internal/table"
)

func restoreCommand(c *connection) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "restore <file>", Short: "Puts a backup in the store's place; the server must be stopped", Args: exactly("<file>"),
		Long: `Puts a backup in the place of the store that --config names. No server may have
the store open. The backup is checked, brought up to date and verified first; a
crash leaves the old store or the new one, and the old one is kept under another
name.

Every key is disabled, because one that was deleted after the backup was made
would be alive again: review them with key list, and enable them with key enable.`,
		RunE: func(cmd *cobra.Command, args []string) error { c.Begun = true; return restore(c, cmd, args[0], force) },
	}
	cmd.Flags().BoolVar(&force, "force", false, "Restore the backup also if its books do not balance")
	return cmd
}

// restored is the JSON output of "restore".
type restored struct {
	Store        string   `json:"store"`
	Kept         string   `json:"previous_store,omitempty"`
	Backup       string   `json:"backup"`
	FromSchema   int64    `json:"backup_schema_version"`
	Schema       int64    `json:"schema_version"`
	Accounts     int64    `json:"accounts"`
	Transactions int64    `json:"transactions"`
	Disabled     int64    `json:"keys_disabled"`
	People       int64    `json:"people_disabled"`
	Sessions     int64    `json:"sessions_ended"`
	Invitations  int64    `json:"invitations_withdrawn"`
	ReceiptKey   bool     `json:"receipt_key"` // whether the file of the key that signs receipts exists
	Differences  []string `json:"differences,omitempty"`

	receiptKeyFile string
}

func restore(c *connection, cmd *cobra.Command, file string, force bool) error {
	in, err := c.Installation()
	if err != nil {
		return err
	}
	store, err := in.RestoreTo()
	if err != nil {
		return err
	}
	if err := reach.OwnStore(store); err != nil {
		return err
	}
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("the backup cannot be read: %w", err)
	}
	if err := reach.MakeDir(filepath.Dir(store)); err != nil {
		return err
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	bar := c.bar(cmd, "steps")
	r, err := sqlitestore.Restore(ctx, sqlitestore.RestoreOptions{
		Path: store, From: file, Actor: "offline", Force: force, Progress: bar.Show,
	})
	bar.End()
	if err != nil {
		return stopFirst(err)
	}
	if r.Kept != "" { // the replaced store's server may have granted leases that gateways still hold: wait until they end
		if err := engine.Outlive(ctx); err != nil {
			return fmt.Errorf("the store is restored, but gateways may still trust cached keys for up to %s: %w", engine.LeaseTime, err)
		}
	}
	_, missing := os.Stat(in.ReceiptKeyFile)
	out := restored{
		Store: r.Path, Kept: r.Kept, Backup: file, FromSchema: r.FromSchema, Schema: r.Schema, Accounts: r.Accounts,
		Transactions: r.Transactions, Disabled: r.Disabled, People: r.People, Sessions: r.Sessions, Invitations: r.Invitations, ReceiptKey: missing == nil, Differences: r.Differences,
		receiptKeyFile: in.ReceiptKeyFile,
	}
	if c.json {
		return printJSON(cmd.OutOrStdout(), out)
	}
	printRestored(cmd.OutOrStdout(), &out)
	return nil
}

func printRestored(w io.Writer, r *restored) {
	schema := fmt.Sprint(r.Schema)
	if r.FromSchema != r.Schema {
		schema = fmt.Sprintf("%d (was %d in the backup)", r.Schema, r.FromSchema)
	}
	table.Fields(w, "store", r.Store, "backup", r.Backup, "previous store", orDash(r.Kept), "schema", schema,
		"accounts", r.Accounts, "transactions", r.Transactions, "keys disabled", r.Disabled, "people disabled", r.People)
	for _, difference := range r.Differences {
		fmt.Fprintf(w, "\nThe books do not balance: %s\n", difference)
	}
	if !r.ReceiptKey {
		fmt.Fprintf(w, "\nThere is no %s: put your copy there before the server\nstarts, or it makes a new key, by which older receipts cannot be verified.\n", r.receiptKeyFile)
	}
	fmt.Fprint(w, `
Every key is disabled: one that was deleted after the backup was made would be
alive again. What to do next:

  1. start the server
  2. farebox key list          which of these should be alive?
  3. farebox key enable <key>  each of them; delete the others
`)
	if r.People > 0 {
		fmt.Fprint(w, `
Every person is disabled for the same reason, and all sessions and invitations
have ended. Enable each person that should sign in: farebox person enable
<person>. Whoever has changed the password since needs a new link: farebox
console invite --person <person>.
`)
	}
}

func migrateCommand(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "migrate", Short: "Brings the store's schema up to date; the server must be stopped", Args: exactly(),
		Long: `Brings the schema of the store that --config names up to date. No server may have
the store open. A server does the same when it starts; a store whose schema is
newer than this program is refused by both.`,
		RunE: func(cmd *cobra.Command, _ []string) error { c.Begun = true; return migrateStore(c, cmd) },
	}
}

// migrated is the JSON output of "migrate".
type migrated struct {
	Store string `json:"store"`
	From  int64  `json:"from"`
	To    int64  `json:"to"`
}

func migrateStore(c *connection, cmd *cobra.Command) error {
	in, err := c.Installation()
	if err != nil {
		return err
	}
	if err := in.Connect(); err != nil {
		return err
	}
	if err := reach.OwnStore(in.StoreFile); err != nil {
		return err
	}
	if _, err := os.Stat(in.StoreFile); in.StoreFile != "" && errors.Is(err, fs.ErrNotExist) {
		return reach.NoStore(in.StoreFile)
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	bar := c.bar(cmd, "versions")
	from, to, err := in.Migrate(ctx, bar.Part("migrating"))
	bar.End()
	switch {
	case err != nil:
		return stopFirst(err)
	case c.json:
		return printJSON(cmd.OutOrStdout(), migrated{in.StoreName, from, to})
	case from == to:
		fmt.Fprintf(cmd.OutOrStdout(), "The store is already up to date, at schema version %d.\n", to)
	default:
		fmt.Fprintf(cmd.OutOrStdout(), "The store was brought from schema version %d to %d.\n", from, to)
	}
	return nil
}

// stopFirst adds a hint to err if that error reports that a server has the store
// open.
func stopFirst(err error) error {
	if errors.Is(err, sqlitestore.ErrLocked) {
		return fmt.Errorf("%w\nstop the server first", err)
	}
	return err
}
