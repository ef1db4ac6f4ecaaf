package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/cli/progress"
)

// bar returns a progress bar on standard error, or nil with --json or if standard error is
// not a terminal. The numbers are of the unit; "bytes" are shown in IEC units.
func (c *connection) bar(cmd *cobra.Command, unit string) *progress.Bar {
	if c.json {
		return nil
	}
	return progress.New(cmd.ErrOrStderr(), unit)
}

// noteArchived reports on standard error that n older rows of a listing are in the
// archive.
func noteArchived(cmd *cobra.Command, n int64) {
	if n > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d older ones, of all accounts, are in the archive.\n", n)
	}
}

func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}
