package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ops"
)

// completionTimeout bounds how long a shell waits for the running server.
const completionTimeout = time.Second

// addCompletions adds shell completion to cmd and its subcommands. Flags and first
// arguments complete with the running server's accounts, keys and servers.
func addCompletions(c *connection, cmd *cobra.Command) {
	for _, below := range cmd.Commands() {
		addCompletions(c, below)
	}
	accounts := completeBy(c, &ops.ListAccounts.Operation, func(a admin.AccountView) string { return cobra.CompletionWithDesc(a.Name, a.ID) })
	ids := completeBy(c, &ops.ListKeys.Operation, func(k admin.KeyView) string {
		return cobra.CompletionWithDesc(k.ID, strings.Join(strings.Fields(cmp.Or(k.AccountName, k.Account)+" "+k.Name+" "+k.Kind+", "+k.State), " "))
	})
	servers := completeBy(c, &ops.ListServers.Operation, func(s ops.ServerView) string { return s.Name })
	grants := completeBy(c, &ops.ListGrants.Operation, func(g ops.GrantView) string {
		return cobra.CompletionWithDesc(g.ID, clientOf(&g)+" for "+cmp.Or(g.AccountName, g.Account)+" at "+g.Server)
	})
	kinds := keys.Kinds()
	if cmd.Name() == "create" {
		kinds = keys.CreatedKinds()
	}
	for name, complete := range map[string]cobra.CompletionFunc{
		"account": accounts, "provider": accounts, "key": ids, "server": servers,
		"kind": cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp),
	} {
		if cmd.Flags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, complete) // fails only for an unknown flag or a second registration
		}
	}
	for argument, complete := range map[string]cobra.CompletionFunc{"<account>": accounts, "<key-id>": ids, "<grant-id>": grants, "<server>": servers} {
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

// completeBy returns a function that completes with the items of a listing of the
// running server. If no server answers, the returned function offers no completions. It
// prints no error either, because the shell would show the error in the middle of the
// command line.
func completeBy[T any](c *connection, list *ops.Operation, show func(T) string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, begun string) (offers []cobra.Completion, _ cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if c.Offline { // completing must not open the store
			return nil, none
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
		defer cancel()
		raw, err := c.Call(ctx, list.Method, list.Path, nil)
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
