package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/table"
)

var errNoKeyID = errors.New("--key wants the id of a key, which begins with key_: find it with key list, by the hint or the name")

// addSum adds the flag --sum to "charge list", and makes the command check --key.
func addSum(x *operation) {
	sum := x.cmd.Flags().Bool("sum", false, "Print the totals of the charges instead of the list")
	x.cmd.MarkFlagsMutuallyExclusive("sum", "limit")
	list := x.cmd.RunE
	x.cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if key, err := cmd.Flags().GetString("key"); err == nil && key != "" && !keys.IsCredentialID(key) { // the text may be a secret: do not send or print it
			return errNoKeyID
		}
		if *sum {
			_, query, _ := strings.Cut(x.path(), "?")
			return sumCharges(x.c, cmd, query)
		}
		return list(cmd, args)
	}
}

// sumCharges adds up the sums of all pages and prints the totals.
func sumCharges(c *connection, cmd *cobra.Command, query string) error {
	var all admin.ChargeSums
	for after := ""; ; {
		raw, err := c.Call(cmd.Context(), ops.SumCharges.Method, ops.SumCharges.Path+"?"+query+after, nil)
		if err != nil {
			return err
		}
		part, err := decode[admin.ChargeSums](raw)
		if err != nil {
			return err
		}
		if err := errors.Join(all.Live.Add(part.Live), all.Test.Add(part.Test)); err != nil {
			return err
		}
		all.Next, all.Archived = part.Next, part.Archived
		if all.Next == "" {
			break
		}
		after = "&after=" + url.QueryEscape(all.Next)
	}
	noteArchived(cmd, all.Archived)
	if c.json {
		return printJSON(cmd.OutOrStdout(), all)
	}
	type line struct {
		environment string
		admin.ChargeSum
	}
	lines := []line{{"live", all.Live}}
	if all.Test.Charges > 0 {
		lines = append(lines, line{"test", all.Test})
	}
	return table.Print(cmd.OutOrStdout(), []string{"ENVIRONMENT", "CHARGES", "AMOUNT", "FEES", "REFUNDED"}, lines,
		func(l line) []any { return []any{l.environment, l.Charges, l.Amount, l.Fees, l.Refunded} })
}

// printCharge prints a charge, and its entries if the view has them.
func printCharge(w io.Writer, v admin.ChargeView) {
	table.Fields(w, "charge", v.ID, "at", v.At.Format(time.RFC3339), "account", named(v.AccountName, v.Account), "provider", named(v.ProviderName, v.Provider), "key", v.Key,
		"server", v.Server, "tool", v.Tool, "amount", freeText(v.Amount, v.Free), "fee", v.Fee, "refunded", v.Refunded, "state", v.State, "environment", v.Environment)
	if len(v.Entries) == 0 {
		return
	}
	fmt.Fprintln(w)
	_ = table.Print(w, []string{"AT", "ENTRY", "ACCOUNT", "AMOUNT", "REASON"}, v.Entries, func(e admin.EntryView) []any {
		return []any{e.At.Format(time.RFC3339), e.Kind, cmp.Or(e.AccountName, e.Account), e.Amount, orDash(e.Reason)}
	})
}

// freeText renders a charge's amount, with a note if a free quota covered it.
func freeText(amount ledger.Amount, free bool) string {
	if free {
		return amount.String() + " (free quota)"
	}
	return amount.String()
}
