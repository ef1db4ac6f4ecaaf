package cli

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/usagetable"
)

// addUsageCSV adds the flag --csv to "usage", and a note on standard error if charges
// are missing from the report.
func addUsageCSV(x *operation) {
	addCSV(x, usagetable.Write)
	x.note = func(raw []byte) error {
		page, err := decode[admin.UsageView](raw)
		usagetable.Note(x.cmd.ErrOrStderr(), &page)
		return err
	}
}

// addCallsCSV adds the flag --csv to "call list".
func addCallsCSV(x *operation) { addCSV(x, usagetable.WriteCalls) }

// addCSV adds the flag --csv to the command of a listing. It makes the command print
// the items by write(w, items, csv), and makes it check --key.
func addCSV[T any](x *operation, write func(w io.Writer, items []T, csv bool) error) {
	csv := x.cmd.Flags().Bool("csv", false, "Print CSV, with amounts as decimals")
	x.print = func(w io.Writer, raw []byte) error {
		items, err := decode[[]T](raw)
		if err != nil {
			return err
		}
		return write(w, items, *csv)
	}
	list := x.cmd.RunE
	x.cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if key, err := cmd.Flags().GetString("key"); err == nil && key != "" && !keys.IsCredentialID(key) { // the text may be a secret: do not send or print it
			return errNoKeyID
		}
		if *csv && x.c.json {
			return errors.New("--csv and --json contradict each other")
		}
		return list(cmd, args)
	}
}
