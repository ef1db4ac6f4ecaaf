// Package screen draws the figures of a gateway on a terminal, and lets an operator
// watch them change. The state of the screen changes only by messages, and a frame
// depends only on the state. So tests need no terminal.
package screen

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/fareboxhq/farebox/internal/top"
)

// Screen is the state of the screen. The zero value shows that the first response of
// the gateway is awaited.
type Screen struct {
	View          *top.View // nil before the first sample
	Width, Height int       // the size of the terminal, in columns and lines
	Interval      time.Duration
	Requests      []float64 // requests per second, the latest value last; NaN if the value is unknown
	Money         []float64 // amount charged per minute, the latest value last; NaN if the value is unknown
	Order         int       // the order in which the tools are listed, as an index into orders
	Scroll        int       // number of lines of the body that are scrolled off the top of the screen
	Paused        bool
	Help          bool
	Still         bool // true if the screen is a single frame, which has no curves
	Gone          *Gone
}

// Gone describes an outage, which is a time in which the gateway does not answer.
type Gone struct {
	Since, Last time.Time // when the first and the last request failed
	Reason      string
}

// minTables is the number of lines that the full panels must leave for the tables. If
// they leave fewer, the panels are drawn in their brief form.
const minTables = 8

// Frame draws the screen. The result has as many lines as the terminal, and no line is
// wider than the terminal.
func (s *Screen) Frame() string {
	head, foot := s.head(), s.foot()
	body := s.body(s.Height - len(head) - 1)
	room := max(0, s.Height-len(head)-1)
	start := min(s.Scroll, s.maxScroll(len(body), room))
	shown := body[start:min(start+room, len(body))]
	lines := append(head, shown...)
	for len(lines) < s.Height-1 {
		lines = append(lines, "")
	}
	lines = append(lines, foot)
	for i, line := range lines {
		lines[i] = cut(line, s.Width)
	}
	return strings.Join(lines[max(0, len(lines)-s.Height):], "\n")
}

func (s *Screen) maxScroll(body, room int) int { return max(0, body-room) }

// bottom returns the greatest useful value of s.Scroll.
func (s *Screen) bottom() int {
	room := s.Height - len(s.head()) - 1
	return s.maxScroll(len(s.body(room)), room)
}

