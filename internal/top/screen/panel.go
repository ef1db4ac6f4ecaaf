package screen

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// panel is a part of the screen. It has a title with the most important number, a
// curve, and rows.
type panel struct {
	title    string
	headline string // the most important number, drawn beside the title
	heads    []string
	history  []float64 // the values of the curve; nil if the panel has no curve
	peak     func(float64) string
	rows     []row
}

// row is a line of a panel. It has a label, one or two numbers, and a remark.
type row struct {
	label string
	cells []string
	note  string
	tone  tone     // the tone of the numbers
	bar   *float64 // a fraction; if it is not nil, a bar is drawn in place of the remark
	shade tone     // the tone of the bar
}

// The widths of the columns of a panel.
const (
	cellWidth = 11
	labelLow  = 17
	labelHigh = 26
	noteLow   = 17 // the smallest width of a remark beside a single number
)

// labelWidth returns the width of the labels in a panel of the given width.
func (p *panel) labelWidth(width int) int {
	rest := width - 2*cellWidth - 1
	if len(p.rows) > 0 && len(p.rows[0].cells) == 1 {
		rest = width - cellWidth - noteLow
	}
	return min(labelHigh, max(labelLow, rest))
}

// lines draws the panel in the given width.
func (p *panel) lines(width int) []string {
	lines := []string{p.titleLine(width)}
	if p.history != nil {
		lines = append(lines, p.curve(width))
	}
	for _, r := range p.rows {
		lines = append(lines, r.line(p.labelWidth(width), width))
	}
	return lines
}

func (p *panel) titleLine(width int) string {
	right := strong.paint(p.headline)
	left := strong.paint(accent.paint(p.title)) + " "
	if len(p.heads) > 0 {
		left = fit(left, p.labelWidth(width))
		for _, head := range p.heads {
			left += dim.paint(fitRight(head, cellWidth))
		}
		left += " "
	}
	rule := width - ansi.StringWidth(left) - ansi.StringWidth(right) - 1
	if right == "" {
		rule++
	}
	if rule < 0 {
		return spread(left, right, width)
	}
	line := left + dim.paint(strings.Repeat("─", rule))
	if right != "" {
		line += " " + right
	}
	return line
}

// curve draws the panel's history as a curve, with the greatest value as text at the
// end of the line.
func (p *panel) curve(width int) string {
	const room = 20 // the number of columns for the text of the peak
	line := "  " + accent.paint(sparkline(p.history, width-2-room))
	if top := peak(p.history); top > 0 {
		line += dim.paint(" peak " + p.peak(top))
	}
	return fit(line, width)
}

func (r *row) line(label, width int) string {
	line := fit("  "+r.label, label)
	for _, cell := range r.cells {
		line += r.tone.paint(fitRight(cell, cellWidth))
	}
	switch room := width - ansi.StringWidth(line) - 2; {
	case r.bar != nil && room > 2:
		line += "  " + r.shade.paint(bar(r.bar, min(room, 24)))
	case r.note != "":
		line += "  " + dim.paint(r.note)
	}
	return fit(line, width)
}

// gap is the space between columns of panels.
const gap = "   "

// beside draws columns of panels next to each other. Between the panels in a column
// there is an empty line.
func beside(columns [][]panel, width int) []string {
	each := (width - (len(columns)-1)*len(gap)) / len(columns)
	drawn := make([][]string, len(columns))
	height := 0
	for i, column := range columns {
		for j, p := range column {
			if j > 0 {
				drawn[i] = append(drawn[i], "")
			}
			drawn[i] = append(drawn[i], p.lines(each)...)
		}
		height = max(height, len(drawn[i]))
	}
	lines := make([]string, height)
	for i := range lines {
		cells := make([]string, len(columns))
		for j, d := range drawn {
			if i < len(d) {
				cells[j] = d[i]
			}
			cells[j] = fit(cells[j], each)
		}
		lines[i] = strings.TrimRight(strings.Join(cells, gap), " ")
	}
	return lines
}
