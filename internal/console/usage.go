package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/usagetable"
)

// usageFilters are the parameters of a usage report that a page takes from its URL.
var usageFilters = []string{"by", "group", "key", "server", "tool", "environment", "since", "until"}

// usageSince is the beginning of a report if the URL names no time. recentDays is the
// same time as a number of days.
const (
	usageSince = "30d"
	recentDays = 30
)

// groups are the ways to group a report. providerGroups leaves out the groups that
// would show a provider its customers.
var (
	groups         = []string{"none", "account", "key", "server", "tool"}
	providerGroups = []string{"none", "server", "tool"}
)

// usageData is the data of usage.html.
type usageData struct {
	admin.UsageView
	Query  url.Values
	First  bool
	Earned bool // the report has the earnings of the account, not its spending
	By     string
	Group  string
	Groups []string
	Total  admin.UsageRowView // the sum of all rows of the chart
	Chart  chart
	Whole  bool // whether the chart and the total cover all periods
}

// usageQuery returns the filters of a usage report, with defaults; see onSide.
func (v *visit) usageQuery() (filters url.Values, earned bool) {
	filters, earned = v.onSide(usageFilters)
	if filters.Get("since") == "" && filters.Get("until") == "" {
		filters.Set("since", usageSince)
	}
	if earned && !slices.Contains(providerGroups, filters.Get("group")) {
		filters.Del("group")
	}
	return filters, earned
}

func (v *visit) usage() error {
	filters, earned := v.usageQuery()
	d := usageData{Query: v.r.URL.Query(), Earned: earned, By: filters.Get("by"), Group: filters.Get("group"), Groups: groups, First: true}
	if d.By == "" {
		d.By = string(ledger.ByDay)
	}
	if d.Group == "" {
		d.Group = groups[0]
	}
	if earned {
		d.Groups = providerGroups
	}
	sums, err := v.sums(filters)
	if err != nil {
		return err
	}
	end := v.now
	if filters.Get("until") != "" {
		end = time.Time{} // the report ends in the past, and zeros after its end would be wrong
	}
	d.Chart, d.Total, d.Whole = chartOf(sums.Items, d.By, time.Time{}, end), total(sums.Items), sums.Next == ""
	d.UsageView = *sums
	slices.Reverse(d.Items)
	if d.Group != groups[0] {
		after := v.r.URL.Query().Get("after")
		filters.Set("limit", fmt.Sprint(pageSize))
		if d.First = after == ""; !d.First {
			filters.Set("after", after)
		}
		rows, err := get[admin.UsageView](v, "usage", filters)
		if err != nil {
			return err
		}
		d.UsageView = *rows
	} else {
		d.Next = ""
	}
	return v.show("usage", "usage", "Usage", d)
}

// sums returns the sums of each period, without groups, for a chart.
func (v *visit) sums(filters url.Values) (*admin.UsageView, error) {
	whole := url.Values{}
	for name, values := range filters {
		whole[name] = values
	}
	whole.Del("group")
	whole.Del("after")
	whole.Set("limit", fmt.Sprint(ledger.MaxPage))
	return get[admin.UsageView](v, "usage", whole)
}

// recent returns the sums of the last 30 days for the charges that match the filters.
// Pages that show a chart beside other things use it.
func (v *visit) recent(filters url.Values) (recentUsage, error) {
	filters.Set("since", usageSince)
	sums, err := v.sums(filters)
	if err != nil {
		return recentUsage{}, err
	}
	today := v.now.UTC().Truncate(24 * time.Hour)
	r := recentUsage{Chart: chartOf(sums.Items, string(ledger.ByDay), today.AddDate(0, 0, -recentDays), v.now), Total: total(sums.Items)}
	for _, row := range sums.Items {
		if row.At.Equal(today) {
			r.Today = row
		}
	}
	return r, nil
}

// recentUsage has the sums of the last 30 days and of the current day (UTC).
type recentUsage struct {
	Chart        chart
	Total, Today admin.UsageRowView
}

// total returns the sum of the rows.
func total(rows []admin.UsageRowView) (sum admin.UsageRowView) {
	for i := range rows {
		r := &rows[i]
		sum.Refused, sum.Failed = sum.Refused+r.Refused, sum.Failed+r.Failed
		sum.Calls, sum.Free, sum.Refunds = sum.Calls+r.Calls, sum.Free+r.Free, sum.Refunds+r.Refunds
		sum.Charged, sum.Refunded, sum.Fee, sum.FeeReturned, sum.Earned = sum.Charged+r.Charged, sum.Refunded+r.Refunded, sum.Fee+r.Fee, sum.FeeReturned+r.FeeReturned, sum.Earned+r.Earned
	}
	return sum
}

// chart is the data of a chart, in the form that console.js reads.
type chart struct {
	Labels []int64  `json:"labels"` // beginnings of the periods, in seconds since 1970
	Series []series `json:"series"`
}

type series struct {
	Name   string    `json:"name"`
	Values []float64 `json:"values"` // inexact, because they are only drawn
}

