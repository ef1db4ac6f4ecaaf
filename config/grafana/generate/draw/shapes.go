package main

import (
	"cmp"
	"errors"
	"image/color"
	"maps"
	"os"
	"slices"
	"strconv"
)

const (
	columnWidth = 62.0 // the width of a column of the dashboard's grid, in pixels
	rowHeight   = 38.0
	gap         = 8.0
)

// draw draws the dashboard into a file.
func (b *board) draw(file string) (err error) {
	bottom := 0
	for _, p := range b.Panels {
		bottom = max(bottom, p.GridPos.Y+p.GridPos.H)
	}
	const top = 44
	c := newCanvas(24*columnWidth+gap, float64(bottom)*rowHeight+top+gap)
	c.text(xy{gap + 4, 28}, 18, true, plain, b.Title)
	c.text(xy{gap + 24 + c.width(18, true, b.Title), 28}, 13, false, faint, b.Description)
	for _, p := range b.Panels {
		g := p.GridPos
		p.draw(c, box{float64(g.X)*columnWidth + gap, float64(g.Y)*rowHeight + top, float64(g.W)*columnWidth - gap, float64(g.H)*rowHeight - gap})
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(c.write(f), f.Close())
}

// draw draws a panel into a rectangle.
func (p *panel) draw(c *canvas, b box) {
	if p.Type == "row" {
		c.text(xy{b.x + 4, b.y + b.h/2 + 6}, 15, true, plain, p.Title)
		return
	}
	c.fill(b, border)
	c.fill(b.inset(1, 1, 1, 1), surface)
	c.fit(xy{b.x + 10, b.y + 20}, b.w-20, 13, true, plain, p.Title)
	inner := b.inset(10, 30, 10, 8)
	switch {
	case len(p.series) == 0 && p.Type == "stat":
		p.big(c, inner, cmp.Or(p.FieldConfig.Defaults.NoValue, "No data"), faint)
	case len(p.series) == 0:
		text := cmp.Or(p.FieldConfig.Defaults.NoValue, "No data")
		c.text(xy{inner.x + (inner.w-c.width(14, false, text))/2, inner.y + inner.h/2}, 14, false, faint, text)
	case p.Type == "timeseries":
		p.drawLines(c, inner)
	case p.Type == "stat":
		p.drawValue(c, inner)
	case p.Type == "bargauge":
		p.drawBars(c, inner)
	case p.Type == "table":
		p.drawTable(c, inner)
	}
}

// show returns the text for a value, and the color that the thresholds give to the
// value.
func (f field) show(v float64) (text string, paint color.RGBA) {
	for _, m := range f.Mappings {
		if o, ok := m.Options[strconv.FormatFloat(v, 'f', -1, 64)]; ok {
			return o.Text, rgb(o.Color)
		}
	}
	paint = plain
	for _, s := range f.Thresholds.Steps {
		if s.Value == nil || v >= *s.Value {
			paint = rgb(s.Color)
		}
	}
	return format(v, f.Unit, f.Decimals), paint
}

// drawValue draws one large value, and its history below it.
func (p *panel) drawValue(c *canvas, b box) {
	s := p.series[0]
	text, paint := p.FieldConfig.Defaults.show(s.last())
	if len(s.points) > 1 {
		highest := 0.0
		for _, at := range s.points {
			highest = max(highest, at.value)
		}
		first, last := s.points[0].at, s.points[len(s.points)-1].at
		var curve []xy
		for _, at := range s.points {
			curve = append(curve, xy{b.x + b.w*(at.at-first)/max(last-first, 1), b.y + b.h - b.h*0.3*at.value/max(highest, 1e-12)})
		}
		c.area(append(append([]xy{{b.x, b.y + b.h}}, curve...), xy{b.x + b.w, b.y + b.h}), faded(paint, 0.2))
		c.line(curve, 1, 0, paint)
	}
	p.big(c, b, text, paint)
}

func (p *panel) big(c *canvas, b box, text string, paint color.Color) {
	size := 34.0
	for size > 12 && c.width(size, true, text) > b.w {
		size--
	}
	c.text(xy{b.x + (b.w-c.width(size, true, text))/2, b.y + b.h*0.4 + size*0.36}, size, true, paint, text)
}

// drawBars draws a horizontal bar for the last value of each series.
func (p *panel) drawBars(c *canvas, b box) {
	f := p.FieldConfig.Defaults
	longest, names := 0.0, 0.0
	for _, s := range p.series {
		longest = max(longest, s.last())
		names = max(names, c.width(13, false, s.name))
	}
	if f.Max != nil {
		longest = *f.Max
	}
	names = min(names, b.w*0.45)
	height := min(b.h/float64(len(p.series)), 34)
	for i, s := range p.series {
		text, paint := f.show(s.last())
		y := b.y + float64(i)*height
		c.fit(xy{b.x, y + height/2 + 5}, names, 13, false, plain, s.name)
		room := box{b.x + names + 10, y + 3, b.w - names - 100, height - 6}
		c.fill(room, border)
		room.w *= s.last() / max(longest, 1e-12)
		c.fill(room, paint)
		c.text(xy{b.x + b.w - c.width(13, true, text), y + height/2 + 5}, 13, true, paint, text)
	}
}

// drawTable draws the values of all targets, joined by their labels.
func (p *panel) drawTable(c *canvas, b box) {
	options := p.Transformations[len(p.Transformations)-1].Options
	columns := slices.SortedFunc(maps.Keys(options.Index), func(x, y string) int { return options.Index[x] - options.Index[y] })
	cells := p.join(columns)
	width := b.w / float64(len(columns))
	for i, name := range columns {
		c.fit(xy{b.x + float64(i)*width, b.y + 12}, width-8, 12, true, rgb("blue"), options.Rename[name])
	}
	for row, line := range cells {
		y := b.y + 12 + 28*float64(row+1)
		if y > b.y+b.h {
			return
		}
		c.line([]xy{{b.x, y - 19}, {b.x + b.w, y - 19}}, 1, 0, border)
		for i, name := range columns {
			text, paint := "", plain
			switch v := line[name].(type) {
			case string:
				text = v
			case float64:
				text, paint = p.cell(options.Rename[name], v)
			}
			c.fit(xy{b.x + float64(i)*width, y}, width-8, 13, false, paint, text)
		}
	}
}

// cell returns the text for a value in the column with this title.
func (p *panel) cell(title string, v float64) (string, color.RGBA) {
	f := p.FieldConfig.Defaults
	p.property(title, "unit", &f.Unit)
	p.property(title, "decimals", &f.Decimals)
	colored := p.property(title, "thresholds", &f.Thresholds)
	p.property(title, "mappings", &f.Mappings)
	text, paint := f.show(v)
	if !colored {
		paint = plain
	}
	return text, paint
}

// join returns one line for each combination of labels. The lines are sorted by the
// first column with numbers, the greatest number first.
func (p *panel) join(columns []string) []map[string]any {
	var lines []map[string]any
	for _, s := range p.series {
		i := slices.IndexFunc(lines, func(line map[string]any) bool {
			for name, value := range s.labels {
				if have, ok := line[name]; ok && have != value {
					return false
				}
			}
			return true
		})
		if i < 0 {
			i = len(lines)
			lines = append(lines, map[string]any{})
		}
		for name, value := range s.labels {
			lines[i][name] = value
		}
		lines[i]["Value #"+s.target] = s.last()
	}
	for _, name := range columns {
		if _, number := lines[0][name].(float64); number {
			slices.SortStableFunc(lines, func(x, y map[string]any) int {
				a, _ := x[name].(float64)
				b, _ := y[name].(float64)
				return cmp.Compare(b, a)
			})
			break
		}
	}
	return lines
}
