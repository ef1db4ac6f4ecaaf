package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
)

func accountCommand(c *connection) *cobra.Command {
	show := &cobra.Command{
		Use: "show <account>", Short: "Shows an account, by its name or id", Args: exactly("<account>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return do(c, cmd, http.MethodGet, "accounts/"+url.PathEscape(args[0]), nil, printAccount)
		},
	}
	return group("account", "Makes and shows accounts", createAccount(c), show, listAccounts(c), updateAccount(c))
}

func listAccounts(c *connection) *cobra.Command {
	return listCommand(c, "Lists accounts", func() string { return "accounts" }, nil,
		[]string{"NAME", "ID", "BALANCE", "RESERVED", "TEST BALANCE"},
		func(a admin.AccountView) []any { return []any{a.Name, a.ID, a.Balance, a.Reserved, a.TestBalance} })
}

func printAccount(w io.Writer, a admin.AccountView) {
	printFields(w,
		"account", a.Name, "id", a.ID,
		"balance", fmt.Sprintf("%s (%s reserved)", a.Balance, a.Reserved),
		"test balance", fmt.Sprintf("%s (%s reserved)", a.TestBalance, a.TestReserved),
		"credit limit", a.CreditLimit, "caps", capsText(a.Caps))
}

func creditCommand(c *connection) *cobra.Command {
	var credit admin.Credit
	cmd := &cobra.Command{
		Use: "credit <account> <amount>", Short: "Tops an account up", Args: exactly("<account>", "<amount>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			amount, err := ledger.ParseAmount(args[1])
			if err != nil {
				return err
			}
			credit.Amount = amount
			return do(c, cmd, http.MethodPost, "accounts/"+url.PathEscape(args[0])+"/credits", credit, printAccount)
		},
	}
	addBookingFlags(cmd, &credit.Reason, &credit.ID)
	cmd.Flags().BoolVar(&credit.Test, "test", false, "Top up the test balance")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		// pflag reads "-5" as short flags.
		var unknown *pflag.NotExistError
		if errors.As(err, &unknown) && strings.Trim(unknown.GetSpecifiedShortnames(), "0123456789.") == "" && unknown.GetSpecifiedShortnames() != "" {
			return fmt.Errorf("the amount must be more than zero, not -%s", unknown.GetSpecifiedShortnames())
		}
		return err
	})
	return cmd
}

func ledgerCommand(c *connection) *cobra.Command {
	verify := &cobra.Command{
		Use: "verify", Short: "Replays the books and compares", Args: exactly(),
		Long: `Replays every entry of the ledger and compares with all balances.
The exit status is 0 if they agree, and 1 if anything differs.

What was archived is not in the store any more: without --archive the replay
begins with the balances at the end of the archive, which the store has recorded,
and says so. With --archive the files in that directory are checked and replayed,
too: each seal, that each file follows on the one before, that the last one is
the store's last, and that they lead to the balances that the store begins with.`,
	}
	dir := verify.Flags().String("archive", "", "The directory of the archive: read and verify all of it, too")
	verify.RunE = func(cmd *cobra.Command, _ []string) error { return verifyLedger(c, cmd, *dir) }
	return group("ledger", "Checks, exports and archives the ledger", verify, exportLedger(c), archiveLedger(c))
}

func verifyLedger(c *connection, cmd *cobra.Command, dir string) error {
	bar := c.bar(cmd, "transactions")
	var raw json.RawMessage
	err := c.reach(cmd.Context(), http.MethodPost, func(ctx context.Context, client *ops.Client) (err error) {
		raw, err = client.Stream(ctx, http.MethodPost, "ledger/verify", nil, bar.part("verifying"))
		return err
	})
	bar.end()
	if err != nil {
		return err
	}
	v, err := decode[admin.VerificationView](raw)
	if err != nil {
		return err
	}
	chain, err := verifyArchive(c, cmd, dir, &v)
	if err != nil {
		return err
	}
	switch out := cmd.OutOrStdout(); {
	case c.json:
		if err := printJSON(out, verified{v, chain}); err != nil {
			return err
		}
	case len(v.Differences) == 0:
		fmt.Fprintf(out, "The books balance: %d transactions, %d accounts.\n", v.Transactions, v.Accounts)
		printArchived(out, &v, chain)
	default:
		for _, difference := range v.Differences {
			fmt.Fprintln(out, difference)
		}
	}
	if n := len(v.Differences); n > 0 {
		return fmt.Errorf("the books do not balance: differences: %d", n)
	}
	return nil
}

func auditCommand(c *connection) *cobra.Command {
	list := listCommand(c, "Lists what operators did, newest first", func() string { return "audit" }, nil,
		[]string{"AT", "ACTOR", "FROM", "ACTION", "TARGET", "DETAIL"},
		func(a admin.AuditView) []any {
			return []any{a.At.Format(time.RFC3339), a.Actor, orDash(a.From), a.Action, a.Target, string(a.Detail)}
		})
	return group("audit", "Shows what operators did", list)
}
