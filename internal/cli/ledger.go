package cli

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/cli/progress"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/table"
)

func verifyLedgerCommand(c *connection) *cobra.Command {
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
	return verify
}

func verifyLedger(c *connection, cmd *cobra.Command, dir string) error {
	bar := c.bar(cmd, "transactions")
	var raw json.RawMessage
	err := c.Reach(cmd.Context(), ops.VerifyLedger.Method, func(ctx context.Context, client *ops.Client) (err error) {
		raw, err = client.Stream(ctx, ops.VerifyLedger.Method, ops.VerifyLedger.Path, nil, bar.Part("verifying"))
		return err
	})
	bar.End()
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

// exportLedger returns the command "ledger export". It writes all transactions of the
// journal, page by page, except those in the archive.
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
			if progress.IsTerminal(cmd.OutOrStdout()) { // the printed rows show the progress, and a bar would mix with them
				bar = nil
			}
			var archived int64
			err = c.Reach(cmd.Context(), ops.ListJournal.Method, func(ctx context.Context, client *ops.Client) (err error) {
				archived, err = exportPages(ctx, client, write, bar.Part("exporting"))
				return err
			})
			bar.End()
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

// exportPages writes all transactions in the store and reports its progress. It
// returns the number of older transactions, which are in the archive and are not
// written.
func exportPages(ctx context.Context, client *ops.Client, write func(admin.TransactionView) error, progress func(done, total int64)) (archived int64, err error) {
	var done, total int64
	for after := ""; ; {
		query := url.Values{"after": {after}, "limit": {strconv.Itoa(ledger.MaxPage)}}
		raw, err := client.Do(ctx, ops.ListJournal.Method, ops.ListJournal.Path+"?"+query.Encode(), nil)
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

// exporter returns a function that writes one transaction to w in the given format,
// and a function that flushes w at the end.
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
				t.Environment, t.Charge, t.Key, t.Server, table.Cell(t.Tool), table.Cell(t.Reason)})
		}, func() error { out.Flush(); return out.Error() }, nil
	default:
		return nil, nil, fmt.Errorf("--format %q is not known: want jsonl or csv", format)
	}
}
