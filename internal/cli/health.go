package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/cli/reach"
	"github.com/fareboxhq/farebox/internal/ops"
)

func healthCommand(c *connection) *cobra.Command {
	var patience time.Duration
	cmd := &cobra.Command{
		Use: "health", Short: "Shows whether the running gateway can serve calls, and why not", Args: exactly(),
		Long: `Shows whether the running gateway can serve calls, and why not.

The exit status is 0 if it is ready, and 5 if it is not, if no server answers, or
if the answer takes too long: it suits the health checks of containers and
services. Load balancers ask the directive farebox_health, which needs no token
and shows no details.`,
		PreRunE: c.needsServer,
	}
	cmd.Flags().DurationVar(&patience, "timeout", 5*time.Second, "How long to wait for the answer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		view, err := c.health(cmd, patience)
		if err == nil && view.Status != ops.StatusReady {
			err = notReady(&view)
		}
		return err
	}
	return cmd
}

// health asks the running server for its health. With --json it prints the response.
// Otherwise it prints a line only if the server is ready.
func (c *connection) health(cmd *cobra.Command, patience time.Duration) (view ops.HealthView, err error) {
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, patience)
	defer cancel()
	err = c.Reach(ctx, ops.ShowHealth.Method, func(ctx context.Context, client *ops.Client) error {
		raw, err := client.Health(ctx)
		if err != nil {
			return err
		}
		if view, err = decode[ops.HealthView](raw); err != nil {
			return err
		}
		return c.showHealth(cmd.OutOrStdout(), raw, &view)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = &reach.UnreachableError{Err: fmt.Errorf("the server did not answer within %s", patience)}
	}
	return view, err
}

func (c *connection) showHealth(w io.Writer, raw json.RawMessage, view *ops.HealthView) error {
	switch {
	case c.json:
		return printJSON(w, raw)
	case view.Status == ops.StatusReady:
		_, err := fmt.Fprintln(w, "Ready.")
		return err
	}
	return nil
}

// notReady returns an error with the reasons why the server is not ready. A command
// that fails with this error exits with code 5 (exitUnavailable).
func notReady(view *ops.HealthView) error {
	var reasons []string
	for _, r := range view.Reasons {
		text := r.Code + ": " + r.Message
		if r.Detail != "" {
			text += " (" + r.Detail + ")"
		}
		reasons = append(reasons, text)
	}
	return &admin.Error{Code: admin.Unavailable, Message: "not ready: " + strings.Join(reasons, "; ")}
}
