package cli

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// progress is a progress bar on standard error. A nil progress shows nothing. It is
// not safe for concurrent use.
type progress struct {
	out  io.Writer
	unit string // the unit of the numbers; "bytes" are shown in IEC units
	step string // the description of the current bar
	bar  *progressbar.ProgressBar
}

// redraw is the shortest time between two updates of a bar.
const redraw = 50 * time.Millisecond

// bar returns a progress bar, or nil with --json or if standard error is not a
// terminal.
func (c *connection) bar(cmd *cobra.Command, unit string) *progress {
	if c.json || !isTerminal(cmd.ErrOrStderr()) {
		return nil
	}
	return &progress{out: cmd.ErrOrStderr(), unit: unit}
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// part returns a function that shows the progress of one step. The first call of
// that function replaces the bar of the previous step.
func (p *progress) part(step string) func(done, total int64) {
	return func(done, total int64) { p.show(step, done, total) }
}

func (p *progress) show(step string, done, total int64) {
	if p == nil || total <= 0 {
		return
	}
	if p.bar == nil || p.step != step {
		p.end()
		p.step = step
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(step), progressbar.OptionSetWidth(30),
			progressbar.OptionShowCount(), progressbar.OptionShowBytes(p.unit == "bytes"), progressbar.OptionUseIECUnits(true),
			progressbar.OptionSetItsString(p.unit), progressbar.OptionThrottle(redraw), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetTheme(progressbar.ThemeASCII))
		_ = p.bar.RenderBlank() // so that the rate is measured from now on
	}
	if total != p.bar.GetMax64() {
		p.bar.ChangeMax64(total)
	}
	_ = p.bar.Set64(min(done, total)) // a failed write to the terminal is ignored
}

// end removes the bar, so that the next output begins on a line of its own.
func (p *progress) end() {
	if p == nil || p.bar == nil {
		return
	}
	_ = p.bar.Exit()
	_ = p.bar.Clear()
	p.bar = nil
}
