package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// noteArchived reports on standard error that n older rows of a listing are in the
// archive.
func noteArchived(cmd *cobra.Command, n int64) {
	if n > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d older ones, of all accounts, are in the archive.\n", n)
	}
}

// printFields prints names and values in two aligned columns.
func printFields(w io.Writer, pairs ...any) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(table, "%v\t%v\n", pairs[i], pairs[i+1])
	}
	_ = table.Flush() // a failed write to the terminal is ignored
}

// printTable prints a header line, and below it one line of cells per item.
func printTable[T any](w io.Writer, head []string, items []T, row func(T) []any) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(head, "\t"))
	for _, item := range items {
		cells := row(item)
		text := make([]string, len(cells))
		for i, cell := range cells {
			text[i] = fmt.Sprint(cell)
		}
		fmt.Fprintln(table, strings.Join(text, "\t"))
	}
	return table.Flush()
}

func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}
