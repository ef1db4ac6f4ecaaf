package cli

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
)

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
			return do(c, cmd, http.MethodPost, "accounts/"+url.PathEscape(args[0])+"/adjustments", adjustment, printAccount)
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

// freeText renders a charge's amount, and notes if a free quota paid it.
func freeText(amount ledger.Amount, free bool) string {
	if free {
		return amount.String() + " (free quota)"
	}
	return amount.String()
}

// exportLedger returns the command that writes the whole journal, page by page.
func exportLedger(c *connection) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "export", Short: "Writes every movement of credits, oldest first", Args: exactly(),
		Long: "Writes every movement of credits to standard output, oldest first: as JSON lines,\nor with --format csv as CSV with a head. Amounts are decimals, never floats.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.json && format != "jsonl" {
				return fmt.Errorf("--json and --format %s contradict each other", format)
			}
			write, finish, err := exporter(cmd.OutOrStdout(), format)
			if err != nil {
				return err
			}
			bar := c.bar(cmd, "transactions")
			if isTerminal(cmd.OutOrStdout()) { // the rows themselves show the progress
				bar = nil
			}
			var archived int64
			err = c.reach(cmd.Context(), http.MethodGet, func(ctx context.Context, client *ops.Client) (err error) {
				archived, err = exportPages(ctx, client, write, bar.part("exporting"))
				return err
			})
			bar.end()
			if err != nil {
				return err
			}
			if archived > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d older transactions are in the archive, and not in this export.\n", archived)
			}
			return finish()
		},
	}
	cmd.Flags().StringVar(&format, "format", "jsonl", "jsonl or csv")
	return cmd
}

// exportPages writes all transactions and reports its progress. It returns the
// number of older transactions, which are in the archive.
func exportPages(ctx context.Context, client *ops.Client, write func(admin.TransactionView) error, progress func(done, total int64)) (archived int64, err error) {
	var done, total int64
	for after := ""; ; {
		query := url.Values{"after": {after}, "limit": {strconv.Itoa(ledger.MaxPage)}}
		raw, err := client.Do(ctx, http.MethodGet, "journal?"+query.Encode(), nil)
		if err != nil {
			return 0, err
		}
		page, err := decode[admin.JournalView](raw)
		if err != nil {
			return 0, err
		}
		for _, t := range page.Items {
			if err := write(t); err != nil {
				return 0, err
			}
		}
		archived += page.Archived
		done, total = done+int64(len(page.Items)), max(total, page.Total)
		progress(done, max(total, done))
		if after = page.Next; after == "" {
			return archived, nil
		}
	}
}

var exportHead = []string{"id", "kind", "at", "debtor", "creditor", "amount", "environment", "charge", "key", "server", "tool", "reason"}

// exporter returns a function that writes one transaction in that format, and one
// that flushes.
func exporter(w io.Writer, format string) (write func(admin.TransactionView) error, finish func() error, err error) {
	switch format {
	case "jsonl":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return func(t admin.TransactionView) error { return e.Encode(t) }, func() error { return nil }, nil
	case "csv":
		out := csv.NewWriter(w)
		if err := out.Write(exportHead); err != nil {
			return nil, nil, err
		}
		return func(t admin.TransactionView) error {
			return out.Write([]string{t.ID, t.Kind, t.At.Format(time.RFC3339Nano), t.Debtor, t.Creditor, t.Amount.String(),
				t.Environment, t.Charge, t.Key, t.Server, cell(t.Tool), cell(t.Reason)})
		}, func() error { out.Flush(); return out.Error() }, nil
	default:
		return nil, nil, fmt.Errorf("--format %q is not known: want jsonl or csv", format)
	}
}

// cell escapes a text for spreadsheets, which would evaluate one that begins like a
// formula. Tool names come from servers and agents and cannot be trusted.
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}
