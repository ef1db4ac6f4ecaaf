package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ops"
)

// commands returns the top-level commands: those of the operations in table that
// have a command, and the commands that are not a single operation. Commands of more
// than one word are below a group.
func commands(c *connection, table []ops.Operation) []*cobra.Command {
	var top []*cobra.Command
	groups := make(map[string]*cobra.Command)
	add := func(group string, section string, cmd *cobra.Command) {
		if group == "" {
			top = append(top, cmd)
			return
		}
		if groups[group] == nil {
			groups[group] = newGroup(group, section)
			top = append(top, groups[group])
		}
		groups[group].AddCommand(cmd)
	}
	for i := range table {
		o := &table[i]
		if o.Command == "" {
			continue
		}
		words, _ := splitCommand(o.Command)
		group := strings.Join(words[:len(words)-1], " ")
		if build := handwritten[o.ID]; build != nil {
			add(group, o.Tag, build(c))
			continue
		}
		add(group, o.Tag, newOperation(c, o).cmd)
	}
	add("receipt", "", verifyReceipt(c))
	add("", "", restoreCommand(c))
	add("", "", migrateCommand(c))
	return top
}

// groupTexts are the help texts of the groups, by the name of the group.
var groupTexts = map[string]string{
	"account": "Makes and shows accounts",
	"key":     "Makes, changes and ends keys",
	"charge":  "Shows and refunds charges",
	"receipt": "Verifies receipts, and shows the public keys",
	"ledger":  "Checks, exports and archives the ledger",
	"audit":   "Shows what operators did",
	"server":  "Compares what servers offer with their prices",
}

// newGroup returns a command that only groups subcommands. A group without an entry
// in groupTexts is described by section, the documentation section of its first
// subcommand.
func newGroup(name, section string) *cobra.Command {
	short := groupTexts[name]
	if short == "" {
		short = "Commands for " + section
	}
	return &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
}

// handwritten has, by operation id, the constructors of commands that are not
// derived from the table. These commands perform more than one operation, work on
// files, or have flags that are not members of the operation's input.
var handwritten = map[string]func(*connection) *cobra.Command{
	ops.AdjustAccount.ID:   adjustCommand,
	ops.CreateKey.ID:       createKey,
	ops.UpdateKey.ID:       updateKey,
	ops.RotateKey.ID:       rotateKey,
	ops.ListReceiptKeys.ID: receiptKeys,
	ops.ListJournal.ID:     exportLedger,
	ops.VerifyLedger.ID:    verifyLedgerCommand,
	ops.ArchiveLedger.ID:   archiveLedger,
	ops.BackUp.ID:          backupCommand,
	ops.CheckServer.ID:     checkServer,
}

// style customizes the command of an operation. A command without a style uses the
// texts of the operation, and prints its output as a plain table or list.
type style struct {
	short string // replaces the operation's summary and description
	print printer
	flags map[string]func() pflag.Value // make the values of flags, by member name
	adapt func(*operation)              // modifies the finished command
}

// styles are the styles of commands, by operation id.
var styles = map[string]style{
	ops.ListAccounts.ID: {
		short: "Lists accounts",
		print: rows([]string{"NAME", "ID", "BALANCE", "RESERVED", "TEST BALANCE"}, func(a admin.AccountView) []any {
			return []any{a.Name, a.ID, a.Balance, a.Reserved, a.TestBalance}
		}),
	},
	ops.CreateAccount.ID: {short: "Makes an account", print: object(printAccount)},
	ops.ShowAccount.ID:   {short: "Shows an account, by its name or id", print: object(printAccount)},
	ops.UpdateAccount.ID: {short: "Changes what an account may spend, at once", print: object(printAccount)},
	ops.CreditAccount.ID: {short: "Tops an account up", print: object(printAccount), adapt: explainNegativeAmount},
	ops.ListKeys.ID: {
		short: "Lists keys, oldest first",
		flags: map[string]func() pflag.Value{"expiring": func() pflag.Value { return new(period) }},
		print: rows([]string{"KEY", "HINT", "ACCOUNT", "ACCOUNT ID", "NAME", "KIND", "ENVIRONMENT", "STATE", "EXPIRES", "LAST USED"}, func(k admin.KeyView) []any {
			return []any{k.ID, k.Hint, orDash(k.AccountName), k.Account, orDash(k.Name), k.Kind, k.Environment, k.State, timeOr(k.ExpiresAt, "never"), timeOr(k.LastUsedAt, "never")}
		}),
	},
	ops.ShowKey.ID:    {short: "Shows a key; its secret is never shown again", print: object(printKey)},
	ops.DisableKey.ID: {short: "Refuses a key until it is enabled again", print: keyIs("disabled. No call that begins now is accepted with it, until it is enabled.")},
	ops.EnableKey.ID:  {short: "Enables a disabled key", print: keyIs("enabled.")},
	ops.DeleteKey.ID:  {short: "Ends a key, at once and for ever", print: keyIs("deleted. No call that begins now is accepted with it.")},
	ops.ListCharges.ID: {
		short: "Lists charges, newest first", adapt: addSum,
		print: rows([]string{"AT", "CHARGE", "ACCOUNT", "PROVIDER", "SERVER", "TOOL", "AMOUNT", "FEE", "REFUNDED", "STATE", "ENVIRONMENT"}, func(v admin.ChargeView) []any {
			return []any{v.At.Format(time.RFC3339), v.ID, orID(v.AccountName, v.Account), orID(v.ProviderName, v.Provider), v.Server, v.Tool, v.Amount, v.Fee, v.Refunded, v.State, v.Environment}
		}),
	},
	ops.ShowCharge.ID:   {short: "Shows a charge", print: object(printCharge)},
	ops.RefundCharge.ID: {short: "Gives a charge back, in whole or in part", print: object(printCharge)},
	ops.ListAudit.ID: {
		short: "Lists what operators did, newest first",
		print: rows([]string{"AT", "ACTOR", "FROM", "ACTION", "TARGET", "DETAIL"}, func(a admin.AuditView) []any {
			return []any{a.At.Format(time.RFC3339), a.Actor, orDash(a.From), a.Action, a.Target, string(a.Detail)}
		}),
	},
	ops.ListServers.ID: {
		short: "Lists the servers of the running config",
		print: rows([]string{"NAME", "PROVIDER", "ENVIRONMENTS", "PRICES", "FREE", "UNPRICED", "URL", "UPSTREAMS"}, func(s ops.ServerView) []any {
			return []any{s.Name, orDash(s.Provider), strings.Join(s.Environments, " "), s.Priced, s.Free, s.Unpriced, orDash(s.URL), orDash(strings.Join(s.Upstreams, " "))}
		}),
	},
}

// keyIs returns a printer that reports a key's new state.
func keyIs(state string) printer {
	return object(func(w io.Writer, k admin.KeyView) { fmt.Fprintf(w, "%s (%s) is %s\n", k.ID, k.Hint, state) })
}
