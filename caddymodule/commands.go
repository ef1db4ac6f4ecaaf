package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
)

func accountCommand(c *connection) *cobra.Command {
	create := &cobra.Command{
		Use: "create <name>", Short: "Makes an account", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return do(c, cmd, http.MethodPost, "accounts", map[string]string{"name": args[0]}, printAccount)
		},
	}
	show := &cobra.Command{
		Use: "show <account>", Short: "Shows an account, by its name or id", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return do(c, cmd, http.MethodGet, "accounts/"+url.PathEscape(args[0]), nil, printAccount)
		},
	}
	return group("account", "Makes and shows accounts", create, show, listAccounts(c))
}

func listAccounts(c *connection) *cobra.Command {
	return listCommand(c, "Lists accounts", func() string { return "accounts" }, nil,
		[]string{"NAME", "ID", "BALANCE", "RESERVED", "TEST BALANCE"},
		func(a admin.AccountView) []any { return []any{a.Name, a.ID, a.Balance, a.Reserved, a.TestBalance} })
}

func printAccount(w io.Writer, a admin.AccountView) {
	printFields(w,
		"account", a.Name, "id", a.ID,
		"balance", fmt.Sprintf("%s (%s reserved)", a.Balance, a.Reserved),
		"test balance", fmt.Sprintf("%s (%s reserved)", a.TestBalance, a.TestReserved))
}

func creditCommand(c *connection) *cobra.Command {
	var credit admin.Credit
	cmd := &cobra.Command{
		Use: "credit <account> <amount>", Short: "Tops an account up", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			amount, err := ledger.ParseAmount(args[1])
			if err != nil {
				return err
			}
			credit.Amount = amount
			return do(c, cmd, http.MethodPost, "accounts/"+url.PathEscape(args[0])+"/credits", credit, printAccount)
		},
	}
	cmd.Flags().StringVar(&credit.Reason, "reason", "", "Why, for the audit (required)")
	cmd.Flags().BoolVar(&credit.Test, "test", false, "Top up the test balance")
	cmd.Flags().StringVar(&credit.ID, "id", "", "An id of your own, txn_ and a UUID, that makes a repetition harmless")
	return cmd
}

func keyCommand(c *connection) *cobra.Command {
	return group("key", "Makes and deletes keys", createKey(c), deleteKey(c))
}

func createKey(c *connection) *cobra.Command {
	var n admin.NewKey
	var expires string
	cmd := &cobra.Command{
		Use: "create --account <account>", Short: "Makes a key and shows its secret, once", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n.Account == "" {
				return errors.New("whose key? Name the account with --account")
			}
			if expires != "" {
				d, err := caddy.ParseDuration(expires)
				if err != nil {
					return fmt.Errorf("--expires %q is not a time from now, such as 90d or 12h", expires)
				}
				n.ExpiresIn = d.String()
			}
			return do(c, cmd, http.MethodPost, "keys", n, printNewKey)
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.Account, "account", "", "The account that owns the key, by name or id (required)")
	f.StringVar(&n.Kind, "kind", "agent", "agent, provider, gateway, personal or admin")
	f.StringVar(&n.Name, "name", "", "A name to know the key by")
	f.StringArrayVar(&n.Scopes, "scope", nil, "A scope that the key gets; may be repeated")
	f.StringArrayVar(&n.Servers, "server", nil, "A server that the key may call; may be repeated (default: all)")
	f.BoolVar(&n.Test, "test", false, "Make a test key: it spends the test balance")
	f.StringVar(&expires, "expires", "", "When the key expires, from now: 90d, 12h (default: never; personal keys: 6 months)")
	return cmd
}

func printNewKey(w io.Writer, k admin.KeyView) {
	expires := "never"
	if k.ExpiresAt != nil {
		expires = k.ExpiresAt.Format(time.RFC3339)
	}
	printFields(w, "key", k.ID, "account", k.Account, "kind", k.Kind+", "+k.Environment, "expires", expires, "secret", k.Secret)
	fmt.Fprintf(w, "\nThe secret is shown this once. MCP clients send it with every request:\n\n"+
		"  Authorization: Bearer %[1]s\n\nFor example:\n\n"+
		"  claude mcp add --transport http NAME URL --header \"Authorization: Bearer %[1]s\"\n", k.Secret)
}

