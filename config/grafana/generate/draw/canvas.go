package main

import (
	"cmp"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"slices"
	"strconv"
	"strings"

	stdfont "golang.org/x/image/font"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/font/liberation"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/vgimg"
)

// canvas is a picture. Its coordinates are pixels from the top left corner.
type canvas struct {
	*vgimg.Canvas
	height float64
	fonts  *font.Cache
}

// xy is a place in the picture.
type xy struct{ x, y float64 }

// box is a rectangle in the picture.
type box struct{ x, y, w, h float64 }

// inset returns the rectangle that is left after margins of the given widths.
func (b box) inset(left, top, right, bottom float64) box {
	return box{b.x + left, b.y + top, b.w - left - right, b.h - top - bottom}
}

func newCanvas(width, height float64) *canvas {
	c := &canvas{
		Canvas: vgimg.NewWith(vgimg.UseWH(vg.Length(width), vg.Length(height)), vgimg.UseDPI(72)),
		height: height, fonts: font.NewCache(liberation.Collection()),
	}
	c.fill(box{0, 0, width, height}, background)
	return c
}

func (c *canvas) at(p xy) vg.Point { return vg.Point{X: vg.Length(p.x), Y: vg.Length(c.height - p.y)} }

// fill fills a rectangle.
func (c *canvas) fill(b box, paint color.Color) {
	c.area([]xy{{b.x, b.y}, {b.x + b.w, b.y}, {b.x + b.w, b.y + b.h}, {b.x, b.y + b.h}}, paint)
}

// area fills a polygon.
func (c *canvas) area(corners []xy, paint color.Color) {
	path := c.path(corners)
	path.Close()
	c.SetColor(paint)
	c.Fill(path)
}

// line draws a line through the places. The line is dashed if dash is not zero.
func (c *canvas) line(places []xy, width, dash float64, paint color.Color) {
	c.SetColor(paint)
	c.SetLineWidth(vg.Length(width))
	var pattern []vg.Length
	if dash > 0 {
		pattern = []vg.Length{vg.Length(dash), vg.Length(dash)}
	}
	c.SetLineDash(pattern, 0)
	c.Stroke(c.path(places))
}

func (c *canvas) path(places []xy) (path vg.Path) {
	for i, p := range places {
		if i == 0 {
			path.Move(c.at(p))
		} else {
			path.Line(c.at(p))
		}
	}
	return path
}

// face returns a font of the given height. The font is bold if strong is true.
func (c *canvas) face(size float64, strong bool) font.Face {
	f := font.Font{Typeface: "Liberation", Variant: "Sans"}
	if strong {
		f.Weight = stdfont.WeightBold
	}
	return c.fonts.Lookup(f, vg.Length(size))
}

// text writes a text with its baseline at a place, and returns its width.
func (c *canvas) text(p xy, size float64, bold bool, paint color.Color, text string) float64 {
	face := c.face(size, bold)
	c.SetColor(paint)
	c.FillString(face, c.at(p), text)
	return float64(face.Width(text))
}

// fit writes a text at p. It first shortens a text that is wider than the given width.
func (c *canvas) fit(p xy, width, size float64, bold bool, paint color.Color, text string) {
	runes := []rune(text)
	for len(runes) > 1 && c.width(size, bold, text) > width {
		runes = runes[:len(runes)-1]
		text = string(runes) + "…"
	}
	c.text(p, size, bold, paint, text)
}

func (c *canvas) width(size float64, bold bool, text string) float64 {
	face := c.face(size, bold)
	return float64(face.Width(text))
}

// write writes the picture as PNG with at most 256 colors, which makes it small.
func (c *canvas) write(w io.Writer) error {
	picture := c.Image()
	count := map[color.RGBA]int{}
	bounds := picture.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[color.RGBAModel.Convert(picture.At(x, y)).(color.RGBA)]++
		}
	}
	colors := make([]color.RGBA, 0, len(count))
	for paint := range count {
		colors = append(colors, paint)
	}
	slices.SortFunc(colors, func(a, b color.RGBA) int {
		return cmp.Or(count[b]-count[a], cmp.Compare(number(a), number(b)))
	})
	palette := color.Palette{}
	for _, paint := range colors[:min(len(colors), 256)] {
		palette = append(palette, paint)
	}
	small := image.NewPaletted(bounds, palette)
	draw.Draw(small, bounds, picture, bounds.Min, draw.Src)
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	return encoder.Encode(w, small)
}

func number(c color.RGBA) int { return int(c.R)<<16 | int(c.G)<<8 | int(c.B) }

// The colors of Grafana's dark theme.
var (
	background = rgb("#111217")
	surface    = rgb("#181b1f")
	border     = rgb("#2c3235")
	plain      = rgb("#ccccdc")
	faint      = rgb("#8e8e9e")
)

// palette has the colors for series that have no color of their own. The first such
// series gets the first color.
var palette = []string{
	"#7EB26D", "#EAB839", "#6ED0E0", "#EF843C", "#E24D42", "#1F78C1", "#BA43A9", "#705DA0", "#508642", "#CCA300",
	"#447EBC", "#C15C17", "#890F02", "#0A437C", "#6D1F62", "#584477",
}

// named maps the color names that dashboards use to hexadecimal digits.
var named = map[string]string{
	"green": "#73BF69", "yellow": "#FADE2A", "orange": "#FF9830", "red": "#F2495C", "blue": "#5794F2", "purple": "#B877D9",
}

// rgb returns the color with the name or the hexadecimal digits.
func rgb(name string) color.RGBA {
	if digits, ok := named[name]; ok {
		name = digits
	}
	v, err := strconv.ParseUint(strings.TrimPrefix(name, "#"), 16, 32)
	if err != nil {
		return color.RGBA{0x8e, 0x8e, 0x8e, 0xff}
	}
	return color.RGBA{uint8(v >> 16), uint8(v >> 8), uint8(v), 0xff}
}

// faded returns a color with this opacity.
func faded(c color.RGBA, opacity float64) color.NRGBA {
	return color.NRGBA{c.R, c.G, c.B, uint8(255 * opacity)}
}
