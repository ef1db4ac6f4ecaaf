package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// UsageHistory describes the charges of one year, for measurements of how long reports
// take.
type UsageHistory struct {
	Charges, Keys, Accounts, Servers, Tools int
	Begin                                   time.Time
}

// UsageYear returns a history with the given number of charges. There is one key for
// every ten charges, and one account for every thousand charges, so that a million
// charges are by 100,000 keys.
func UsageYear(charges int, end time.Time) UsageHistory {
	return UsageHistory{Charges: charges, Keys: max(charges/10, 1), Accounts: max(charges/1000, 1), Servers: 10, Tools: 20, Begin: end.Add(-365 * day)}
}

// At returns the time of charge number i, counted from 0.
func (h *UsageHistory) At(i int) time.Time {
	return h.Begin.Add(time.Duration(i) * (365 * day / time.Duration(h.Charges)))
}

// Key returns the number of the key that pays for charge number i. The charges of each
// key are spread over the whole year.
func (h *UsageHistory) Key(i int) int { return (i * 7919) % h.Keys }

// Account returns the number of the account that owns the key.
func (h *UsageHistory) Account(key int) int { return key % h.Accounts }

// KeyID returns the id of the key with the given number.
func (h *UsageHistory) KeyID(key int) string {
	return fmt.Sprintf("key_0190b7a2-5b1c-7d3e-8f40-%012d", key)
}

// Server returns the name of the server of charge number i.
func (h *UsageHistory) Server(i int) string { return fmt.Sprint("server-", i%h.Servers) }

// Tool returns the name of the tool of charge number i.
func (h *UsageHistory) Tool(i int) string { return fmt.Sprint("tool_number_", i/h.Servers%h.Tools) }

// MeasureUsage logs how long each kind of report takes over the history. It reads all
// parts of a report that is drawn as a chart, and only the first part of any other
// report. If the limit is not 0, a report that takes longer is an error.
func MeasureUsage(t *testing.T, s Summer, h UsageHistory, accounts []string, provider string, limit time.Duration) {
	t.Helper()
	month := time.Date(h.Begin.Year(), h.Begin.Month()+5, 1, 0, 0, 0, 0, time.UTC)
	in := func(since, until time.Time) ledger.UsageQuery { return ledger.UsageQuery{Since: since, Until: until} }
	year, oneMonth, oneDay := in(h.Begin, h.Begin.Add(365*day)), in(month, month.AddDate(0, 1, 0)), in(month, month.Add(day))
	with := func(q ledger.UsageQuery, by ledger.UsageBy, group ledger.UsageGroup, change ...func(*ledger.UsageQuery)) ledger.UsageQuery {
		q.By, q.Group = by, group
		for _, c := range change {
			c(&q)
		}
		return q
	}
	account := func(q *ledger.UsageQuery) { q.Account = accounts[0] }
	key := func(q *ledger.UsageQuery) { q.Key = h.KeyID(0) }
	server := func(q *ledger.UsageQuery) { q.Server = "server-1" }
	tool := func(q *ledger.UsageQuery) { q.Tool = "tool_number_3" }
	earner := func(q *ledger.UsageQuery) { q.Provider = provider }
	for _, r := range []struct {
		name  string
		chart bool // whether to read all parts, as for a chart
		q     ledger.UsageQuery
	}{
		{"all charges, days of the year", true, with(year, ledger.ByDay, ledger.GroupNone)},
		{"all charges, months of the year", true, with(year, ledger.ByMonth, ledger.GroupNone)},
		{"all charges, hours of a month", true, with(oneMonth, ledger.ByHour, ledger.GroupNone)},
		{"servers, days of the year", false, with(year, ledger.ByDay, ledger.GroupServer)},
		{"servers, months of the year", true, with(year, ledger.ByMonth, ledger.GroupServer)},
		{"tools, months of the year", true, with(year, ledger.ByMonth, ledger.GroupTool)},
		{"tools, days of the year", false, with(year, ledger.ByDay, ledger.GroupTool)},
		{"one account, days of the year", true, with(year, ledger.ByDay, ledger.GroupNone, account)},
		{"one account, its tools by months", true, with(year, ledger.ByMonth, ledger.GroupTool, account)},
		{"one account, its keys by months", false, with(year, ledger.ByMonth, ledger.GroupKey, account)},
		{"one account, its keys in a month", true, with(oneMonth, ledger.ByMonth, ledger.GroupKey, account)},
		{"one key, days of the year", true, with(year, ledger.ByDay, ledger.GroupNone, key)},
		{"one key, its tools by months", true, with(year, ledger.ByMonth, ledger.GroupTool, key)},
		{"one server, days of the year", true, with(year, ledger.ByDay, ledger.GroupNone, server)},
		{"one server, its tools by months", true, with(year, ledger.ByMonth, ledger.GroupTool, server)},
		{"one tool, days of the year", true, with(year, ledger.ByDay, ledger.GroupNone, tool)},
		{"one provider, days of the year", true, with(year, ledger.ByDay, ledger.GroupNone, earner)},
		{"accounts in a month", false, with(oneMonth, ledger.ByMonth, ledger.GroupAccount)},
		{"accounts, months of the year", false, with(year, ledger.ByMonth, ledger.GroupAccount)},
		{"accounts, days of the year", false, with(year, ledger.ByDay, ledger.GroupAccount)},
		{"accounts, hours of a day", false, with(oneDay, ledger.ByHour, ledger.GroupAccount)},
		{"accounts of a server in a month", false, with(oneMonth, ledger.ByMonth, ledger.GroupAccount, server)},
		{"keys in a month", false, with(oneMonth, ledger.ByMonth, ledger.GroupKey)},
		{"keys, months of the year", false, with(year, ledger.ByMonth, ledger.GroupKey)},
		{"keys, days of the year", false, with(year, ledger.ByDay, ledger.GroupKey)},
		{"keys, hours of a day", false, with(oneDay, ledger.ByHour, ledger.GroupKey)},
		{"keys of a tool in a month", false, with(oneMonth, ledger.ByMonth, ledger.GroupKey, tool)},
	} {
		took, parts, rows := measureReport(t, s, r.q, r.chart)
		t.Logf("%-35s %6s, %d rows in %d parts", r.name, took.Round(10*time.Microsecond), rows, parts)
		if limit > 0 && took > limit {
			t.Errorf("%s: %v, want %v at most", r.name, took, limit)
		}
	}
}

// measureReport returns the median time of five runs of a report, and the number of
// parts and rows that one run read.
func measureReport(t *testing.T, s Summer, q ledger.UsageQuery, all bool) (median time.Duration, parts, rows int) {
	t.Helper()
	var times []time.Duration
	for range 5 {
		parts, rows = 0, 0
		began, part := clock.Now(), q
		for {
			r, err := s.UsageReport(t.Context(), part)
			if err != nil {
				t.Fatal(err)
			}
			parts, rows = parts+1, rows+len(r.Rows)
			if part.After = r.Next; part.After == "" || !all {
				break
			}
		}
		times = append(times, clock.Since(began))
	}
	slices.Sort(times)
	return times[len(times)/2], parts, rows
}
