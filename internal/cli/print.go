package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// listCommand returns a command that lists up to --limit items, page by page.
func listCommand[T any](c *connection, short string, path func() string, flags func(*cobra.Command), head []string, row func(T) []any) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: short, Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return errors.New("--limit cannot be below zero; 0 lists all")
			}
			items, more, err := collect[T](c, cmd, path(), limit)
			if err != nil {
				return err
			}
			if more {
				fmt.Fprintf(cmd.ErrOrStderr(), "There are more than these %d: list all with --limit 0.\n", limit)
			}
			if c.json {
				return printJSON(cmd.OutOrStdout(), items)
			}
			return printTable(cmd.OutOrStdout(), head, items, row)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 1000, "How many to list at most; 0 lists all")
	if flags != nil {
		flags(cmd)
	}
	return cmd
}

// collect reads pages until it has limit items; a limit of 0 reads all.
func collect[T any](c *connection, cmd *cobra.Command, path string, limit int) (items []T, more bool, err error) {
	items = []T{}
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	for after := ""; ; {
		size := ledger.MaxPage
		if limit > 0 {
			size = min(size, limit-len(items))
		}
		query := url.Values{"after": {after}, "limit": {strconv.Itoa(size)}}
		raw, err := c.call(cmd.Context(), http.MethodGet, path+separator+query.Encode(), nil)
		if err != nil {
			return nil, false, err
		}
		page, err := decode[admin.List[T]](raw)
		if err != nil {
			return nil, false, err
		}
		items = append(items, page.Items...)
		noteArchived(cmd, page.Archived)
		if page.Next == "" || limit > 0 && len(items) >= limit {
			return items, page.Next != "", nil
		}
		after = page.Next
	}
}

// noteArchived reports on standard error that older rows are in the archive.
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
	_ = table.Flush() // to a terminal or a buffer
}

// printTable prints one line of cells per item below a head.
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
