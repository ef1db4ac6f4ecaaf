package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/cli/reach"
	"github.com/fareboxhq/farebox/internal/ops"
)

// connection calls operations and prints their output. The common flags set its
// fields.
type connection struct {
	reach.Connection
	json bool
}

// do performs an operation. With --json it prints the output as JSON. Otherwise it
// decodes the output into a T and calls print(w, output). The last arguments are the
// values of the path's parameters, in order.
func do[T any](c *connection, cmd *cobra.Command, o *ops.Operation, body any, print func(w io.Writer, output T), parameters ...string) error {
	raw, err := c.Call(cmd.Context(), o.Method, pathOf(o, parameters...), body)
	if err != nil {
		return err
	}
	if c.json {
		return printJSON(cmd.OutOrStdout(), raw)
	}
	return object(print)(cmd.OutOrStdout(), raw)
}

// decode decodes the JSON of a server's response.
func decode[T any](raw []byte) (value T, err error) {
	err = decodeInto(raw, &value)
	return value, err
}

func decodeInto(raw []byte, value any) error {
	if err := json.Unmarshal(raw, value); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	return nil
}
