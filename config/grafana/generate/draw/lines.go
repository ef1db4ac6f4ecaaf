package main

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"time"
)

// curve is a line of a panel as it is drawn.
type curve struct {
	name   string
	paint  color.RGBA
	dashed bool
	points []point // the points to draw; in stacked panels, a value includes the values of the curves below this one
	floor  []point // the points of the curve below; nil if there is no curve below
}

// drawLines draws a panel with values over time: axes, curves, thresholds and the
// legend.
func (p *panel) drawLines(c *canvas, b box) {
	curves := p.curves()
	b.h -= legend(c, b, curves)
	f := p.FieldConfig.Defaults
	low, high := p.bounds(curves)
	marks := ticks(low, high, f.Unit)
	axis := 0.0
	for _, v := range marks {
		axis = max(axis, c.width(11, false, format(v, f.Unit, nil)))
	}
	plot := b.inset(axis+8, 4, 4, 20)
	first, last := period(curves)
	place := func(p point) xy {
		return xy{plot.x + plot.w*(p.at-first)/max(last-first, 1), plot.y + plot.h - plot.h*(p.value-low)/(high-low)}
	}
	for _, v := range marks {
		y := place(point{first, v}).y
		c.line([]xy{{plot.x, y}, {plot.x + plot.w, y}}, 1, 0, border)
		text := format(v, f.Unit, nil)
		c.text(xy{plot.x - 8 - c.width(11, false, text), y + 4}, 11, false, faint, text)
	}
	drawTimes(c, plot, first, last)
	for _, curve := range slices.Backward(curves) {
		curve.draw(c, place)
	}
	for _, s := range f.Thresholds.Steps {
		if s.Value != nil && *s.Value <= high && *s.Value >= low {
			y := place(point{first, *s.Value}).y
			c.line([]xy{{plot.x, y}, {plot.x + plot.w, y}}, 1.5, 6, rgb(s.Color))
		}
	}
}

// draw draws the curve and the area below it. Where points are missing, the curve
// has a gap.
func (v curve) draw(c *canvas, place func(point) xy) {
	step := math.Inf(1)
	for i := 1; i < len(v.points); i++ {
		step = min(step, v.points[i].at-v.points[i-1].at)
	}
	begin := 0
	for i := range v.points {
		if end := i + 1; end == len(v.points) || v.points[end].at-v.points[i].at > 3*step {
			v.drawPart(c, place, begin, end)
			begin = end
		}
	}
}

// drawPart draws the points of the curve with indexes from begin to end-1.
func (v curve) drawPart(c *canvas, place func(point) xy, begin, end int) {
	var line []xy
	for _, p := range v.points[begin:end] {
		line = append(line, place(p))
	}
	if len(line) == 1 {
		line = append(line, xy{line[0].x + 1, line[0].y})
	}
	dash := 0.0
	if v.dashed {
		dash = 8
	}
	c.line(line, 1.5, dash, v.paint)
	if v.dashed {
		return
	}
	opacity, base := 0.1, []point{{v.points[begin].at, 0}, {v.points[end-1].at, 0}}
	if v.floor != nil {
		opacity, base = 0.4, v.floor[begin:end]
	}
	for _, p := range slices.Backward(base) {
		line = append(line, place(p))
	}
	c.area(line, faded(v.paint, opacity))
}

// curves returns a curve for each series.
func (p *panel) curves() []curve {
	stacked := p.FieldConfig.Defaults.Custom.Stacking.Mode == "normal"
	sum := map[float64]float64{}
	var all []curve
	for i, s := range p.series {
		v := curve{name: s.name, paint: rgb(palette[i%len(palette)]), points: s.points}
		var fixed struct{ FixedColor string }
		if p.property(s.name, "color", &fixed) {
			v.paint = rgb(fixed.FixedColor)
		}
		var line struct{ Fill string }
		v.dashed = p.property(s.name, "custom.lineStyle", &line)
		if stacked && !v.dashed {
			v.points, v.floor = nil, []point{}
			for _, at := range s.points {
				v.floor = append(v.floor, point{at.at, sum[at.at]})
				sum[at.at] += at.value
				v.points = append(v.points, point{at.at, sum[at.at]})
			}
		}
		all = append(all, v)
	}
	return all
}

// bounds returns the ends of the vertical axis.
func (p *panel) bounds(curves []curve) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, v := range curves {
		for _, at := range v.points {
			low, high = min(low, at.value), max(high, at.value)
		}
	}
	if f := p.FieldConfig.Defaults; f.Min != nil {
		low = min(low, *f.Min)
	}
	if f := p.FieldConfig.Defaults; f.Max != nil {
		high = *f.Max
	}
	if high <= low {
		high = low + 1
	}
	return low, high + (high-low)*0.05
}

// period returns the ends of the horizontal axis.
func period(curves []curve) (first, last float64) {
	first, last = math.Inf(1), math.Inf(-1)
	for _, v := range curves {
		first, last = min(first, v.points[0].at), max(last, v.points[len(v.points)-1].at)
	}
	return first, last
}

// drawTimes writes about six times below the plot, in UTC.
func drawTimes(c *canvas, plot box, first, last float64) {
	form, step := "15:04", 60.0
	for _, s := range []float64{15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400} {
		if step = s; (last-first)/s <= max(plot.w/110, 2) {
			break
		}
	}
	if step < 60 {
		form = "15:04:05"
	}
	for at := math.Ceil(first/step) * step; at <= last; at += step {
		text := time.Unix(int64(at), 0).UTC().Format(form)
		x := plot.x + plot.w*(at-first)/max(last-first, 1)
		c.line([]xy{{x, plot.y}, {x, plot.y + plot.h}}, 1, 0, border)
		c.text(xy{min(x-c.width(11, false, text)/2, plot.x+plot.w-c.width(11, false, text)), plot.y + plot.h + 16}, 11, false, faint, text)
	}
}

// legend writes the names of the curves into the lowest lines of the rectangle, and
// returns the height of these lines. Names that do not fit into three lines are
// replaced by the number of these names.
func legend(c *canvas, b box, curves []curve) (height float64) {
	const line, most = 18.0, 3
	type entry struct {
		curve
		x   float64
		row int
	}
	var entries []entry
	x, row := 0.0, 0
	for i, v := range curves {
		width := 22 + c.width(12, false, v.name) + 12
		if x > 0 && x+width > b.w {
			x, row = 0, row+1
		}
		if row == most { // no line is left: replace the last name by the number of names that do not fit
			replaced := &entries[len(entries)-1]
			replaced.curve = curve{name: fmt.Sprintf("and %d more", len(curves)-i+1), paint: surface}
			row--
			break
		}
		entries = append(entries, entry{v, x, row})
		x += width
	}
	height = line * float64(row+1)
	for _, e := range entries {
		y := b.y + b.h - height + line*float64(e.row) + 14
		c.fill(box{b.x + e.x, y - 5, 14, 3}, e.paint)
		c.text(xy{b.x + e.x + 20, y}, 12, false, plain, e.name)
	}
	return height
}
