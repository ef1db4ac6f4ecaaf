// Package reach connects commands to a store: through the running server's admin
// endpoint, or through the same handler in this process, on a store that the command
// opens itself.
package reach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ops"
)

// Connection calls the operations of package admin, either at the running server's
// admin endpoint or in this process. It is not safe for concurrent use.
type Connection struct {
	Host    Host
	Address string // the admin address; "" to look for it in the environment and the config
	Offline bool   // open the store in this process
	Config  string // the config file; "" for the default ones
	Adapter string // the config adapter; "" to choose one by the name of the file
	Begun   bool   // whether the command line was accepted; a later error is not a usage error
}

// Call calls an operation and returns its output as JSON.
func (c *Connection) Call(ctx context.Context, method, path string, body any) (raw json.RawMessage, err error) {
	err = c.Reach(ctx, method, func(ctx context.Context, client *ops.Client) error {
		raw, err = client.Do(ctx, method, path, body)
		return err
	})
	return raw, err
}

// Reach calls use(ctx, client) with a client for the running server or, if --offline
// is set, for a store in this process. If the offline store does not exist, Reach
// creates it. For the method GET, Reach fails instead, because operations with this
// method only read.
func (c *Connection) Reach(ctx context.Context, method string, use func(context.Context, *ops.Client) error) error {
	if ctx == nil {
		ctx = context.Background()
	}
	if c.Offline {
		c.Begun = true
		return c.openStore(ctx, method, func(client *ops.Client) error { return use(ctx, client) })
	}
	address, err := c.AdminAddress()
	if err != nil {
		return err
	}
	client, err := c.AdminClient(address)
	if err != nil {
		return err
	}
	c.Begun = true
	return Reached(address, use(ctx, client), "start it, name the right --address, or use --offline", adminOffHint)
}

// Reached returns the error of a request to the admin endpoint at the given address. If
// the endpoint could not be reached, the text of the returned error says so, gives the
// advice, and ends with the hint. Any other err is returned unchanged.
func Reached(address string, err error, advice, hint string) error {
	var unreachable *net.OpError
	if errors.As(err, &unreachable) && unreachable.Op == "dial" {
		if errors.Is(err, fs.ErrPermission) {
			return &UnreachableError{Err: fmt.Errorf("the admin socket %s is not open to this user: run the command with sudo, or as the user that runs the server (%w)", address, unreachable.Err)}
		}
		return &UnreachableError{Err: fmt.Errorf("no server answers at the admin address %s: %s (%w)%s%s", address, advice, unreachable.Err, relativeHint(address), hint)}
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

// AdminAddress returns the running server's admin address.
func (c *Connection) AdminAddress() (string, error) {
	switch {
	case c.Address != "":
		return c.Address, nil
	case os.Getenv("CADDY_ADMIN") != "":
		return c.Host.AdminAddress(nil) // the default address is the value of CADDY_ADMIN
	}
	config, err := c.readConfig()
	if err != nil && c.Config == "" {
		return c.Host.AdminAddress(nil) // use the default address, because the Caddyfile is missing or is for another program
	}
	if err != nil {
		return "", fmt.Errorf("the config cannot be read: %w", err)
	}
	return c.Host.AdminAddress(config)
}

// readConfig returns the config that --config names, or else the Caddyfile of the
// working directory, or else the config file of an installed package. The error is
// fs.ErrNotExist if there is no such file.
func (c *Connection) readConfig() ([]byte, error) {
	config, err := c.Host.ReadConfig(c.Config, c.Adapter)
	if c.Config == "" && c.Host.InstalledConfig != "" && errors.Is(err, fs.ErrNotExist) {
		return c.Host.ReadConfig(c.Host.InstalledConfig, c.Adapter)
	}
	return config, err
}

// AdminClient returns a client of the admin endpoint at the given address.
func (c *Connection) AdminClient(address string) (*ops.Client, error) {
	network, target, host, err := c.Host.SplitAddress(address)
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
			file := admin.TokenFile(c.Host.DataDir(), reached)
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

// UnreachableError reports that no server could be reached, or that the server did not
// answer in time.
type UnreachableError struct{ Err error }

// Error returns the text of Err.
func (e *UnreachableError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *UnreachableError) Unwrap() error { return e.Err }
