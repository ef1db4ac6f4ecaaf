package main

import (
	"fmt"
	"io"

	"github.com/fareboxhq/farebox/examples/internal/demo"
)

// demonstration holds the results of the demonstration.
type demonstration struct {
	dsn          string
	calls        []*demo.PaidCall
	deleted, key *demo.Key
	refusal      string
	account      *demo.Account
	transactions int64
}

// report prints the results of the demonstration, and commands to try next.
func report(w io.Writer, o options, d *demonstration) {
	fmt.Fprintf(w, "\nTwo gateways share one PostgreSQL database, behind a balancer at %s.\n", o.endpoint())
	fmt.Fprintf(w, "An agent has called %s %s through it, in one session:\n\n", demo.PaidTool, demo.PaidArgs)
	for i, call := range d.calls {
		demo.Line(w, fmt.Sprintf("call %d", i+1), "served by %s, charged %s %s, balance %s",
			call.Node, call.Charge.Amount, call.Charge.Currency, call.Charge.Balance)
	}
	fmt.Fprintf(w, "\nThen its key was deleted through %s, and used at the other gateway:\n\n", o.nodes[0].address())
	demo.Line(w, "deleted", "%s", d.deleted.ID)
	demo.Line(w, "refused", "by %s: %s", o.nodes[1].address(), d.refusal)
	fmt.Fprintf(w, "\nWhat the books say, by %s:\n\n", o.nodes[1].address())
	demo.Line(w, "account", "%s (%s)", d.account.Name, d.account.ID)
	demo.Line(w, "balance", "%s (test credits)", d.account.TestBalance)
	demo.Line(w, "ledger", "verified: %d transactions", d.transactions)

	fmt.Fprint(w, "\nGive it to an MCP client, with a second key (it is shown only now):\n\n")
	fmt.Fprintf(w, "  %s\n", demo.ClientCommand(o.endpoint(), d.key.Secret))
	fmt.Fprint(w, "\nAsk either gateway, or the database:\n\n")
	for _, n := range o.nodes {
		fmt.Fprintf(w, "  %s farebox charge list --account %s --address '%s'\n", o.Farebox, accountName, n.admin)
	}
	fmt.Fprintf(w, "  psql \"%s\"\n", d.dsn)
	fmt.Fprintf(w, "\nThe logs are in %s. The database is temporary, and is deleted at the end.", o.Data)
	if o.Once {
		fmt.Fprintln(w)
		return
	}
	fmt.Fprintln(w, " Ctrl-C ends all of it.")
}
