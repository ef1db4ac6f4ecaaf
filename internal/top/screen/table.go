package screen

import "strings"

// column is a column of a table. The first column of a table has names, and is as wide
// as the other columns allow.
type column[T any] struct {
	head     string
	width    int
	keep     int // importance: the column with the lowest number is left out first
	cell     func(T) (string, tone)
	left     bool // true if the column is aligned to the left
	optional bool // true if the column is left out when no row has a value
}

// The smallest and the largest width of the first column of a table.
const (
	nameLow  = 18
	nameHigh = 44
)

// columnGap separates the columns of a table.
const columnGap = "  "

// table draws a heading and one line for each item.
func table[T any](title string, columns []column[T], items []T, width int) []string {
	columns = choose(columns, items, width)
	first := width
	for _, c := range columns[1:] {
		first -= c.width + len(columnGap)
	}
	columns[0].width = min(max(first, 1), nameHigh)
	head := make([]string, 0, len(columns))
	for i, c := range columns {
		text := c.head
		if i == 0 {
			text = title
		}
		head = append(head, c.align(text))
	}
	lines := []string{strong.paint(accent.paint(cut(strings.Join(head, columnGap), width)))}
	for _, item := range items {
		cells := make([]string, 0, len(columns))
		for _, c := range columns {
			text, tone := c.cell(item)
			cells = append(cells, tone.paint(c.align(text)))
		}
		lines = append(lines, cut(strings.Join(cells, columnGap), width))
	}
	return lines
}

func (c *column[T]) align(text string) string {
	if c.left {
		return fit(text, c.width)
	}
	return fitRight(text, c.width)
}

// choose returns the columns that fit into the width. It leaves out optional columns
// without values.
func choose[T any](columns []column[T], items []T, width int) []column[T] {
	var chosen []column[T]
	for _, c := range columns {
		if !c.optional || c.used(items) {
			chosen = append(chosen, c)
		}
	}
	for {
		total, last := nameLow, 0
		for i, c := range chosen[1:] {
			total += c.width + len(columnGap)
			if last == 0 || c.keep < chosen[last].keep {
				last = i + 1
			}
		}
		if total <= width || last == 0 {
			return chosen
		}
		chosen = append(chosen[:last:last], chosen[last+1:]...)
	}
}

// used reports whether any of the items has a value in the column.
func (c *column[T]) used(items []T) bool {
	for _, item := range items {
		if text, _ := c.cell(item); text != dash && text != "" {
			return true
		}
	}
	return false
}
