package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/table"
)

// chargeFilters are the parameters of a list of charges.
var chargeFilters = []string{"key", "server", "tool", "since", "until"}

// chargesData is the data of charges.html.
type chargesData struct {
	listing[admin.ChargeView]
	Earned bool // the list shows charges that the account earned, not those that it paid
}

// Sortable returns the query for links that sort the list. It returns nil for a list of
// one account's charges, because stores cannot sort them.
func (d chargesData) Sortable(account *admin.AccountView) url.Values {
	if account != nil || d.Query.Get("account") != "" || d.Query.Get("provider") != "" {
		return nil
	}
	return d.Query
}

// onSide returns the named filters from the page's URL, and adds a filter for the
// route's account. The parameter "side" of the URL decides whether this account must be
// the provider (earned) or the payer. Without an account in the route, the URL may
// filter by any account.
func (v *visit) onSide(names []string) (filters url.Values, earned bool) {
	if v.account == "" {
		return v.filters(append([]string{"account", "provider"}, names...)...), false
	}
	filters = v.filters(names...)
	if earned = v.r.URL.Query().Get("side") == "earned"; !earned {
		filters.Set("account", v.account)
		return filters, false
	}
	filters.Set("provider", v.account)
	filters.Del("key") // a filter by key would show which charges have the same payer
	return filters, true
}

func (v *visit) charges() error {
	filters, earned := v.onSide(chargeFilters)
	if by := v.filters("sort"); len(by) > 0 {
		filters.Set("sort", by.Get("sort"))
	}
	rows, err := list[admin.ChargeView](v, "charges", filters)
	if err != nil {
		return err
	}
	rows.Items = v.discreet(rows.Items)
	return v.show("charges", "charges", "Charges", chargesData{rows, earned})
}

// discreet hides payers from a visitor that is not an operator: it removes the payer's
// account and key from each charge, unless an account of the visitor has paid the
// charge. So a provider sees the charges for its tools, but not its customers.
func (v *visit) discreet(charges []admin.ChargeView) []admin.ChargeView {
	for i := range charges {
		c := &charges[i]
		if !v.operator() && v.role(c.Account) == "" {
			c.Account, c.AccountName, c.Key = "", "", ""
		}
	}
	return charges
}

// discreetEntries returns the entries of a charge as the visitor may see them. A member
// sees the names of its own accounts. Other accounts are named by their role in the
// charge, such as "the provider".
func (v *visit) discreetEntries(c *admin.ChargeView) []admin.EntryView {
	entries := slices.Clone(c.Entries)
	for i := range entries {
		e := &entries[i]
		if v.operator() {
			continue
		}
		e.Reason = "" // a note of operators, as in history
		if v.role(e.Account) != "" {
			continue
		}
		switch e.Account {
		case c.Account:
			e.AccountName = "the customer"
		case c.Provider:
			e.AccountName = "the provider"
		default:
			e.AccountName = "the operator"
		}
		e.Account = ""
	}
	return entries
}

// chargeData is the data of charge.html.
type chargeData struct {
	Charge  admin.ChargeView
	Left    ledger.Amount // the amount that a refund can still return
	Entries []admin.EntryView
	History []event
	Booking string // id for a refund
}

func (v *visit) chargePage() error {
	entries := v.discreetEntries(v.charge) // before the charge's payer is removed
	c := v.discreet([]admin.ChargeView{*v.charge})[0]
	history, err := v.history("target", c.ID)
	if err != nil {
		return err
	}
	return v.show("charge", "charges", "Charge", chargeData{c, c.Amount - c.Refunded, entries, history, newBooking()})
}

func (v *visit) refund() error {
	form := v.r.PostForm
	body := admin.Refund{ID: form.Get("id"), Reason: form.Get("reason")}
	if strings.TrimSpace(form.Get("amount")) != "" {
		amount, err := v.amount("amount")
		if err != nil {
			return err
		}
		body.Amount = &amount
	}
	if _, err := post[admin.ChargeView](v, "charges/"+v.charge.ID+"/refunds", body); err != nil {
		return err
	}
	return v.done("refunded", "charges", v.charge.ID)
}

// Bounds of the exports of the console. The commands can export more.
const (
	maxExport  = 100_000         // rows in one export
	maxExports = 2               // exports at a time, because each is made in memory
	exportTime = 5 * time.Minute // time in which the browser must receive an export
)

// beginExport reserves one of the maxExports places, or returns errExports. The caller
// must call the returned function when the export is done. The write deadline ends an
// export to a browser that does not read it.
func (v *visit) beginExport() (leave func(), err error) {
	select {
	case v.c.exports <- struct{}{}:
	default:
		return nil, errExports
	}
	control := http.NewResponseController(v.w)
	_ = control.SetWriteDeadline(clock.Deadline(exportTime)) // only the response recorders of tests lack deadlines
	return func() {
		_ = control.SetWriteDeadline(time.Time{}) // otherwise the deadline would apply to the next response on the connection
		<-v.c.exports
	}, nil
}

// exportCharges writes the charges that match the page's filters as CSV.
func (v *visit) exportCharges() error {
	leave, err := v.beginExport()
	if err != nil {
		return err
	}
	defer leave()
	filters, _ := v.onSide(chargeFilters)
	var rows []admin.ChargeView
	err = each(v, "charges", filters, func(c admin.ChargeView) bool {
		rows = append(rows, c)
		return len(rows) < maxExport
	})
	if err != nil {
		return err
	}
	rows = v.discreet(rows)
	v.attach("charges.csv", "text/csv; charset=utf-8")
	head := []string{"id", "at", "account", "provider", "key", "server", "tool", "amount", "free", "fee", "refunded", "environment", "state"}
	return table.CSV(v.w, head, rows, func(c admin.ChargeView) []any {
		return []any{
			c.ID, c.At.Format(time.RFC3339Nano), c.AccountName, c.ProviderName, c.Key, c.Server, c.Tool, c.Amount,
			c.Free, c.Fee, c.Refunded, c.Environment, c.State,
		}
	})
}

// attach sets the headers that make a browser save the response as a file.
func (v *visit) attach(name, kind string) {
	v.w.Header().Set("Content-Type", kind)
	v.w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
}
