package pgvalue

import (
	"fmt"
	"time"
)

// Conditions are the text and the arguments of a query that grows by one condition at a
// time.
type Conditions struct {
	Where string // the text that And appends to: usually the whole query up to the last condition
	Args  []any
}

// And appends a text with one argument, such as " AND n < $%d", to Where. And replaces
// %d by the number of the argument.
func (c *Conditions) And(text string, arg any) {
	c.Args = append(c.Args, arg)
	c.Where += fmt.Sprintf(text, len(c.Args))
}

// Equal adds the condition that the value in a column equals the text. It adds no
// condition if the text is empty.
func (c *Conditions) Equal(column, text string) {
	if text != "" {
		c.And(" AND "+column+" = $%d", Pack(text))
	}
}

// Within adds the condition that the time in a column is in the half-open interval
// [since, until). A zero time means that there is no such bound.
func (c *Conditions) Within(column string, since, until time.Time) {
	if !since.IsZero() {
		c.And(" AND "+column+" >= $%d", Micro(since))
	}
	if !until.IsZero() {
		c.And(" AND "+column+" < $%d", Micro(until))
	}
}

// Order is the order of numbered rows.
type Order struct {
	Number string // expression for the number of a row
	// By is the expression by which rows are sorted first. ByOf is a query for the
	// value of that expression in row number %[1]d. Both are "" for the order of the
	// numbers.
	By, ByOf string
	Down     bool
}

// Page adds the condition and the order of one page: at most limit rows that follow the
// row with the given number, or the first rows if the number is 0.
func (c *Conditions) Page(o Order, after int64, limit int) {
	compare, down := ">", ""
	if o.Down {
		compare, down = "<", " DESC"
	}
	order := o.Number + down
	if o.By != "" {
		order = o.By + down + ", " + order
	}
	switch {
	case after == 0:
	case o.By != "":
		c.And(" AND ("+o.By+", "+o.Number+") "+compare+" (("+o.ByOf+"), $%[1]d)", after)
	default:
		c.And(" AND "+o.Number+" "+compare+" $%d", after)
	}
	c.And(" ORDER BY "+order+" LIMIT $%d", limit)
}
