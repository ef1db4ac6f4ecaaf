package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// clientLimit is a share of the client's core. If the client used this share or more, it
// may have limited the rate of the row.
const clientLimit = 0.9

// openShortfall is a share of the wanted rate in open loop. A row that reached less than
// this share is reported.
const openShortfall = 0.97

// writeText writes the report for a terminal.
func (r *report) writeText(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "%d rounds of %g s, %d connections; %s, took %s; revision %s\n", r.Rounds, r.Seconds, r.Connections, r.Begin.Format("2006-01-02 15:04 MST"), r.Took, m.Revision)
	fmt.Fprintln(w, m)
	fmt.Fprintf(w, "load average before: %s; after: %s\n", r.LoadBefore, r.LoadAfter)
	for _, t := range r.tables() {
		if err := t.write(w); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	for _, line := range append(r.notes(), r.LeftOut...) {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// table is a table of the report. Its first column has the names of the rows.
type table struct {
	columns []string
	lines   [][]string
}

// write writes the table with aligned columns, after an empty line.
func (t table) write(w io.Writer) error {
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, line := range append([][]string{t.columns}, t.lines...) {
		fmt.Fprintln(tw, strings.Join(line, "\t"))
	}
	return tw.Flush()
}

func (r *report) tables() []table {
	closed := table{columns: []string{"row", "calls/s", "of its base", "gateway CPU", "of its base", "allocations"}}
	others := table{columns: []string{"CPU of", "gateway", "auth", "database", "upstream", "client", "client busy"}}
	open := table{columns: []string{"open loop", "calls/s", "p50 ms", "p99 ms", "p99 of its base"}}
	for _, row := range r.Rows {
		closed.lines = append(closed.lines, []string{row.Name, fmt.Sprintf("%.0f", row.Rate.Median),
			shown(row.Ratio), microseconds(row, gatewayRole), shown(row.CPURatio), shownAllocs(row.Allocs)})
		others.lines = append(others.lines, []string{row.Name, microseconds(row, gatewayRole), microseconds(row, authRole),
			microseconds(row, databaseRole), microseconds(row, upstreamRole), microseconds(row, clientRole), fmt.Sprintf("%.0f%%", 100*row.Busy)})
		open.lines = append(open.lines, []string{row.Name, fmt.Sprintf("%.0f", row.Open.Reached),
			shown(row.Open.P50), shown(row.Open.P99), shown(row.Open.P99Ratio)})
	}
	return []table{closed, others, open}
}

// notes returns lines that explain the figures, and lines about rows with figures that
// may be wrong.
func (r *report) notes() []string {
	notes := []string{"CPU is in µs a call. Values are medians, with the lowest and the highest in parentheses. The base of a row is plain Caddy with the same answer, in turns directly before and after the row's."}
	if direct, ok := r.find(directRow); ok {
		fastest := rowReport{}
		for _, row := range r.Rows {
			if row.Name != directRow && row.Rate.Median > fastest.Rate.Median {
				fastest = row
			}
		}
		if fastest.Name != "" {
			notes = append(notes, fmt.Sprintf("The client makes %.0f calls/s directly at the upstream, %.1f times the fastest gateway (%s).", direct.Rate.Median, direct.Rate.Median/fastest.Rate.Median, fastest.Name))
		}
	}
	for _, row := range r.Rows {
		if row.Name != directRow && row.Busy >= clientLimit {
			notes = append(notes, fmt.Sprintf("%s: the client used %.0f%% of its core and may have been the limit.", row.Name, 100*row.Busy))
		}
		if row.Open.Reached < openShortfall*row.Open.Wanted {
			notes = append(notes, fmt.Sprintf("%s: open loop reached %.0f of %.0f calls/s, so its p50 and p99 are not those of half load.", row.Name, row.Open.Reached, row.Open.Wanted))
		}
	}
	return notes
}

// shown formats a spread, or returns "-" for the zero spread.
func shown(s spread) string {
	if s == (spread{}) {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", s.Median, s.Low, s.High)
}

func microseconds(row rowReport, role string) string {
	if v, ok := row.CPU[role]; ok {
		return fmt.Sprintf("%.1f", v)
	}
	return "-"
}

func shownAllocs(a allocations) string {
	if a.Objects == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f, %.1f KB", a.Objects, a.Bytes/1000)
}
