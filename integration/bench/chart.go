package main

import (
	"fmt"
	"io"
	"text/template"
)

var chartTemplate = template.Must(template.ParseFS(templates, "templates/chart.svg"))

// The chart's geometry in pixels.
const (
	chartTop   = 48
	barStep    = 30
	barLeft    = 260
	barMax     = 420 // length of the longest bar
	chartWidth = barLeft + barMax + 170
)

// chart is the data of the chart's template.
type chart struct {
	Width, Height int
	Left          int
	Bars          []bar
	Title         string
}

// bar is a row of the chart. Its texts are not escaped, because the template escapes
// them.
type bar struct {
	Y         int
	Width     float64 // the length of the bar, in proportion to the median
	Low, High float64 // the ends of the line that shows the lowest and the highest value
	Label     string
	Value     string
	Own       bool // true if the bar belongs to a row of Farebox
}

// chartOf returns the chart of all rows that go through a gateway. The direct row is
// left out, because its bar would make the others short.
func chartOf(r *report) chart {
	c := chart{Width: chartWidth, Left: barLeft, Title: fmt.Sprintf("Calls a second, %d connections, %d shared cores; lines: lowest to highest of %d rounds", r.Connections, r.Machine.Cores, r.Rounds)}
	highest := 0.0
	for _, row := range r.Rows {
		if row.Name != directRow {
			highest = max(highest, row.Rate.High)
		}
	}
	for _, row := range r.Rows {
		if row.Name == directRow || highest == 0 {
			continue
		}
		scale := barMax / highest
		value := fmt.Sprintf("%.0f", row.Rate.Median)
		if row.Base != "" {
			value += fmt.Sprintf(" (%.2f of Caddy)", row.Ratio.Median)
		}
		found, _ := findRow(row.Name)
		c.Bars = append(c.Bars, bar{
			Y: chartTop + barStep*len(c.Bars), Width: row.Rate.Median * scale,
			Low: barLeft + row.Rate.Low*scale, High: barLeft + row.Rate.High*scale,
			Label: row.Title, Value: value, Own: found.server == sqliteServer || found.server == postgresServer,
		})
	}
	c.Height = chartTop + barStep*len(c.Bars) + 8
	return c
}

// writeChart writes the bar chart as SVG.
func (r *report) writeChart(w io.Writer) error { return chartTemplate.Execute(w, chartOf(r)) }