// fewPeriods is the smallest number of periods in a chart. With fewer periods the chart
// would show no line.
const fewPeriods = 7

// chartOf returns the chart for rows without groups. If from is zero, the chart begins
// at the first row. The chart ends at the last row, or at the current time if that is
// later. Periods without charges have the value zero, so that the line does not skip
// them.
func chartOf(rows []admin.UsageRowView, by string, from, now time.Time) chart {
	c := chart{Labels: []int64{}, Series: []series{{Name: "Charged", Values: []float64{}}, {Name: "Refunded", Values: []float64{}}}}
	if len(rows) == 0 {
		return c
	}
	at := map[time.Time]*admin.UsageRowView{}
	first, last := rows[0].At, rows[0].At
	for i := range rows {
		at[rows[i].At.UTC()] = &rows[i]
		if rows[i].At.Before(first) {
			first = rows[i].At
		}
		if rows[i].At.After(last) {
			last = rows[i].At
		}
	}
	if now.After(last) {
		last = now
	}
	if !from.IsZero() {
		first = from
	}
	for range fewPeriods {
		if later := shift(first.UTC(), by, fewPeriods-1); later.After(last) {
			first = shift(first.UTC(), by, -1)
		}
	}
	for t := first.UTC(); !t.After(last) && len(c.Labels) < 2*ledger.MaxPage; t = shift(t, by, 1) {
		row := at[t]
		if row == nil {
			row = &admin.UsageRowView{}
		}
		c.Labels = append(c.Labels, t.Unix())
		c.Series[0].Values = append(c.Series[0].Values, float64(row.Charged)/float64(ledger.Unit))
		c.Series[1].Values = append(c.Series[1].Values, float64(row.Refunded)/float64(ledger.Unit))
	}
	return c
}

// shift returns the beginning of the period that comes n periods after the period that
// begins at t.
func shift(t time.Time, by string, n int) time.Time {
	switch ledger.UsageBy(by) {
	case ledger.ByHour:
		return t.Add(time.Duration(n) * time.Hour)
	case ledger.ByMonth:
		return t.AddDate(0, n, 0)
	}
	return t.AddDate(0, 0, n)
}

// exportUsage writes the report for the page's filters as CSV or JSON.
func (v *visit) exportUsage() error {
	leave, err := v.beginExport()
	if err != nil {
		return err
	}
	defer leave()
	filters, _ := v.usageQuery()
	rows := []admin.UsageRowView{} // not nil, so that an empty list is [] in JSON
	err = each(v, "usage", filters, func(r admin.UsageRowView) bool {
		rows = append(rows, r)
		return len(rows) < maxExport
	})
	if err != nil {
		return err
	}
	if strings.HasSuffix(v.r.URL.Path, ".json") {
		v.attach("usage.json", "application/json")
		return json.NewEncoder(v.w).Encode(rows)
	}
	v.attach("usage.csv", "text/csv; charset=utf-8")
	return usagetable.Write(v.w, rows, true)
}

// statementData is the data of statement.html.
type statementData struct {
	Account        admin.AccountView
	Month          time.Time
	Previous, Next string // months in the form of the URL; Next is "" for the current month
	Paid, Earned   []admin.UsageRowView
	PaidTotal      admin.UsageRowView
	EarnedTotal    admin.UsageRowView
}

const monthForm = "2006-01"

// statement shows the charges of an account in one month, on a page for printing.
func (v *visit) statement() error {
	month := time.Date(v.now.UTC().Year(), v.now.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	if text := v.r.URL.Query().Get("month"); text != "" {
		var err error
		if month, err = time.Parse(monthForm, text); err != nil {
			return &failure{http.StatusBadRequest, "The month cannot be read", "Want a year and a month, such as 2026-11."}
		}
	}
	a, err := v.accountView()
	if err != nil {
		return err
	}
	d := statementData{Account: *a, Month: month, Previous: month.AddDate(0, -1, 0).Format(monthForm)}
	if after := month.AddDate(0, 1, 0); !after.After(v.now) {
		d.Next = after.Format(monthForm)
	}
	if d.Paid, err = v.ofMonth("account", month); err != nil {
		return err
	}
	if d.Earned, err = v.ofMonth("provider", month); err != nil {
		return err
	}
	d.PaidTotal, d.EarnedTotal = total(d.Paid), total(d.Earned)
	return v.show("statement", "usage", "Statement of "+month.Format("January 2006"), d)
}

// ofMonth returns the sums of each tool in a month. If side is "provider", it sums up
// the charges that the account earned, otherwise those that it paid.
func (v *visit) ofMonth(side string, month time.Time) (rows []admin.UsageRowView, err error) {
	filters := url.Values{
		side: {v.account}, "by": {string(ledger.ByMonth)}, "group": {string(ledger.GroupTool)},
		"since": {month.Format(time.DateOnly)}, "until": {month.AddDate(0, 1, 0).Format(time.DateOnly)},
	}
	err = each(v, "usage", filters, func(r admin.UsageRowView) bool {
		rows = append(rows, r)
		return true
	})
	return rows, err
}