func deleteKey(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "delete <key-id>", Short: "Ends a key, at once and for ever", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return do(c, cmd, http.MethodDelete, "keys/"+url.PathEscape(args[0]), nil, func(w io.Writer, k admin.KeyView) {
				fmt.Fprintf(w, "%s (%s) is deleted. No call that begins now is accepted with it.\n", k.ID, k.Hint)
			})
		},
	}
}

func chargeCommand(c *connection) *cobra.Command {
	var account string
	list := listCommand(c, "Lists charges, newest first",
		func() string { return "charges?account=" + url.QueryEscape(account) },
		func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&account, "account", "", "Only those that this account paid, by name or id")
		},
		[]string{"AT", "CHARGE", "SERVER", "TOOL", "AMOUNT", "REFUNDED", "STATE", "ENVIRONMENT"},
		func(v admin.ChargeView) []any {
			return []any{v.At.Format(time.RFC3339), v.ID, v.Server, v.Tool, v.Amount, v.Refunded, v.State, v.Environment}
		})
	return group("charge", "Shows charges", list)
}

// listCommand returns a command that walks a listing's pages up to a limit.
func listCommand[T any](c *connection, short string, path func() string, flags func(*cobra.Command), head []string, row func(T) []any) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, more, err := collect[T](c, cmd, path(), limit)
			if err != nil {
				return err
			}
			if more {
				fmt.Fprintf(cmd.ErrOrStderr(), "There are more than these %d: list all with --limit 0.\n", limit)
			}
			if c.json {
				return printJSON(cmd.OutOrStdout(), items)
			}
			return printTable(cmd.OutOrStdout(), head, items, row)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 1000, "How many to list at most; 0 lists all")
	if flags != nil {
		flags(cmd)
	}
	return cmd
}

// collect reads pages until there are as many items as asked for.
func collect[T any](c *connection, cmd *cobra.Command, path string, limit int) (items []T, more bool, err error) {
	items = []T{}
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	for after := ""; ; {
		size := ledger.MaxPage
		if limit > 0 {
			size = min(size, limit-len(items))
		}
		query := url.Values{"after": {after}, "limit": {strconv.Itoa(size)}}
		raw, err := c.call(cmd.Context(), http.MethodGet, path+separator+query.Encode(), nil)
		if err != nil {
			return nil, false, err
		}
		var page admin.List[T]
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, false, fmt.Errorf("the server's answer cannot be read: %w", err)
		}
		items = append(items, page.Items...)
		if page.Next == "" || limit > 0 && len(items) >= limit {
			return items, page.Next != "", nil
		}
		after = page.Next
	}
}

func ledgerCommand(c *connection) *cobra.Command {
	verify := &cobra.Command{
		Use: "verify", Short: "Replays the books and compares", Args: cobra.NoArgs,
		Long: "Replays every entry of the ledger and compares with all balances.\nThe exit status is 0 if they agree, and 1 if anything differs.",
		RunE: func(cmd *cobra.Command, _ []string) error { return verifyLedger(c, cmd) },
	}
	return group("ledger", "Checks the ledger", verify)
}

func verifyLedger(c *connection, cmd *cobra.Command) error {
	raw, err := c.call(cmd.Context(), http.MethodPost, "ledger/verify", struct{}{})
	if err != nil {
		return err
	}
	var v admin.VerificationView
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	switch out := cmd.OutOrStdout(); {
	case c.json:
		if err := printJSON(out, raw); err != nil {
			return err
		}
	case len(v.Differences) == 0:
		fmt.Fprintf(out, "The books balance: %d transactions, %d accounts.\n", v.Transactions, v.Accounts)
	default:
		for _, difference := range v.Differences {
			fmt.Fprintln(out, difference)
		}
	}
	if n := len(v.Differences); n > 0 {
		return fmt.Errorf("the books do not balance: differences: %d", n)
	}
	return nil
}

// printFields prints names and values, aligned.
func printFields(w io.Writer, pairs ...any) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(table, "%v\t%v\n", pairs[i], pairs[i+1])
	}
	_ = table.Flush() // to a terminal or a buffer
}

func printTable[T any](w io.Writer, head []string, items []T, row func(T) []any) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(head, "\t"))
	for _, item := range items {
		cells := row(item)
		text := make([]string, len(cells))
		for i, cell := range cells {
			text[i] = fmt.Sprint(cell)
		}
		fmt.Fprintln(table, strings.Join(text, "\t"))
	}
	return table.Flush()
}
