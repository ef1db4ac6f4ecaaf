package main

// Colors of Grafana's palette. A color has the same meaning in all panels: green means
// that all is well, blue is neutral, and red means that callers do not get their
// results.
const (
	green  = "green"
	yellow = "yellow"
	orange = "orange"
	red    = "red"
	blue   = "blue"
	purple = "purple"
	gray   = "gray"
)

// Ids of units in Grafana.
const (
	number     = "short"
	whole      = "none"
	seconds    = "s"
	ratio      = "percentunit"
	octets     = "bytes" // a number of bytes, shown with the prefixes Ki, Mi and Gi
	perSecond  = "reqps"
	operations = "ops"
)

// quantiles returns queries for three quantiles of a histogram's observations, over
// all series that the matchers choose.
func quantiles(metric, matchers string) []query {
	of := "sum by (le) (rate(" + metric + "_bucket{" + matchers + "}[rate]))"
	return []query{
		{expr: "histogram_quantile(0.5, " + of + ")", legend: "half are faster (p50)"},
		{expr: "histogram_quantile(0.95, " + of + ")", legend: "95 % are faster (p95)"},
		{expr: "histogram_quantile(0.99, " + of + ")", legend: "99 % are faster (p99)"},
	}
}

// quantileStyles has the look of each series in a panel of quantiles.
var quantileStyles = map[string]style{
	"half are faster (p50)": {color: green},
	"95 % are faster (p95)": {color: yellow},
	"99 % are faster (p99)": {color: orange},
}

// upOrDown shows the value 1 as "up" and the value 0 as "DOWN".
var upOrDown = map[string]style{"1": {color: green, text: "up"}, "0": {color: red, text: "DOWN"}}

// digits returns a pointer to n, as panel.decimals needs it.
func digits(n float64) *float64 { return &n }

// refusals is a pattern that matches the codes of refusals. No other decisions are in
// capital letters.
const refusals = "[A-Z].*"
