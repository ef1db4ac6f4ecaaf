package caddymodule

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// progress shows on standard error how far a command is. A nil one shows
// nothing. It is not safe for concurrent use.
type progress struct {
	out  io.Writer
	unit string // what is counted; "bytes" are shown as such
	what string
	bar  *progressbar.ProgressBar
}

// redraw is how long a bar stays as it is at least.
const redraw = 50 * time.Millisecond

// bar returns what shows progress: nil where nobody would see it or where
// programs read.
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

// part returns what shows one part of the work. A new part takes the place of
// the one before.
func (p *progress) part(what string) func(done, total int64) {
	return func(done, total int64) { p.show(what, done, total) }
}

func (p *progress) show(what string, done, total int64) {
	if p == nil || total <= 0 {
		return
	}
	if p.bar == nil || p.what != what {
		p.end()
		p.what = what
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(what), progressbar.OptionSetWidth(30),
			progressbar.OptionShowCount(), progressbar.OptionShowBytes(p.unit == "bytes"), progressbar.OptionUseIECUnits(true),
			progressbar.OptionSetItsString(p.unit), progressbar.OptionThrottle(redraw), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetTheme(progressbar.ThemeASCII))
		_ = p.bar.RenderBlank() // a rate is first told of what took some time
	}
	if total != p.bar.GetMax64() {
		p.bar.ChangeMax64(total)
	}
	_ = p.bar.Set64(min(done, total)) // a terminal that is gone shows nothing
}

// end takes the bar away, so that what follows has a line of its own.
func (p *progress) end() {
	if p == nil || p.bar == nil {
		return
	}
	_ = p.bar.Exit()
	_ = p.bar.Clear()
	p.bar = nil
}
