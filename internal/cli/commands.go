package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/cli/adding"
	"github.com/fareboxhq/farebox/internal/cli/connect"
	"github.com/fareboxhq/farebox/internal/cli/limits"
	"github.com/fareboxhq/farebox/internal/ops"
)

// commands returns the top-level commands: those of the operations in the given table
// that have a command, and the commands that are not a single operation. Commands of
// more than one word are below a group.
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
	add("", "", topCommand(c))
	add("", "", toolsCommand(c))
	add("", "", adding.Command(c.Host, &c.json))
	add("", "", connect.Command(func() { c.Begun = true }, &c.json))
	return top
}

// groupTexts are the help texts of the groups, by the name of the group.
var groupTexts = map[string]string{
	"account": "Makes and shows accounts",
	"key":     "Makes, changes and ends keys",
	"charge":  "Shows and refunds charges",
	"alert":   "Shows alerts, and chooses which alerts accounts want",
	"grant":   "Shows and revokes what clients may do by OAuth",
	"receipt": "Verifies receipts, and shows the public keys",
	"ledger":  "Checks, exports and archives the ledger",
	"audit":   "Shows what operators did",
	"call":    "Shows calls that charged nothing",
	"node":    "Shows the gateways at the store",
	"server":  "Compares what servers offer with their prices",

	"console":    "Invites people to the console",
	"invitation": "Shows and withdraws invitations to the console",
	"person":     "Shows, changes and removes the people of the console",
	"session":    "Shows and ends the sessions of people",
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
	ops.ShowHealth.ID:      healthCommand,

	ops.CreateInvitation.ID: inviteCommand,
}

