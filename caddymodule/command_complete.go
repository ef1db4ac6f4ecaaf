package caddymodule

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
)

// completeTime bounds how long a shell waits for what the running server knows.
const completeTime = time.Second

// addCompletions lets shells complete, in the command and those below it, what
// the running server knows: accounts, keys and servers.
func addCompletions(c *connection, cmd *cobra.Command) {
	for _, below := range cmd.Commands() {
		addCompletions(c, below)
	}
	accounts := completeBy(c, "accounts", func(a admin.AccountView) string { return cobra.CompletionWithDesc(a.Name, a.ID) })
	ids := completeBy(c, "keys", func(k admin.KeyView) string {
		return cobra.CompletionWithDesc(k.ID, strings.Join(strings.Fields(orID(k.AccountName, k.Account)+" "+k.Name+" "+k.Kind+", "+k.State), " "))
	})
	servers := completeBy(c, "servers", func(s ops.ServerView) string { return s.Name })
	for name, complete := range map[string]cobra.CompletionFunc{
		"account": accounts, "provider": accounts, "key": ids, "server": servers,
		"kind": cobra.FixedCompletions(keys.Kinds(), cobra.ShellCompDirectiveNoFileComp),
	} {
		if cmd.Flags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, complete) // fails only for what is not there, or twice
		}
	}
	for argument, complete := range map[string]cobra.CompletionFunc{"<account>": accounts, "<key-id>": ids, "<server>": servers} {
		if _, first, _ := strings.Cut(cmd.Use, " "); strings.HasPrefix(first, argument) {
			cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
				if len(args) > 0 {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
				return complete(cmd, args, begun)
			}
		}
	}
}

// completeBy returns what completes by a list of the running server. Where none answers
// it offers nothing, and says nothing: a shell would show it amid the line.
func completeBy[T any](c *connection, path string, show func(T) string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, begun string) (offers []cobra.Completion, _ cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if c.offline { // it would open the store
			return nil, none
		}
		ctx, cancel := context.WithTimeout(context.Background(), completeTime)
		defer cancel()
		raw, err := c.call(ctx, http.MethodGet, path+"?limit="+strconv.Itoa(ledger.MaxPage), nil)
		var page admin.List[T]
		if err != nil || json.Unmarshal(raw, &page) != nil {
			return nil, none
		}
		for _, item := range page.Items {
			if text := show(item); strings.HasPrefix(text, begun) {
				offers = append(offers, text)
			}
		}
		return offers, none
	}
}
