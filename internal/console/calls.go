package console

import (
	"net/url"
	"slices"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/usagetable"
)

// callFilters are the parameters of a list of calls that charged nothing.
var callFilters = []string{"key", "server", "tool", "outcome", "code", "since", "until"}

// calls shows calls that were refused or failed.
func (v *visit) calls() error {
	rows, err := list[admin.CallView](v, "calls", v.callQuery())
	if err != nil {
		return err
	}
	return v.show("calls", "calls", "Refused and failed calls", rows)
}

// callQuery returns the filters of the page. On the page of an account, the account is
// always the one that admit has found.
func (v *visit) callQuery() url.Values {
	if v.account == "" {
		return v.filters(append([]string{"account"}, callFilters...)...)
	}
	filters := v.filters(callFilters...)
	filters.Set("account", v.account)
	return filters
}

// latestCalls returns the latest calls that were refused or failed.
func (v *visit) latestCalls(filters url.Values) ([]admin.CallView, error) {
	filters.Set("limit", recentRows)
	found, err := get[admin.List[admin.CallView]](v, "calls", filters)
	if err != nil {
		return nil, err
	}
	return found.Items, nil
}

// exportCalls writes the calls of the page's filters as CSV.
func (v *visit) exportCalls() error {
	leave, err := v.beginExport()
	if err != nil {
		return err
	}
	defer leave()
	var rows []admin.CallView
	err = each(v, "calls", v.callQuery(), func(c admin.CallView) bool {
		rows = append(rows, c)
		return len(rows) < maxExport
	})
	if err != nil {
		return err
	}
	v.attach("calls.csv", "text/csv; charset=utf-8")
	return usagetable.WriteCalls(v.w, rows, true)
}

// ranges are the time ranges over which the list of keys sums calls up.
var ranges = []string{"1d", "7d", "30d", "90d"}

// timeRange returns the time range in the page's URL; the default is usageSince.
func (v *visit) timeRange() string {
	if asked := v.r.URL.Query().Get("range"); slices.Contains(ranges, asked) {
		return asked
	}
	return usageSince
}