// style customizes the command of an operation. A command without a style uses the
// texts of the operation, and prints its output as a plain table or list.
type style struct {
	short string // if not empty, replaces the operation's summary and description
	print printer
	flags map[string]func() pflag.Value // maps the name of a member to a function that makes the value of its flag
	adapt func(*operation)              // changes the finished command; may be nil
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
		flags: map[string]func() pflag.Value{"expiring": func() pflag.Value { return new(limits.Period) }},
		print: printKeys,
	},
	ops.ShowKey.ID:    {short: "Shows a key; its secret is never shown again", print: object(printKey)},
	ops.DisableKey.ID: {short: "Refuses a key until it is enabled again", print: keyIs("disabled. No call that begins now is accepted with it, until it is enabled.")},
	ops.EnableKey.ID:  {short: "Enables a disabled key", print: keyIs("enabled.")},
	ops.DeleteKey.ID:  {short: "Ends a key, at once and for ever", print: keyIs("deleted. No call that begins now is accepted with it.")},
	ops.ListCharges.ID: {
		short: "Lists charges, newest first", adapt: addSum,
		print: rows([]string{"AT", "CHARGE", "ACCOUNT", "PROVIDER", "SERVER", "TOOL", "AMOUNT", "FEE", "REFUNDED", "STATE", "ENVIRONMENT"}, func(v admin.ChargeView) []any {
			return []any{v.At.Format(time.RFC3339), v.ID, cmp.Or(v.AccountName, v.Account), cmp.Or(v.ProviderName, v.Provider), v.Server, v.Tool, v.Amount, v.Fee, v.Refunded, v.State, v.Environment}
		}),
	},
	ops.ShowCharge.ID:   {short: "Shows a charge", print: object(printCharge)},
	ops.RefundCharge.ID: {short: "Gives a charge back, in whole or in part", print: object(printCharge)},
	ops.ShowUsage.ID:    {short: "Sums charges up by hours, days or months", adapt: addUsageCSV},
	ops.ListCalls.ID:    {short: "Lists calls that were refused or failed, newest first", adapt: addCallsCSV},
	ops.ListAudit.ID: {
		short: "Lists what operators did, newest first",
		print: rows([]string{"AT", "ACTOR", "FROM", "ACTION", "TARGET", "DETAIL"}, func(a admin.AuditView) []any {
			return []any{a.At.Format(time.RFC3339), a.Actor, orDash(a.From), a.Action, a.Target, string(a.Detail)}
		}),
	},
	ops.ListAlerts.ID: {
		short: "Lists the alerts of the last 90 days, newest first",
		print: rows([]string{"AT", "KIND", "ACCOUNT", "ALERT", "SENT"}, func(a ops.AlertView) []any {
			return []any{a.At.Format(time.RFC3339), a.Kind, cmp.Or(a.AccountName, a.Account), a.Title, sentBy(a.Deliveries)}
		}),
	},
	ops.ShowAlertSettings.ID: {print: object(printAlertSettings)},
	ops.SetAlerts.ID:         {print: object(printAlertSettings)},
	ops.TestAlerts.ID:        {print: object(printAlertTest)},
	ops.ListGrants.ID: {
		short: "Lists the clients that may call servers by OAuth, newest first",
		print: rows([]string{"GRANT", "CLIENT", "ACCOUNT", "SERVER", "SCOPES", "STATE", "LAST USED", "ENDS"}, func(g ops.GrantView) []any {
			return []any{g.ID, clientOf(&g), cmp.Or(g.AccountName, g.Account), g.Server, orDash(strings.Join(g.Scopes, " ")), g.State, timeOr(g.LastUsedAt, "never"), timeOr(g.ExpiresAt, "never")}
		}),
	},
	ops.ShowGrant.ID:   {print: object(printGrant)},
	ops.RevokeGrant.ID: {short: "Revokes a grant with all of its tokens, at once and for ever", print: object(printRevokedGrant)},
	ops.ListPersons.ID: {
		short: "Lists the people of the console",
		print: rows([]string{"PERSON", "E-MAIL", "NAME", "STATE", "RIGHTS", "SIGNS IN BY", "LAST SIGN-IN"}, func(p ops.PersonView) []any {
			return []any{p.ID, p.Email, orDash(p.Name), p.State, rightsOf(&p), orDash(strings.Join(p.SignsInBy, " ")), timeOr(p.LastSignIn, "never")}
		}),
	},
	ops.ShowPerson.ID:    {short: "Shows a person, by the id or the e-mail address", print: object(printPerson)},
	ops.UpdatePerson.ID:  {print: object(printPerson), flags: map[string]func() pflag.Value{"accounts": func() pflag.Value { return new(memberships) }}},
	ops.DisablePerson.ID: {short: "Ends the sessions of a person, and refuses the person until it is enabled", print: personIs("disabled, and all sessions have ended.")},
	ops.EnablePerson.ID:  {short: "Lets a disabled person sign in again", print: personIs("enabled.")},
	ops.RemovePerson.ID:  {print: personIs("removed, and all sessions have ended.")},
	ops.ListInvitations.ID: {
		short: "Lists the invitations that can still be accepted, newest first",
		print: rows([]string{"INVITATION", "FOR", "E-MAIL", "BY", "EXPIRES"}, func(i ops.InvitationView) []any {
			return []any{i.ID, invitedTo(&i), orDash(i.Email), i.By, i.ExpiresAt.Format(time.RFC3339)}
		}),
	},
	ops.WithdrawInvitation.ID: {short: "Makes an invitation unusable", print: object(func(w io.Writer, i ops.InvitationView) {
		fmt.Fprintf(w, "%s is withdrawn. Nobody can accept it.\n", i.ID)
	})},
	ops.EndSession.ID: {short: "Ends a session, at once and on all nodes", print: object(func(w io.Writer, s ops.EndedSession) { fmt.Fprintf(w, "%s has ended, on all nodes.\n", s.ID) })},
	ops.ListNodes.ID: {
		short: "Lists the gateways that use the store",
		print: rows([]string{"NODE", "VERSION", "STARTED", "LAST SEEN", "STATE", "SELF", "ADMIN", "ID"}, func(n ops.NodeView) []any {
			return []any{orDash(n.Name()), orDash(n.Version), timeOr(n.Started, "-"), n.Seen.Format(time.RFC3339), n.State, n.Self, orDash(n.Admin), n.ID}
		}),
	},
	ops.ShowServer.ID: {short: "Shows a server of the running config with its prices", print: object(printServer)},
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