// Text draws a view once, instead of a live screen. The text has all lines, and no
// curves or keys.
func Text(v *top.View, width int) string {
	s := Screen{View: v, Width: width, Height: 1 << 20, Still: true}
	lines := append(s.head(), s.body(s.Height)...)
	for i, line := range lines {
		lines[i] = strings.TrimRight(cut(line, width), " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// body draws the part of the screen that can be scrolled.
func (s *Screen) body(room int) []string {
	if s.Help {
		return helpLines(s.Width)
	}
	if s.View == nil {
		return []string{dim.paint("asking the gateway …")}
	}
	lines, servers, tools := s.panels(s.Width), s.servers(s.Width), s.tools(s.Width)
	switch {
	case len(lines)+minTables <= room:
		lines = slices.Concat(lines, []string{""}, servers, []string{""}, tools)
	case s.low():
		lines = slices.Concat(s.brief(s.Width), tools, servers)
	default:
		lines = slices.Concat(s.brief(s.Width), []string{""}, tools, []string{""}, servers)
	}
	if s.Gone != nil { // draw the old values in dim text, so that they do not look current
		for i, line := range lines {
			lines[i] = dim.paint(ansi.Strip(line))
		}
	}
	return lines
}

// low reports whether the terminal has too few lines for empty lines between its parts.
func (s *Screen) low() bool { return s.Height < 20 }

// head draws the lines above the body. They name the gateway and show its state.
func (s *Screen) head() []string {
	lines := append([]string{s.title()}, s.state()...)
	if !s.low() {
		lines = append(lines, "")
	}
	return lines
}

// state draws the lines with the notices, or a line that says that the gateway does not
// answer.
func (s *Screen) state() []string {
	switch {
	case s.Gone != nil:
		return []string{s.goneLine()}
	case s.View == nil:
		return nil
	case len(s.View.Attention) == 0:
		return []string{good.paint("✔ nothing needs attention")}
	}
	notices := s.View.Attention
	room := 3
	switch {
	case s.Still:
		room = len(notices)
	case s.Height < 30:
		room = 1
	}
	var lines []string
	for i, n := range notices[:min(room, len(notices))] {
		text := noticeText(n)
		if more := len(notices) - room; i == room-1 && more > 0 {
			text = spread(text, dim.paint(fmt.Sprintf("and %d more", more)), s.Width)
		}
		lines = append(lines, text)
	}
	return lines
}

func noticeText(n top.Notice) string {
	switch n.Level {
	case top.Critical:
		return bad.paint("✖ CRITICAL: " + name(n.Text))
	case top.Warning:
		return warn.paint("▲ warning: " + name(n.Text))
	default:
		return accent.paint("· note: " + name(n.Text))
	}
}

func (s *Screen) goneLine() string {
	g := s.Gone
	text := fmt.Sprintf(" ✖ NO ANSWER since %s (%s), asked again every %s: %s ", g.Since.Format(time.TimeOnly),
		age(g.Last.Sub(g.Since)), s.Interval, name(g.Reason))
	return bad.paint(loud.paint(cut(text, s.Width)))
}

// title names the gateway and its most important properties. It leaves out unknown
// properties. If the title is too wide, it also leaves out the least important
// properties.
func (s *Screen) title() string {
	left, right := strong.paint("farebox top"), ""
	if s.View == nil {
		return left
	}
	switch {
	case s.Still:
		right = s.View.At.Format(time.TimeOnly)
	case s.Gone != nil:
		right = "last answer " + s.View.At.Format(time.TimeOnly)
	default:
		right = "every " + s.Interval.String() + " · " + s.View.At.Format(time.TimeOnly)
	}
	if s.Paused {
		right = loud.paint(" PAUSED ") + " " + right
	}
	properties := s.properties()
	for {
		line, last := left, 0
		for i, p := range properties {
			line += dim.paint(" · ") + p.text
			if p.keep < properties[last].keep {
				last = i
			}
		}
		if len(properties) == 1 || ansi.StringWidth(line)+1+ansi.StringWidth(right) <= s.Width {
			return spread(line, right, s.Width)
		}
		properties = slices.Delete(properties, last, last+1)
	}
}

// property is a property of the gateway in the title.
type property struct {
	text string
	keep int // importance: the property with the lowest number is left out first
}

func (s *Screen) properties() []property {
	v := s.View
	all := []property{{name(v.Address), 9}}
	if v.Gateway.Version != nil {
		all = append(all, property{name(*v.Gateway.Version), 2})
	}
	if s.Gone != nil { // the other properties may have changed since the gateway last answered
		return all
	}
	if v.Gateway.UptimeSeconds != nil {
		all = append(all, property{"up " + s.uptime(), 4})
	}
	all = append(all, property{"store " + s.storeState(), 5})
	if v.Currency != nil {
		all = append(all, property{name(*v.Currency), 1})
	}
	return all
}

// foot draws the line that names the keys to press. It names as many keys as fit.
func (s *Screen) foot() string {
	keys := []string{"q quit", "? help", "p pause", "s sort", "+/- interval", "↑↓ scroll"}
	if s.Paused {
		keys[2] = "p go on"
	}
	if s.Help {
		keys = []string{"? back", "q quit", "↑↓ scroll"}
	}
	right := ""
	if n := s.bottom(); n > 0 {
		right = fmt.Sprintf("%d lines below", n-min(s.Scroll, n))
	}
	line := ""
	for i, key := range keys {
		if i > 0 {
			key = "   " + key
		}
		if ansi.StringWidth(line+key) > s.Width-ansi.StringWidth(right)-1 {
			break
		}
		line += key
	}
	return dim.paint(spread(line, right, s.Width))
}
