package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ops"
)

// connection calls the operations of package admin, either at the running server's
// admin endpoint or in this process. Its fields are set by the common flags.
type connection struct {
	host    Host
	address string
	offline bool
	config  string
	adapter string
	json    bool
	begun   bool // the command line was accepted; a later error is not a usage error
}

// do performs an operation. It prints the output as JSON with --json, and otherwise
// decodes the output into a T and passes that to the function print. The argument
// parameters has the values of the path's parameters.
func do[T any](c *connection, cmd *cobra.Command, o *ops.Operation, body any, print func(w io.Writer, output T), parameters ...string) error {
	raw, err := c.call(cmd.Context(), o.Method, pathOf(o, parameters...), body)
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

// call calls an operation and returns its output as JSON.
func (c *connection) call(ctx context.Context, method, path string, body any) (raw json.RawMessage, err error) {
	err = c.reach(ctx, method, func(ctx context.Context, client *ops.Client) error {
		raw, err = client.Do(ctx, method, path, body)
		return err
	})
	return raw, err
}

// reach calls the function use with a client for the running server or, with
// --offline, for a store in this process. If the offline store does not exist, reach
// fails for the method GET, because such operations only read, and creates the store
// for other methods.
func (c *connection) reach(ctx context.Context, method string, use func(context.Context, *ops.Client) error) error {
	if ctx == nil {
		ctx = context.Background()
	}
	if c.offline {
		c.begun = true
		return c.reachStore(ctx, method, func(client *ops.Client) error { return use(ctx, client) })
	}
	address, err := c.adminAddress()
	if err != nil {
		return err
	}
	client, err := c.adminClient(address)
	if err != nil {
		return err
	}
	c.begun = true
	err = use(ctx, client)
	var unreachable *net.OpError
	if errors.As(err, &unreachable) && unreachable.Op == "dial" {
		return &unreachableError{fmt.Errorf("no server answers at the admin address %s: start it, name the right --address, or use --offline (%w)%s%s", address, unreachable.Err, relativeHint(address), adminOffHint)}
	}
	return err
}

// relativeHint returns a hint that a relative socket path starts at the working
// directory, or "" for other addresses.
func relativeHint(address string) string {
	if path, ok := strings.CutPrefix(address, "unix/"); ok && !strings.HasPrefix(path, "/") {
		return "; that socket is looked for from the working directory: run the command where the server was started"
	}
	return ""
}

// adminOffHint is the end of two error messages. One says that no server answers,
// and advises --offline. The other says that a server has the store open, and
// advises to leave out --offline. If the server's config says "admin off", the
// advice of each message leads to the other message.
const adminOffHint = "\na server whose config says \"admin off\" cannot be reached by commands: stop it and use --offline, or give it an admin address"

// adminAddress returns the running server's admin address.
func (c *connection) adminAddress() (string, error) {
	switch {
	case c.address != "":
		return c.address, nil
	case os.Getenv("CADDY_ADMIN") != "":
		return c.host.AdminAddress(nil) // CADDY_ADMIN sets the default address
	}
	config, err := c.host.ReadConfig(c.config, c.adapter)
	if err != nil && c.config == "" {
		return c.host.AdminAddress(nil) // the Caddyfile is missing, or is for another program
	}
	if err != nil {
		return "", fmt.Errorf("the config cannot be read: %w", err)
	}
	return c.host.AdminAddress(config)
}

// adminClient returns a client of the admin endpoint at address.
func (c *connection) adminClient(address string) (*ops.Client, error) {
	network, target, host, err := c.host.SplitAddress(address)
	if err != nil {
		return nil, err
	}
	var reached string
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, target)
		if err == nil {
			reached = conn.RemoteAddr().String()
		}
		return conn, err
	}}
	return &ops.Client{
		HTTP: &http.Client{Transport: transport}, Host: host,
		Token: func() (string, error) {
			file := admin.TokenFile(c.host.DataDir(), reached)
			token, err := admin.ReadToken(file)
			if err != nil {
				return "", fmt.Errorf("the server asks for its admin token, which was looked for at %s and cannot be read: "+
					"run this as the user that runs the server, with the same data directory, which %s (%w)", file, dataDirSource(), err)
			}
			return token, nil
		},
	}, nil
}

// dataDirSource returns the end of an error message about the data directory. It
// names the environment variable that sets that directory.
func dataDirSource() string {
	for _, name := range []string{"XDG_DATA_HOME", "HOME"} {
		if value := os.Getenv(name); value != "" {
			return fmt.Sprintf("the environment variable %s names, now %s", name, value)
		}
	}
	return "the environment variables XDG_DATA_HOME and HOME name; neither is set"
}
