package main

// board is a dashboard in the terms of this program. board.build converts it to
// Grafana's JSON.
type board struct {
	uid         string // the id of the dashboard; never change it, because links and bookmarks contain it
	title       string
	description string
	servers     bool // true if users of the dashboard can choose servers
	money       bool // true if users of the dashboard can choose an environment and a currency
	rows        []row
}

// row is a heading with the panels below it.
type row struct {
	title  string
	panels []panel
}

// shape is the kind of a panel.
type shape int

const (
	lines shape = iota // values over time
	value              // one value, with its history unless query.now is true
	bars               // one horizontal bar for each series
	table              // one line for each combination of labels, one column for each query
)

// panel describes a panel of a dashboard. The width is in columns; a dashboard has 24
// columns. The height is in units of about 35 pixels.
type panel struct {
	title       string
	description string
	shape       shape
	width       uint32
	height      uint32
	unit        string // the id of the unit in Grafana's list of units
	decimals    *float64
	queries     []query

	steps   []step           // thresholds in ascending order
	below   string           // the color of values less than the first threshold; green by default
	styles  map[string]style // the looks of series, by their names
	texts   map[string]style // the texts that are shown in place of values, by value
	empty   string           // the text that is shown if there is no value
	full    float64          // the value at the end of the axis or of a full bar; 0 means that Grafana chooses it
	free    bool             // true if the axis need not begin at zero
	stacked bool             // true if the series are added up
	columns []column         // the columns of a table
	sort    string           // the title of the column by which a table is sorted, in descending order
}

// query is an expression of PromQL. In the expression, <node>, <server> and <money>
// stand for the matchers of the dashboard's variables, [rate] for the interval of
// rates, and [range] for the period that the dashboard shows.
type query struct {
	expr   string
	legend string // the name of a series, with labels as {{label}}
	now    bool   // true if the query asks only for the value at the end of the period
}

// step is a threshold. Values that are at least as large as from have the color, up to
// the next threshold.
type step struct {
	from  float64
	color string
}

// style is the color and the line of a series, or the color and the text with which a
// panel shows a value, such as "down" for 0.
type style struct {
	color  string
	text   string
	dashed bool
}

// column is a column of a table. It shows either a label, or the values of one query.
// The query is given by its letter.
type column struct {
	title    string
	label    string
	letter   string
	unit     string
	decimals *float64
	steps    []step
	texts    map[string]style
}
