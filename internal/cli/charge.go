package cli

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
)

func chargeCommand(c *connection) *cobra.Command {
	return group("charge", "Shows and refunds charges", listCharges(c), showCharge(c), refundCharge(c))
}

// chargeChoice holds the flags that filter charges.
type chargeChoice struct{ account, provider, key, server, tool, since, until string }

func (q *chargeChoice) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&q.account, "account", "", "Only those that this account paid, by name or id")
	f.StringVar(&q.provider, "provider", "", "Only those that this account earned, by name or id")
	f.StringVar(&q.key, "key", "", "Only those by the key of this id")
	f.StringVar(&q.server, "server", "", "Only those of this server")
	f.StringVar(&q.tool, "tool", "", "Only those of what was called so, such as get_forecast or prompt:NAME")
	f.StringVar(&q.since, "since", "", "Only those of then or later: 36h or 7d ago, a day (UTC) such as 2026-11-30, or a time such as 2026-11-30T12:00:00Z")
	f.StringVar(&q.until, "until", "", "Only those of before, as --since")
}

func (q *chargeChoice) query() string {
	query := make(url.Values)
	for name, value := range map[string]string{
		"account": q.account, "provider": q.provider, "key": q.key, "server": q.server, "tool": q.tool, "since": q.since, "until": q.until,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query.Encode()
}

// listCharges lists charges or, with --sum, prints their totals.
func listCharges(c *connection) *cobra.Command {
	var q chargeChoice
	var sum bool
	cmd := listCommand(c, "Lists charges, newest first", func() string { return "charges?" + q.query() }, q.addTo,
		[]string{"AT", "CHARGE", "ACCOUNT", "PROVIDER", "SERVER", "TOOL", "AMOUNT", "FEE", "REFUNDED", "STATE", "ENVIRONMENT"},
		func(v admin.ChargeView) []any {
			return []any{v.At.Format(time.RFC3339), v.ID, orID(v.AccountName, v.Account), orID(v.ProviderName, v.Provider), v.Server, v.Tool, v.Amount, v.Fee, v.Refunded, v.State, v.Environment}
		})
	cmd.Flags().BoolVar(&sum, "sum", false, "Print what they come to, all of them, in place of the list")
	cmd.MarkFlagsMutuallyExclusive("sum", "limit")
	list := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if q.key != "" && !strings.HasPrefix(q.key, "key_") { // it may be a secret: do not send or print it
			return errors.New("--key wants the id of a key, which begins with key_: find it with key list, by the hint or the name")
		}
		if sum {
			return sumCharges(c, cmd, q.query())
		}
		return list(cmd, args)
	}
	return cmd
}

// orID returns an account's name, or its id if the name is unknown.
func orID(name, id string) string {
	if name == "" {
		return id
	}
	return name
}

// sumCharges adds the pages of a sum up and prints the totals.
func sumCharges(c *connection, cmd *cobra.Command, query string) error {
	var all admin.ChargeSums
	for {
		raw, err := c.call(cmd.Context(), http.MethodGet, "charges/sum?"+query+"&after="+url.QueryEscape(all.Next), nil)
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
	return printTable(cmd.OutOrStdout(), []string{"ENVIRONMENT", "CHARGES", "AMOUNT", "FEES", "REFUNDED"}, lines,
		func(l line) []any { return []any{l.environment, l.Charges, l.Amount, l.Fees, l.Refunded} })
}

func chargePath(id string) string { return "charges/" + url.PathEscape(id) }

func showCharge(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "show <charge-id>", Short: "Shows a charge", Args: exactly("<charge-id>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return do(c, cmd, http.MethodGet, chargePath(args[0]), nil, printCharge)
		},
	}
}

func refundCharge(c *connection) *cobra.Command {
	var refund admin.Refund
	var amount string
	cmd := &cobra.Command{
		Use: "refund <charge-id>", Short: "Gives a charge back, in whole or in part", Args: exactly("<charge-id>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("amount") {
				parsed, err := ledger.ParseAmount(amount)
				if err != nil {
					return err
				}
				refund.Amount = &parsed
			}
			return do(c, cmd, http.MethodPost, chargePath(args[0])+"/refunds", refund, printCharge)
		},
	}
	cmd.Flags().StringVar(&amount, "amount", "", "How much (default: all that is left of the charge)")
	addBookingFlags(cmd, &refund.Reason, &refund.ID)
	return cmd
}

func printCharge(w io.Writer, v admin.ChargeView) {
	printFields(w, "charge", v.ID, "at", v.At.Format(time.RFC3339), "account", named(v.AccountName, v.Account), "provider", named(v.ProviderName, v.Provider), "key", v.Key,
		"server", v.Server, "tool", v.Tool, "amount", freeText(v.Amount, v.Free), "fee", v.Fee, "refunded", v.Refunded, "state", v.State, "environment", v.Environment)
}
