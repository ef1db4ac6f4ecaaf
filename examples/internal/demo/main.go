package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Main runs a demonstration program. It calls run with the standard output, and with a
// context that a signal cancels. Before the call returns, it must end all processes
// that it has started. If it returns an error, the program exits with code 1.
func Main(name string, run func(ctx context.Context, out io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, os.Stdout)
	switch {
	case ctx.Err() != nil:
		fmt.Println("\nStopped.")
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		stop()
		os.Exit(1)
	}
}

// Line prints a line of a report with a label. Further lines of the text are
// indented.
func Line(w io.Writer, label, format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n            ")
	fmt.Fprintf(w, "  %-9s %s\n", label, text)
}

// ClientCommand returns the command that adds the server to an MCP client.
func ClientCommand(endpoint, secret string) string {
	return fmt.Sprintf("claude mcp add --transport http weather %s --header \"Authorization: Bearer %s\"", endpoint, secret)
}

// Shorten returns a long text without its middle, and a short text unchanged.
func Shorten(s string) string {
	const ends = 24
	if len(s) <= 2*ends {
		return s
	}
	return fmt.Sprintf("%s...%s (%d bytes)", s[:ends], s[len(s)-ends:], len(s))
}
