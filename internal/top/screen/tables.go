package screen

import (
	"slices"

	"github.com/fareboxhq/farebox/internal/top"
)

// order is a way to sort the table of tools.
type order struct {
	name    string
	column  string // the head of the column by which the table is sorted
	compare top.Order
}

var orders = []order{
	{"by calls", "CALLS/S", top.Busiest},
	{"by time", "MEAN", top.Slowest},
	{"by money", "MONEY/MIN", top.Dearest},
	{"by name", "", top.ByName},
}

func (s *Screen) servers(width int) []string {
	servers := s.View.Servers
	number := func(head string, keep, width int, of func(top.Server) string) column[top.Server] {
		return column[top.Server]{head: head, width: width, keep: keep, cell: func(v top.Server) (string, tone) { return of(v), plain }}
	}
	columns := []column[top.Server]{
		{left: true, cell: func(v top.Server) (string, tone) { return name(v.Server), strong }},
		number("REQ/S", 9, 7, func(v top.Server) string { return decimal(v.Requests.PerSecond) }),
		number("CHARGED/S", 6, 9, func(v top.Server) string { return decimal(v.Charged.PerSecond) }),
		number("REFUSED/S", 5, 9, func(v top.Server) string { return decimal(v.Refused.PerSecond) }),
		{head: "FAILED/S", width: 8, keep: 8, cell: func(v top.Server) (string, tone) { return decimal(v.Failed.PerSecond), badIf(v.Failed.PerSecond) }},
		number("ADDED P99", 4, 9, func(v top.Server) string { return seconds(v.Added.P99) }),
		number("UPSTR P50", 2, 9, func(v top.Server) string { return seconds(v.Upstream.P50) }),
		number("UPSTR P99", 3, 9, func(v top.Server) string { return seconds(v.Upstream.P99) }),
		number("MONEY/MIN", 7, 10, func(v top.Server) string { return money(v.AmountPerMinute) }),
		number("MONEY IN ALL", 1, 12, func(v top.Server) string { return money(v.Amount) }),
	}
	return s.orNone(table("SERVERS", columns, servers, width), len(servers))
}

func (s *Screen) tools(width int) []string {
	tools := slices.Clone(s.View.Tools)
	o := orders[s.Order%len(orders)]
	slices.SortStableFunc(tools, o.compare)
	number := func(head string, keep, width int, of func(top.Tool) string) column[top.Tool] {
		if head == o.column {
			head = "▼" + head
		}
		return column[top.Tool]{head: head, width: width, keep: keep, cell: func(v top.Tool) (string, tone) { return of(v), plain }}
	}
	server := column[top.Tool]{head: "SERVER", width: 16, left: true, keep: 3, cell: func(v top.Tool) (string, tone) { return name(v.Server), dim }}
	test := number("TEST KEYS", 1, 9, func(v top.Tool) string {
		if v.AmountOfTestKeys == nil || *v.AmountOfTestKeys == 0 {
			return dash
		}
		return money(v.AmountOfTestKeys)
	})
	test.optional = true
	columns := []column[top.Tool]{
		{left: true, cell: func(v top.Tool) (string, tone) { return name(v.Tool), strong }},
		server,
		number("CALLS/S", 9, 8, func(v top.Tool) string { return decimal(v.Calls.PerSecond) }),
		number("MEAN", 8, 8, func(v top.Tool) string { return seconds(v.MeanSeconds) }),
		number("MONEY/MIN", 7, 10, func(v top.Tool) string { return money(v.AmountPerMinute) }),
		number("CALLS IN ALL", 4, 12, func(v top.Tool) string { return count(v.Calls.Total) }),
		number("MEAN IN ALL", 2, 11, func(v top.Tool) string { return seconds(v.MeanSinceStart) }),
		number("MONEY IN ALL", 6, 12, func(v top.Tool) string { return money(v.Amount) }),
		test,
	}
	if len(s.View.Servers) < 2 {
		columns = slices.Delete(columns, 1, 2)
	}
	return s.orNone(table("TOOLS "+o.name, columns, tools, width), len(tools))
}

// orNone returns the lines of a table. If the table has no items, it adds a line that
// says that there was no request yet.
func (s *Screen) orNone(lines []string, items int) []string {
	if items == 0 {
		lines = append(lines, dim.paint("  no request yet"))
	}
	return lines
}
