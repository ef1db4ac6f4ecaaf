package usagetable

import (
	"cmp"
	"io"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/table"
)

// WriteCalls prints records of calls as a table, or as CSV with a header record.
func WriteCalls(w io.Writer, items []admin.CallView, csv bool) error {
	if csv {
		return table.CSV(w, callHead, items, callCells)
	}
	return table.Print(w, []string{"AT", "ACCOUNT", "KEY", "SERVER", "TOOL", "OUTCOME", "CODE", "PRICE", "ENVIRONMENT"}, items, func(c admin.CallView) []any {
		var price any = "-"
		if c.Price != nil {
			price = *c.Price
		}
		return []any{c.At.Format(time.RFC3339), cmp.Or(c.AccountName, c.Account), c.Key, c.Server, cmp.Or(c.Tool, "-"), c.Outcome, c.Code, price, c.Environment}
	})
}

var callHead = []string{"at", "account", "account_name", "key", "server", "method", "tool", "outcome", "code", "environment", "price", "status", "milliseconds", "trace"}

func callCells(c admin.CallView) []any {
	var price, status any = "", ""
	if c.Price != nil {
		price = *c.Price
	}
	if c.Status != 0 {
		status = c.Status
	}
	return []any{c.At.Format(time.RFC3339Nano), c.Account, c.AccountName, c.Key, c.Server, c.Method, c.Tool, c.Outcome, c.Code, c.Environment, price, status, c.Milliseconds, c.Trace}
}
