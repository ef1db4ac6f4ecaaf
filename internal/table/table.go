// Package table prints rows of cells: as an aligned table for people, or as CSV.
package table

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Print prints a header line, and below it one line for each item.
func Print[T any](w io.Writer, head []string, items []T, row func(T) []any) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(head, "\t"))
	for _, item := range items {
		fmt.Fprintln(table, strings.Join(texts(row(item)), "\t"))
	}
	return table.Flush()
}

// Fields prints pairs of names and values in two aligned columns. It ignores write
// errors, because w is usually a terminal.
func Fields(w io.Writer, pairs ...any) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(table, "%v\t%v\n", pairs[i], pairs[i+1])
	}
	_ = table.Flush()
}

// CSV prints a header record, and one record for each item (RFC 4180, with a line feed
// at the end of each record). It escapes texts that a spreadsheet would evaluate; see
// Cell.
func CSV[T any](w io.Writer, head []string, items []T, row func(T) []any) error {
	out := csv.NewWriter(w)
	if err := out.Write(head); err != nil {
		return err
	}
	for _, item := range items {
		cells := row(item)
		for i := range cells {
			if text, ok := cells[i].(string); ok {
				cells[i] = Cell(text)
			}
		}
		if err := out.Write(texts(cells)); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func texts(cells []any) []string {
	list := make([]string, len(cells))
	for i, cell := range cells {
		list[i] = fmt.Sprint(cell)
	}
	return list
}

// Cell escapes the text if it begins like a formula, because a spreadsheet would
// evaluate it. Tool names come from servers and agents and cannot be trusted.
func Cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}
