// Package usagetable prints reports of usage and records of calls.
package usagetable

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/table"
)

// Write prints rows as a table, or as CSV.
func Write(w io.Writer, items []admin.UsageRowView, csv bool) error {
	if csv {
		return CSV(w, items)
	}
	return Print(w, items)
}

// CSV prints rows as CSV with a header record. All reports have the same columns.
// Amounts are decimals.
func CSV(w io.Writer, items []admin.UsageRowView) error {
	return table.CSV(w, head, items, cells)
}

var head = []string{"at", "account", "account_name", "key", "server", "tool", "environment", "calls", "free", "charged", "refunds", "refunded", "fee", "fee_returned", "earned", "refused", "failed"}

func cells(r admin.UsageRowView) []any {
	return []any{r.At.Format(time.RFC3339), r.Account, r.AccountName, r.Key, r.Server, r.Tool, r.Environment,
		r.Calls, r.Free, r.Charged, r.Refunds, r.Refunded, r.Fee, r.FeeReturned, r.Earned, r.Refused, r.Failed}
}

// Print prints rows as a table. The columns for account, key, server and tool are
// printed only if some row has a value in them.
func Print(w io.Writer, items []admin.UsageRowView) error {
	groups := []struct {
		head  string
		value func(*admin.UsageRowView) string
	}{
		{"ACCOUNT", func(r *admin.UsageRowView) string { return cmp.Or(r.AccountName, r.Account) }},
		{"KEY", func(r *admin.UsageRowView) string { return r.Key }},
		{"SERVER", func(r *admin.UsageRowView) string { return r.Server }},
		{"TOOL", func(r *admin.UsageRowView) string { return r.Tool }},
	}
	columns := []string{"PERIOD"}
	shown := groups[:0]
	for _, g := range groups {
		if slices.ContainsFunc(items, func(r admin.UsageRowView) bool { return g.value(&r) != "" }) {
			columns, shown = append(columns, g.head), append(shown, g)
		}
	}
	columns = append(columns, "CALLS", "FREE", "REFUSED", "FAILED", "CHARGED", "REFUNDED", "FEE", "EARNED")
	return table.Print(w, columns, items, func(r admin.UsageRowView) []any {
		line := []any{r.At.Format(time.RFC3339)}
		for _, g := range shown {
			line = append(line, cmp.Or(g.value(&r), "-"))
		}
		return append(line, r.Calls, r.Free, r.Refused, r.Failed, r.Charged, r.Refunded, r.Fee-r.FeeReturned, r.Earned)
	})
}

// Note prints sentences about charges that are missing from a report. The page must be
// the last page of the report.
func Note(w io.Writer, page *admin.UsageView) {
	for _, note := range notes(page) {
		fmt.Fprintln(w, note)
	}
}

func notes(page *admin.UsageView) (notes []string) {
	switch {
	case !page.Complete && page.AsOf != nil:
		notes = append(notes, "The server is still summing up: these are the charges up to "+page.AsOf.Format(time.RFC3339)+".")
	case !page.Complete:
		notes = append(notes, "The server is still summing up, and has no sums yet.")
	}
	if page.After != nil {
		notes = append(notes, "Transactions up to "+page.After.Format(time.RFC3339)+" were archived before they were summed up.")
	}
	if page.From != nil {
		notes = append(notes, "Sums by hours begin at "+page.From.Format(time.RFC3339)+".")
	}
	return notes
}
