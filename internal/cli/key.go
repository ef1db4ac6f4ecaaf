package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/cli/limits"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/table"
)

// oneKey requires a key id as the only argument.
func oneKey(cmd *cobra.Command, args []string) error {
	if err := exactly("<key-id>")(cmd, args); err != nil {
		return err
	}
	return checkKeyID(args[0])
}

// checkKeyID returns an error if id is not the id of a key. The error does not repeat
// id, and the command must not send it, because id may be a secret.
func checkKeyID(id string) error {
	if !isKeyID(id) {
		return errors.New("this is not the id of a key, which begins with key_: find it with key list, by the hint or the name")
	}
	return nil
}

func isKeyID(text string) bool { return strings.HasPrefix(text, "key_") }

func createKey(c *connection) *cobra.Command {
	var n admin.NewKey
	var expires, rate, at string
	var caps []string
	cmd := &cobra.Command{
		Use: "create --account <account>", Short: "Makes a key and shows its secret, once", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if n.Account == "" {
				return errors.New("whose key? Name the account with --account")
			}
			if cmd.Flags().Changed("expires") {
				if n.ExpiresIn, err = fromNow(expires); err != nil {
					return err
				}
			}
			if n.Caps, err = limits.ParseCaps(caps); err != nil {
				return err
			}
			if cmd.Flags().Changed("rate") {
				n.Rate = &rate
			}
			return do(c, cmd, &ops.CreateKey.Operation, n, func(w io.Writer, k admin.KeyView) {
				printSecret(w, k, cmp.Or(at, c.urlFor(cmd.Context(), &k)))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.Account, "account", "", "The account that owns the key, by name or id (required)")
	f.StringVar(&n.Kind, "kind", "agent", "agent, provider, gateway, personal or admin")
	f.StringVar(&n.Name, "name", "", "A name to know the key by (personal keys need one)")
	f.StringArrayVar(&n.Scopes, "scope", nil, "A scope that the key gets, of those that the config declares; may be repeated (personal keys: the default ones)")
	f.StringArrayVar(&n.Servers, "server", nil, "A server that the key may call; may be repeated (default: all)")
	f.BoolVar(&n.Force, "force", false, "Name servers that the config does not have yet")
	f.BoolVar(&n.Test, "test", false, "Make a test key: it spends the test balance")
	f.StringVar(&expires, "expires", "", "When the key expires, from now: 90d, 12h, or never (default: never; personal keys: as the config says, or 6 months)")
	limits.AddCap(cmd, &caps, "it and its successors spend")
	limits.AddRate(cmd, &rate)
	f.StringVar(&n.Digest, "digest", "", "The SHA-256, in hex digits, of a secret that another system has minted")
	addURLFlag(cmd, &at)
	return cmd
}

func addURLFlag(cmd *cobra.Command, at *string) {
	cmd.Flags().StringVar(at, "url", "", "The address of the server behind the gateway, for the lines to paste (default: as the running config says)")
}

// unknownURL stands for the address of a server that is not known.
const unknownURL = "https://GATEWAY/mcp"

// urlFor returns the address of the server that the key may call. It returns unknownURL
// if the key may call several servers or none, or if the running server does not list
// its servers.
func (c *connection) urlFor(ctx context.Context, k *admin.KeyView) string {
	if c.Offline || !callsServers(k) {
		return unknownURL
	}
	raw, err := c.Call(ctx, ops.ListServers.Method, pathOf(&ops.ListServers.Operation), nil)
	if err != nil {
		return unknownURL // the key has been made, and its snippets are useful even without the address
	}
	list, err := decode[admin.List[ops.ServerView]](raw)
	if err != nil {
		return unknownURL
	}
	var urls []string
	for _, s := range list.Items {
		if s.URL != "" && (len(k.Servers) == 0 || slices.Contains(k.Servers, s.Name)) {
			urls = append(urls, s.URL)
		}
	}
	if urls = slices.Compact(urls); len(urls) != 1 {
		return unknownURL
	}
	return urls[0]
}

// fromNow converts an expiry such as 90d to the syntax that the server parses.
func fromNow(text string) (string, error) {
	if text == admin.Never {
		return text, nil
	}
	d, err := clock.ParseDuration(text)
	if err != nil || d <= 0 {
		return "", fmt.Errorf("--expires %q is not a time from now, such as 90d or 12h, nor never", text)
	}
	return d.String(), nil
}

// callsServers reports whether keys of the kind can call servers.
func callsServers(k *admin.KeyView) bool {
	kind, err := keys.ParseKind(k.Kind)
	return err == nil && kind.Rules().Pays
}

// printSecret prints a new key with its secret, and snippets for common clients. No
// other function prints a secret.
func printSecret(w io.Writer, k admin.KeyView, at string) {
	printKey(w, k)
	if k.Secret == "" { // created from a digest: only the holder has the secret
		return
	}
	fmt.Fprintf(w, "\nThe secret is shown this once:\n\n  %[1]s\n\n", k.Secret)
	if !callsServers(&k) {
		fmt.Fprintf(w, "Send it as: Authorization: Bearer %s\n", k.Secret)
		return
	}
	fmt.Fprintf(w, `Claude Code:

  claude mcp add --transport http farebox %[2]s --header "Authorization: Bearer %[1]s"

Claude Desktop, in claude_desktop_config.json:

  {"mcpServers": {"farebox": {"command": "npx", "args": ["-y", "mcp-remote", "%[2]s", "--header", "Authorization:${AUTH}"], "env": {"AUTH": "Bearer %[1]s"}}}}

Cursor, in .cursor/mcp.json:

  {"mcpServers": {"farebox": {"url": "%[2]s", "headers": {"Authorization": "Bearer %[1]s"}}}}

Any HTTP client:

  Authorization: Bearer %[1]s
`, k.Secret, at)
}

func printKey(w io.Writer, k admin.KeyView) {
	table.Fields(w, "key", k.ID, "account", named(k.AccountName, k.Account), "name", orDash(k.Name), "kind", k.Kind+", "+k.Environment,
		"state", k.State, "hint", k.Hint, "scopes", orDash(strings.Join(k.Scopes, " ")),
		"servers", allOr(k.Servers), "caps", limits.CapsText(k.Caps), "rate", orDash(k.Rate), "created", k.CreatedAt.Format(time.RFC3339), "expires", timeOr(k.ExpiresAt, "never"), "last used", timeOr(k.LastUsedAt, "never"))
}

// printKeys prints keys as a table, with the sums of their calls if the listing has them.
func printKeys(w io.Writer, raw []byte) error {
	items, err := decode[[]admin.KeyView](raw)
	if err != nil {
		return err
	}
	head := []string{"KEY", "HINT", "ACCOUNT", "ACCOUNT ID", "NAME", "KIND", "ENVIRONMENT", "STATE", "EXPIRES", "LAST USED"}
	if len(items) > 0 && items[0].Usage != nil {
		head = append(head, "CALLS", "REFUSED", "FAILED", "CHARGED")
	}
	return table.Print(w, head, items, func(k admin.KeyView) []any {
		line := []any{k.ID, k.Hint, orDash(k.AccountName), k.Account, orDash(k.Name), k.Kind, k.Environment, k.State, timeOr(k.ExpiresAt, "never"), timeOr(k.LastUsedAt, "never")}
		if u := k.Usage; u != nil {
			line = append(line, u.Calls, u.Refused, u.Failed, u.Charged)
		}
		return line
	})
}

// named renders an account as its name and id.
func named(name, id string) string {
	if name == "" {
		return id
	}
	return name + " (" + id + ")"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func allOr(servers []string) string {
	if len(servers) == 0 {
		return "all"
	}
	return strings.Join(servers, " ")
}

func timeOr(t *time.Time, none string) string {
	if t == nil {
		return none
	}
	return t.Format(time.RFC3339)
}

func updateKey(c *connection) *cobra.Command {
	var name, expires, rate string
	var scopes, servers, caps []string
	var noScopes, allServers, force bool
	cmd := &cobra.Command{
		Use: "update <key-id>", Short: "Changes name, scopes, servers, caps, rate or expiry of a key, at once", Args: oneKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			var change admin.KeyChange
			given := cmd.Flags().Changed
			if given("name") {
				change.Name = &name
			}
			if given("scope") || noScopes {
				list := append([]string{}, scopes...) // not nil, because nil means no change
				change.Scopes = &list
			}
			if given("server") || allServers {
				list := append([]string{}, servers...)
				change.Servers = &list
			}
			if given("expires") {
				in, err := fromNow(expires)
				if err != nil {
					return err
				}
				change.ExpiresIn = &in
			}
			var err error
			if change.Caps, err = limits.ParseCaps(caps); err != nil {
				return err
			}
			if given("rate") {
				change.Rate = &rate
			}
			if change == (admin.KeyChange{}) {
				return errors.New("nothing to change: give --name, --scope, --no-scopes, --server, --all-servers, --cap, --rate or --expires")
			}
			change.Force = force
			return do(c, cmd, &ops.UpdateKey.Operation, change, printKey, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "A new name")
	f.StringArrayVar(&scopes, "scope", nil, "The scopes from now on; may be repeated")
	f.BoolVar(&noScopes, "no-scopes", false, "Take all scopes away")
	f.StringArrayVar(&servers, "server", nil, "The servers that it may call from now on; may be repeated")
	f.BoolVar(&force, "force", false, "Name servers that the config does not have yet")
	f.BoolVar(&allServers, "all-servers", false, "Let it call all servers")
	f.StringVar(&expires, "expires", "", "When it expires, from now: 90d, 12h, or never")
	limits.AddCap(cmd, &caps, "it and its successors spend")
	limits.AddRate(cmd, &rate)
	cmd.MarkFlagsMutuallyExclusive("scope", "no-scopes")
	cmd.MarkFlagsMutuallyExclusive("server", "all-servers")
	return cmd
}

func rotateKey(c *connection) *cobra.Command {
	var grace, expires, at string
	cmd := &cobra.Command{
		Use: "rotate <key-id>", Short: "Makes a successor with the same rights and shows its secret, once", Args: oneKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := clock.ParseDuration(grace)
			if err != nil || in < 0 {
				return fmt.Errorf("--grace %q is not a time, such as 24h or 7d; 0s ends the old key at once", grace)
			}
			rotation := admin.Rotation{Grace: in.String()}
			if cmd.Flags().Changed("expires") {
				if rotation.ExpiresIn, err = fromNow(expires); err != nil {
					return err
				}
			}
			return do(c, cmd, &ops.RotateKey.Operation, rotation, func(w io.Writer, k admin.KeyView) {
				printSecret(w, k, cmp.Or(at, c.urlFor(cmd.Context(), &k)))
				printRetired(w, args[0], grace, in)
			}, args[0])
		},
	}
	cmd.Flags().StringVar(&grace, "grace", "0s", "How long the old key lives on: 24h, 7d")
	cmd.Flags().StringVar(&expires, "expires", "", "When the successor expires, from now: 90d, 12h, or never (default: when the old key would have)")
	addURLFlag(cmd, &at)
	return cmd
}

func printRetired(w io.Writer, id, grace string, in time.Duration) {
	if in == 0 {
		fmt.Fprintf(w, "\nThe old key, %s, has expired. No call that begins now is accepted with it.\n", id)
		return
	}
	fmt.Fprintf(w, "\nThe old key, %s, expires in %s, unless it does so before.\n", id, grace)
}
