package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ops"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "farebox",
		Usage: "account|credit|adjust|key|charge|receipt|ledger|audit|server|backup|restore|migrate …",
		Short: "Manages the accounts, keys and charges of Farebox",
		Long: `
Manages the accounts, keys and charges of Farebox.

The commands speak to the running server at Caddy's admin address: the one
given by --address, or in the environment variable CADDY_ADMIN, or that of the
config (--config, or the Caddyfile of the working directory), or else
localhost:2019. On a unix socket, its permissions say who may. Of a TCP port they
read the bearer token that the server keeps in its data directory: run them as
the user that runs the server, in an environment that names the same directory
(HOME, or XDG_DATA_HOME).

With --offline they open the store itself, which --config names. That works
only while no server has it open.

Every command prints text for people, or with --json JSON for programs.
` + exitCodesText,
		CobraFunc: addCommands,
	})
}

func addCommands(root *cobra.Command) {
	var c connection
	root.Args = cobra.NoArgs
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.SilenceUsage = true
	flags := root.PersistentFlags()
	flags.StringVar(&c.address, "address", "", "The admin address of the running server")
	flags.BoolVar(&c.offline, "offline", false, "Open the store itself: no server may have it open")
	flags.StringVarP(&c.config, "config", "c", "", "The config file that names the admin address or, with --offline, the store (default: Caddyfile)")
	flags.StringVarP(&c.adapter, "adapter", "a", "", "The config adapter")
	flags.BoolVar(&c.json, "json", false, "Print JSON")
	root.AddCommand(commands(&c)...)
	addCompletions(&c, root)
	reportErrors(&c, root)
}

func commands(c *connection) []*cobra.Command {
	return []*cobra.Command{
		accountCommand(c), creditCommand(c), adjustCommand(c), keyCommand(c), chargeCommand(c), receiptCommand(c), ledgerCommand(c), auditCommand(c), serverCommand(c),
		backupCommand(c), restoreCommand(c), migrateCommand(c),
	}
}

// Commands returns the names of the commands that stand below "farebox", such as
// "account", for binaries that offer them without it.
func Commands() (names []string) {
	for _, c := range commands(new(connection)) {
		names = append(names, c.Name())
	}
	return names
}

// group returns a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	g.AddCommand(commands...)
	return g
}

