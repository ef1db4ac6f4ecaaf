package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/charmbracelet/colorprofile"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/fareboxhq/farebox/internal/cli/progress"
	"github.com/fareboxhq/farebox/internal/cli/reach"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/scrape"
	"github.com/fareboxhq/farebox/internal/top"
	"github.com/fareboxhq/farebox/internal/top/screen"
)

// The bounds of --interval.
const (
	minInterval = 100 * time.Millisecond
	maxInterval = time.Hour
)

// plainWidth is the width in columns of output that does not go to a terminal.
const plainWidth = 100

// errNoTerminal means that the live screen cannot be shown, because the output is not a
// terminal.
var errNoTerminal = errors.New("top needs a terminal for its live screen: run it in one, or add --once for a single look, and --json for programs")

func topCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use: "top", Short: "Shows live what the gateway does", Args: exactly(),
		Long: `Shows live what the running gateway does: requests and the decisions about them,
money, the time that Farebox adds, servers, tools, keys and the store, and above
all what needs attention. The figures are the gateway's metrics, which it asks for
at the admin endpoint. ? explains the keys and the words; q quits.

With --once it waits one interval for the rates, prints one look at the gateway as
text, or with --json as JSON, and ends.`,
		PreRunE: c.needsServer,
	}
	once := cmd.Flags().Bool("once", false, "Print one look at the gateway, and end")
	interval := cmd.Flags().Duration("interval", 2*time.Second, "The time between two requests for the figures")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case *interval < minInterval || *interval > maxInterval:
			return fmt.Errorf("--interval %s is out of range: want %s to %s", *interval, minInterval, maxInterval)
		case c.json && !*once:
			return errors.New("--json prints a single look at the gateway: add --once")
		case !*once && !(progress.IsTerminal(os.Stdin) && progress.IsTerminal(cmd.OutOrStdout()) && os.Getenv("TERM") != "dumb"):
			return errNoTerminal
		}
		return c.top(cmd, *once, *interval)
	}
	return cmd
}

// top shows the gateway's figures, live or once.
func (c *connection) top(cmd *cobra.Command, once bool, interval time.Duration) error {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	address, err := c.AdminAddress()
	if err != nil {
		return err
	}
	client, err := c.AdminClient(address)
	if err != nil {
		return err
	}
	defer client.HTTP.CloseIdleConnections()
	c.Begun = true
	first, err := askMetrics(ctx, client)
	if err != nil {
		return unanswered(address, err)
	}
	if !once {
		out, _ := cmd.OutOrStdout().(*os.File) // a terminal is always an *os.File
		return screen.Watch(ctx, screen.Terminal{In: os.Stdin, Out: out}, address, interval, first, func(ctx context.Context) (*scrape.Sample, error) {
			sample, err := askMetrics(ctx, client)
			return sample, briefly(err)
		})
	}
	if err := clock.Sleep(ctx, interval); err != nil {
		return err
	}
	second, err := askMetrics(ctx, client)
	if err != nil {
		return unanswered(address, err)
	}
	view := top.New(address, scrape.Interval{From: first, To: second})
	if c.json {
		view.At = view.At.UTC().Truncate(time.Millisecond)
		return printJSON(cmd.OutOrStdout(), view)
	}
	return printLook(cmd.OutOrStdout(), view)
}

// printLook prints a view as text: with colors on a terminal that shows them, and as
// wide as the terminal.
func printLook(w io.Writer, view *top.View) error {
	width := plainWidth
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			width = columns
		}
	}
	_, err := io.WriteString(colorprofile.NewWriter(w, os.Environ()), screen.Text(view, width))
	return err
}

// patience is the time in which the gateway must send its metrics.
const patience = 5 * time.Second

// maxMetrics bounds the metrics that a gateway sends, in bytes.
const maxMetrics = 32 << 20

// unanswered returns the error for a failed request for the metrics. If the server did
// not answer in time, the error gives the command the exit code for an unreachable
// server.
func unanswered(address string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &reach.UnreachableError{Err: fmt.Errorf("the server at the admin address %s did not answer within %s", address, patience)}
	}
	return reach.Reached(address, err, "start it, or name the right --address", "")
}

// askMetrics asks the admin endpoint for the metrics of the process.
func askMetrics(ctx context.Context, client *ops.Client) (*scrape.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+client.Host+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", scrape.ContentType)
	resp, err := client.HTTP.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the admin endpoint answered %d at /metrics: is it Caddy's?", resp.StatusCode)
	}
	sample, err := scrape.Parse(io.LimitReader(resp.Body, maxMetrics), clock.Now())
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer at /metrics cannot be read: %w", err)
	case !sample.HasPrefix(""):
		return nil, fmt.Errorf("what answers at %s is not Caddy's admin endpoint: it has no metrics", client.Host)
	case !sample.HasPrefix("farebox_"):
		return nil, errors.New("the running config does not use farebox: it has none of its metrics")
	}
	return sample, nil
}

// briefly returns the innermost error of err, which has few words. The line on the
// screen that shows the error already names the address.
func briefly(err error) error {
	var failed interface{ Timeout() bool }
	if errors.As(err, &failed) && failed.Timeout() {
		return errors.New("no answer in time")
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err
}
