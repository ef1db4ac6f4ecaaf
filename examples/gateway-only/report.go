package main

import (
	"context"
	"fmt"
	"io"

	"github.com/fareboxhq/farebox/examples/internal/demo"
)

// demonstration holds the results of the demonstration.
type demonstration struct {
	before, after *demo.Account
	deleted, key  *demo.Key
	call          *demo.PaidCall
	charge        *demo.Charge
	refusal       string
	charges       []listed
	earned        string
	transactions  int64
}

// listed is a charge in the output of "charge list".
type listed struct {
	ID     string `json:"id"`
	Server string `json:"server"`
	Tool   string `json:"tool"`
	Amount string `json:"amount"`
	State  string `json:"state"`
}

// readBooks reads charges and balances from the platform after the demonstration,
// and verifies the ledger.
func (d *demonstration) readBooks(ctx context.Context, operator demo.Operator) (err error) {
	if err := operator.Run(ctx, &d.charges, "charge", "list", "--account", accountName, "--limit", "2"); err != nil {
		return err
	}
	if d.after, err = operator.Account(ctx, accountName); err != nil {
		return err
	}
	earner, err := operator.Account(ctx, provider)
	if err != nil {
		return err
	}
	d.earned = earner.TestBalance
	d.transactions, err = operator.VerifyLedger(ctx)
	return err
}

// report prints the results of the demonstration, and commands to try next.
func report(w io.Writer, o options, d *demonstration) {
	fmt.Fprintf(w, "\nA gateway without a store is up at %s. It asks the platform at %s.\n", o.endpoint(), o.platform())
	fmt.Fprint(w, "An agent has called a paid tool through the gateway:\n\n")
	demo.Line(w, "call", "%s %s", demo.PaidTool, demo.PaidArgs)
	demo.Line(w, "result", "%s", d.call.Result)
	demo.Line(w, "charged", "%s %s (%s)", d.call.Charge.Amount, d.call.Charge.Currency, d.call.Charge.ID)
	demo.Line(w, "receipt", "%s", demo.Shorten(d.call.Receipt))
	fmt.Fprint(w, "\nA server that charges by itself has charged the same agent, by POST /api/v1/charge:\n\n")
	demo.Line(w, "charged", "%s %s (%s), balance %s", d.charge.Amount, d.charge.Currency, d.charge.ID, d.charge.Balance)
	fmt.Fprint(w, "\nThen the agent's key was deleted at the platform, and used at the gateway:\n\n")
	demo.Line(w, "deleted", "%s", d.deleted.ID)
	demo.Line(w, "refused", "%s", d.refusal)
	fmt.Fprint(w, "\nWhat the platform's books say:\n\n")
	for _, c := range d.charges {
		demo.Line(w, "charge", "%s at %s, %s: %s (%s)", c.Amount, c.Server, c.Tool, c.State, c.ID)
	}
	demo.Line(w, "balance", "%s before, %s after (test credits)", d.before.TestBalance, d.after.TestBalance)
	demo.Line(w, "earned", "%s by %s (test credits)", d.earned, provider)
	demo.Line(w, "ledger", "verified: %d transactions", d.transactions)

	fmt.Fprint(w, "\nGive it to an MCP client, with a second key (it is shown only now):\n\n")
	fmt.Fprintf(w, "  %s\n", demo.ClientCommand(o.endpoint(), d.key.Secret))
	fmt.Fprint(w, "\nSee the books, and what the API can do:\n\n")
	fmt.Fprintf(w, "  %s farebox charge list --account %s --address '%s'\n", o.Farebox, accountName, o.platformAdmin)
	fmt.Fprintf(w, "  %s/api/v1/docs\n", o.platform())
	fmt.Fprintf(w, "\nThe store and the logs are in %s.", o.Data)
	if o.Once {
		fmt.Fprintln(w)
		return
	}
	fmt.Fprintln(w, " Ctrl-C ends all of it.")
}
