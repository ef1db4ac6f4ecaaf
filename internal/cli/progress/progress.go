// Package progress shows the progress of long commands on a terminal.
package progress

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Bar is a progress bar. A nil Bar shows nothing. It is not safe for concurrent use.
type Bar struct {
	out  io.Writer
	unit string // the unit of the numbers; "bytes" are shown in IEC units
	step string // the step that the current bar shows
	bar  *progressbar.ProgressBar
}

// redraw is the shortest time between two updates of a bar.
const redraw = 50 * time.Millisecond

// New returns a progress bar, or nil if the writer is not a terminal.
func New(out io.Writer, unit string) *Bar {
	if !IsTerminal(out) {
		return nil
	}
	return &Bar{out: out, unit: unit}
}

// IsTerminal reports whether a reader or writer is a terminal.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Part returns a function that shows the progress of one step. The first call of
// that function replaces the bar of the previous step.
func (p *Bar) Part(step string) func(done, total int64) {
	return func(done, total int64) { p.Show(step, done, total) }
}

// Show shows that so much of a step is done. The total may change.
func (p *Bar) Show(step string, done, total int64) {
	if p == nil || total <= 0 {
		return
	}
	if p.bar == nil || p.step != step {
		p.End()
		p.step = step
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(step), progressbar.OptionSetWidth(30),
			progressbar.OptionShowCount(), progressbar.OptionShowBytes(p.unit == "bytes"), progressbar.OptionUseIECUnits(true),
			progressbar.OptionSetItsString(p.unit), progressbar.OptionThrottle(redraw), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetTheme(progressbar.ThemeASCII))
		_ = p.bar.RenderBlank() // start the bar now, because the bar measures the rate from its first drawing on
	}
	if total != p.bar.GetMax64() {
		p.bar.ChangeMax64(total)
	}
	_ = p.bar.Set64(min(done, total)) // a failed write to the terminal is ignored
}

// End removes the bar, so that the next output begins on a line of its own.
func (p *Bar) End() {
	if p == nil || p.bar == nil {
		return
	}
	_ = p.bar.Exit()
	_ = p.bar.Clear()
	p.bar = nil
}
