package screen

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"
	"github.com/dustin/go-humanize"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// dash stands for an unknown number.
const dash = "-"

// tone is the meaning of a text. It determines the color of the text. All colors are
// among the first eight of the terminal, so that they fit the terminal's theme. A color
// is never the only sign of a meaning.
type tone int

const (
	plain  tone = iota
	strong      // headings and important numbers
	dim         // units and explanations
	good
	warn
	bad
	loud // text that must not be missed
	accent
)

var styles = map[tone]ansi.Style{
	strong: ansi.NewStyle().Bold(),
	dim:    ansi.NewStyle().Faint(),
	good:   ansi.NewStyle().ForegroundColor(ansi.Green),
	warn:   ansi.NewStyle().Bold().ForegroundColor(ansi.Yellow),
	bad:    ansi.NewStyle().Bold().ForegroundColor(ansi.Red),
	loud:   ansi.NewStyle().Bold().Reverse(true),
	accent: ansi.NewStyle().ForegroundColor(ansi.Cyan),
}

// paint gives a text the color of the tone.
func (t tone) paint(text string) string {
	style, ok := styles[t]
	if !ok || text == "" {
		return text
	}
	return style.Styled(text)
}

// fit makes a text exactly as wide as the given number of columns, by cutting it or by
// adding spaces on the right.
func fit(text string, width int) string {
	text = cut(text, width)
	return text + strings.Repeat(" ", max(0, width-ansi.StringWidth(text)))
}

// fitRight is like fit, but adds spaces on the left.
func fitRight(text string, width int) string {
	text = cut(text, width)
	return strings.Repeat(" ", max(0, width-ansi.StringWidth(text))) + text
}

// cut returns a text that is at most as wide as the given number of columns.
func cut(text string, width int) string {
	if width <= 0 {
		return ""
	}
	return ansi.Truncate(text, width, "…")
}

// spread puts two texts at the two ends of a line. If there is too little room, it
// cuts the left text.
func spread(left, right string, width int) string {
	if right == "" {
		return fit(left, width)
	}
	room := width - ansi.StringWidth(right) - 1
	if room <= 0 {
		return fit(right, width)
	}
	return fit(left, room) + " " + right
}

// name returns a name from the config without control characters, which could move the
// cursor.
func name(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// count prints a whole number.
func count(n *float64) string {
	if n == nil {
		return dash
	}
	if *n >= 1e9 {
		return scaled(*n)
	}
	return humanize.Comma(int64(math.Round(*n)))
}

// decimal prints a number with about three significant digits.
func decimal(n *float64) string {
	switch {
	case n == nil:
		return dash
	case *n == 0:
		return "0"
	case *n < .005:
		return "<0.01"
	case *n < 1:
		return fmt.Sprintf("%.2f", *n)
	case *n < 99.95:
		return fmt.Sprintf("%.1f", *n)
	case *n < 1e5:
		return humanize.Comma(int64(math.Round(*n)))
	default:
		return scaled(*n)
	}
}

// scaled prints a large number as a multiple of thousands, millions and so on.
func scaled(n float64) string {
	for _, unit := range []string{"k", "M", "G"} {
		if n /= 1000; n < 999.5 {
			return fmt.Sprintf("%.3g%s", n, unit)
		}
	}
	return fmt.Sprintf("%.3gT", n/1000)
}

// rate prints a number per second.
func rate(n *float64) string {
	if n == nil {
		return dash
	}
	return decimal(n) + "/s"
}

// percent prints a fraction as a percentage. It prints 0 % and 100 % only if the
// fraction is exactly 0 or 1.
func percent(part *float64) string {
	if part == nil {
		return dash
	}
	switch p := *part * 100; {
	case p > 0 && p < 1:
		return "<1 %"
	case p > 99 && p < 100:
		return fmt.Sprintf("%.1f %%", min(p, 99.9))
	default:
		return fmt.Sprintf("%.0f %%", p)
	}
}

// seconds prints a duration with two or three significant digits.
func seconds(s *float64) string {
	switch {
	case s == nil:
		return dash
	case *s == 0:
		return "0 s"
	case *s < 1e-3:
		return fmt.Sprintf("%.0f µs", *s*1e6)
	case *s < 1e-2:
		return fmt.Sprintf("%.1f ms", *s*1e3)
	case *s < 1:
		return fmt.Sprintf("%.0f ms", *s*1e3)
	case *s < 100:
		return fmt.Sprintf("%.1f s", *s)
	default:
		return age(time.Duration(*s * float64(time.Second)))
	}
}

// age prints a long duration by its two largest units.
func age(d time.Duration) string {
	s := int64(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm %ds", s/60, s%60)
	case s < 24*3600:
		return fmt.Sprintf("%dh %dm", s/3600, s%3600/60)
	default:
		return fmt.Sprintf("%dd %dh", s/86400, s%86400/3600)
	}
}

// bytes prints a number of bytes.
func bytes(n *float64) string {
	if n == nil {
		return dash
	}
	return humanize.IBytes(uint64(max(0, *n)))
}

// money prints an amount, rounded to hundredths if it is at least 1. The JSON output
// has the exact amount.
func money(a *ledger.Amount) string {
	if a == nil {
		return dash
	}
	step := ledger.Unit / 100
	if *a > -ledger.Unit && *a < ledger.Unit {
		step = ledger.Unit / 10_000
	}
	sign, rounded := "", (*a+step/2)/step*step
	if *a < 0 {
		sign, rounded = "-", (-*a+step/2)/step*step
	}
	whole, fraction, _ := strings.Cut(rounded.String(), ".")
	if n := int64(rounded / ledger.Unit); n >= 1000 {
		whole = humanize.Comma(n)
	}
	return sign + whole + "." + fraction
}

// sparkline draws the latest values. Their heights are relative to the greatest of
// them, and unknown values are spaces.
func sparkline(values []float64, width int) string {
	const levels = "▁▂▃▄▅▆▇█"
	if width <= 0 {
		return ""
	}
	values = values[max(0, len(values)-width):]
	top := peak(values)
	var b strings.Builder
	for _, v := range values {
		switch {
		case math.IsNaN(v):
			b.WriteByte(' ')
		case top == 0:
			b.WriteRune('▁')
		default:
			b.WriteRune([]rune(levels)[int(min(7, math.Floor(v/top*8)))])
		}
	}
	return b.String()
}

// peak returns the greatest known value, or 0.
func peak(values []float64) (top float64) {
	for _, v := range values {
		if v > top { // the condition is false if v is NaN, which stands for an unknown value
			top = v
		}
	}
	return top
}

// bar draws a fraction as a horizontal bar of at most width columns.
func bar(part *float64, width int) string {
	const eighths = " ▏▎▍▌▋▊▉"
	if part == nil || width <= 0 {
		return ""
	}
	n := int(math.Round(min(1, max(0, *part)) * float64(width) * 8))
	if n == 0 && *part > 0 {
		n = 1
	}
	text := strings.Repeat("█", n/8)
	if n%8 > 0 {
		text += string([]rune(eighths)[n%8])
	}
	return text
}