// exactly wants one argument for each name, and says which is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		for i, name := range names {
			if i >= len(args) || args[i] == "" {
				return fmt.Errorf("%s is missing, usage: %s", name, cmd.UseLine())
			}
		}
		if len(args) > len(names) {
			return fmt.Errorf("too many arguments, usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// connection is how the commands reach the operations of package admin: over
// the running server's admin endpoint, or in this very process.
type connection struct {
	address string
	offline bool
	config  string
	adapter string
	json    bool
	asked   bool // the command line was accepted: what fails from now on is not its fault
}

// do carries an operation out, and prints the answer: as it is with --json,
// else by the function, from the answer decoded into a T.
func do[T any](c *connection, cmd *cobra.Command, method, path string, body any, print func(w io.Writer, answer T)) error {
	raw, err := c.call(cmd.Context(), method, path, body)
	if err != nil {
		return err
	}
	if c.json {
		return printJSON(cmd.OutOrStdout(), raw)
	}
	var answer T
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	print(cmd.OutOrStdout(), answer)
	return nil
}

func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// call carries one operation out and returns its JSON.
func (c *connection) call(ctx context.Context, method, path string, body any) (raw json.RawMessage, err error) {
	err = c.reach(ctx, method, func(ctx context.Context, client *ops.Client) error {
		raw, err = client.Do(ctx, method, path, body)
		return err
	})
	return raw, err
}

// reach lets use carry operations out: with the running server, or in this very
// process. method says whether they change anything.
func (c *connection) reach(ctx context.Context, method string, use func(context.Context, *ops.Client) error) error {
	if ctx == nil {
		ctx = context.Background()
	}
	if c.offline {
		c.asked = true
		return c.reachStore(ctx, method, func(client *ops.Client) error { return use(ctx, client) })
	}
	address, err := c.adminAddress()
	if err != nil {
		return err
	}
	client, err := adminClient(address)
	if err != nil {
		return err
	}
	c.asked = true
	err = use(ctx, client)
	var unreachable *net.OpError
	if errors.As(err, &unreachable) && unreachable.Op == "dial" {
		return &unreachableError{fmt.Errorf("no server answers at the admin address %s: start it, name the right --address, or use --offline (%w)%s%s", address, unreachable.Err, relativeHint(address), adminOffHint)}
	}
	return err
}

// relativeHint says of a socket without a leading slash from where it is looked
// for.
func relativeHint(address string) string {
	if path, ok := strings.CutPrefix(address, "unix/"); ok && !strings.HasPrefix(path, "/") {
		return "; that socket is looked for from the working directory: run the command where the server was started"
	}
	return ""
}

// adminOffHint keeps people from going to and fro between two refusals.
const adminOffHint = "\na server whose config says \"admin off\" cannot be reached by commands: stop it and use --offline, or give it an admin address"

// adminAddress returns where the running server is to be found.
func (c *connection) adminAddress() (string, error) {
	switch {
	case c.address != "":
		return c.address, nil
	case os.Getenv("CADDY_ADMIN") != "":
		return caddy.DefaultAdminListen, nil // has it
	}
	config, err := c.adapted()
	if err != nil && c.config == "" {
		return caddy.DefaultAdminListen, nil // none, or somebody else's Caddyfile
	}
	var parsed struct {
		Admin struct {
			Listen string `json:"listen"`
		} `json:"admin"`
	}
	if err == nil {
		err = json.Unmarshal(config, &parsed)
	}
	if err != nil {
		return "", fmt.Errorf("the config cannot be read: %w", err)
	}
	if parsed.Admin.Listen == "" {
		return caddy.DefaultAdminListen, nil
	}
	return caddy.NewReplacer().ReplaceKnown(parsed.Admin.Listen, ""), nil
}

// adapted returns the config as JSON. Caddy's own way to it talks on the way.
func (c *connection) adapted() ([]byte, error) {
	file, name := cmp.Or(c.config, "Caddyfile"), c.adapter
	text, err := readConfig(file)
	if err != nil {
		return nil, err
	}
	if name == "" && (strings.HasPrefix(filepath.Base(file), "Caddyfile") || strings.HasSuffix(file, ".caddyfile") || strings.HasSuffix(file, ".Caddyfile")) {
		name = "caddyfile"
	}
	if name == "" {
		return text, nil
	}
	adapter := caddyconfig.GetAdapter(name)
	if adapter == nil {
		return nil, fmt.Errorf("unknown config adapter %q", name)
	}
	config, _, err := adapter.Adapt(text, map[string]any{"filename": file})
	return config, err
}

// readConfig reads a config's text; "-" is standard input, as in Caddy's commands.
func readConfig(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(file)
}

// adminClient returns a client of the admin endpoint at that address.
func adminClient(address string) (*ops.Client, error) {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil || parsed.PortRangeSize() > 1 || !strings.HasPrefix(parsed.Network, "tcp") && !parsed.IsUnixNetwork() {
		return nil, fmt.Errorf("admin address %q cannot be used: want host:port or unix//path", address)
	}
	network, target, host := parsed.Network, parsed.JoinHostPort(0), parsed.JoinHostPort(0)
	if parsed.IsUnixNetwork() {
		target, _, _ = strings.Cut(parsed.Host, "|") // without the permissions of the socket
		host = "127.0.0.1"                           // which Caddy takes on any socket
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
			file := admin.TokenFile(dataDir(), reached)
			token, err := admin.ReadToken(file)
			if err != nil {
				return "", fmt.Errorf("the server asks for its admin token, which was looked for at %s and cannot be read: "+
					"run this as the user that runs the server, with the same data directory, which %s (%w)", file, dataDirSource(), err)
			}
			return token, nil
		},
	}, nil
}

// refusedOffline says why a store could not be opened, and what to do.
func refusedOffline(err error) error {
	return fmt.Errorf("%w\nstop the server first, or leave --offline out to speak to it%s", err, adminOffHint)
}

// dataDirSource says which variable names the data directory.
func dataDirSource() string {
	for _, name := range []string{"XDG_DATA_HOME", "HOME"} {
		if value := os.Getenv(name); value != "" {
			return fmt.Sprintf("the environment variable %s names, now %s", name, value)
		}
	}
	return "the environment variables XDG_DATA_HOME and HOME name; neither is set"
}
