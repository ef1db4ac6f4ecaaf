package screen

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.uber.org/goleak"

	"github.com/fareboxhq/farebox/internal/scrape"
)

// TestWatchLeavesNothing checks that Watch ends when a key is pressed and when its
// context ends, even if the gateway does not answer. No goroutine may be left running.
func TestWatchLeavesNothing(t *testing.T) {
	for name, end := range map[string]func(terminal *os.File, cancel func()) error{
		"key":     func(terminal *os.File, _ func()) error { _, err := terminal.WriteString("q"); return err },
		"context": func(_ *os.File, cancel func()) error { cancel(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			terminal, tty, err := pty.Open()
			if err != nil {
				t.Skip(err) // there are no pseudo terminals on this system
			}
			defer tty.Close()
			t.Setenv("TERM", "xterm-256color")
			read := make(chan struct{})
			go func() {
				defer close(read)
				_, _ = io.Copy(io.Discard, terminal) // ends with an error when the terminal is closed
			}()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			asked := make(chan struct{}, 1)
			ended := make(chan error, 1)
			go func() {
				ended <- Watch(ctx, Terminal{In: tty, Out: tty}, "localhost:2019", time.Millisecond, sampleOf(t, 0, "first.prom"), func(ctx context.Context) (*scrape.Sample, error) {
					asked <- struct{}{}
					<-ctx.Done() // do not answer until the request is cancelled, like a gateway that hangs
					return nil, ctx.Err()
				})
			}()
			<-asked
			if err := end(terminal, cancel); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Errorf("it ended with %v", err)
			}
			_ = terminal.Close()
			_ = tty.Close()
			<-read
			goleak.VerifyNone(t, before)
		})
	}
}
