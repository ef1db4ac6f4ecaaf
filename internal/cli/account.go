package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/cli/limits"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/table"
)

func printAccount(w io.Writer, a admin.AccountView) {
	table.Fields(w,
		"account", a.Name, "id", a.ID,
		"balance", fmt.Sprintf("%s (%s reserved)", a.Balance, a.Reserved),
		"test balance", fmt.Sprintf("%s (%s reserved)", a.TestBalance, a.TestReserved),
		"credit limit", a.CreditLimit, "caps", limits.CapsText(a.Caps))
}

// explainNegativeAmount replaces pflag's error for a negative amount, because pflag
// reads -5 as a group of short flags.
func explainNegativeAmount(x *operation) {
	x.cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if errors.As(err, &unknown) && strings.Trim(unknown.GetSpecifiedShortnames(), "0123456789.") == "" && unknown.GetSpecifiedShortnames() != "" {
			return fmt.Errorf("the amount must be more than zero, not -%s", unknown.GetSpecifiedShortnames())
		}
		return err
	})
}

func adjustCommand(c *connection) *cobra.Command {
	var adjustment admin.Credit
	var by string
	cmd := &cobra.Command{
		Use: "adjust <account> --by <amount>", Short: "Corrects an account's balance", Args: exactly("<account>"),
		Long: "Corrects an account's balance by an amount, which may be below zero. It may take\nthe balance below the account's limit; then nothing more can be spent.",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if by == "" {
				return errors.New("by how much? Give it with --by, as in --by -2.50")
			}
			if adjustment.Amount, err = ledger.ParseAmount(by); err != nil {
				return err
			}
			return do(c, cmd, &ops.AdjustAccount.Operation, adjustment, printAccount, args[0])
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "The amount, as 2.50 or -2.50 (required)")
	addBookingFlags(cmd, &adjustment.Reason, &adjustment.ID)
	cmd.Flags().BoolVar(&adjustment.Test, "test", false, "Correct the test balance")
	return cmd
}

func addBookingFlags(cmd *cobra.Command, reason, id *string) {
	cmd.Flags().StringVar(reason, "reason", "", "Why, for the audit (required)")
	cmd.Flags().StringVar(id, "id", "", "An id of your own, txn_ and a UUID, that makes a repetition harmless")
}
