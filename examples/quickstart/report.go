package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/fareboxhq/farebox/examples/internal/demo"
)

// demonstration holds the results of the demonstration.
type demonstration struct {
	before, after *demo.Account
	key           *demo.Key
	call          *demo.PaidCall
	link          string // the invitation for the first operator of the console; "" if there is an operator already
}

// report prints the results of the demonstration, and commands to try next.
func report(w io.Writer, o options, d *demonstration) {
	fmt.Fprintf(w, "\nFarebox is up at %s, in front of an MCP server that knows nothing of it.\n", o.endpoint())
	fmt.Fprint(w, "An agent has called a paid tool through it:\n\n")
	demo.Line(w, "account", "%s (%s)", d.after.Name, d.after.ID)
	demo.Line(w, "call", "%s %s", demo.PaidTool, demo.PaidArgs)
	demo.Line(w, "result", "%s", d.call.Result)
	demo.Line(w, "charged", "%s %s (%s)", d.call.Charge.Amount, d.call.Charge.Currency, d.call.Charge.ID)
	demo.Line(w, "receipt", "%s", demo.Shorten(d.call.Receipt))
	demo.Line(w, "balance", "%s before, %s after (test credits)", d.before.TestBalance, d.after.TestBalance)

	fmt.Fprint(w, "\nGive it to an MCP client (the key is shown only now):\n\n")
	fmt.Fprintf(w, "  %s\n", demo.ClientCommand(o.endpoint(), d.key.Secret))
	fmt.Fprint(w, "\nOr call it by hand:\n\n")
	fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(curl(o.endpoint(), d.key.Secret), "\n", "\n  "))
	if d.link != "" {
		fmt.Fprintf(w, "\nLook at it in a browser. This link makes you the operator, once, within half an hour:\n\n  %s\n", d.link)
	} else if !o.Once {
		fmt.Fprintf(w, "\nLook at it in a browser:\n\n  %s\n", o.console())
	}
	fmt.Fprint(w, "\nSee the books:\n\n")
	address := ""
	if o.admin != demo.Socket("data", "admin.sock") { // commands find the default address by themselves
		address = " --address '" + o.admin + "'"
	}
	fmt.Fprintf(w, "  %s farebox charge list --account %s%s\n", o.Farebox, accountName, address)
	fmt.Fprintf(w, "\nThe store and the logs are in %s.", o.Data)
	if o.Once {
		fmt.Fprintln(w)
		return
	}
	fmt.Fprintln(w, " Ctrl-C ends all of it.")
}

// curl returns a command line that calls the paid tool. It needs no session, because
// the weather server keeps no sessions.
func curl(endpoint, secret string) string {
	return strings.Join([]string{
		"curl -sS " + endpoint,
		"-H 'Authorization: Bearer " + secret + "'",
		"-H 'Content-Type: application/json'",
		"-H 'Accept: application/json, text/event-stream'",
		`-d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + demo.PaidTool + `","arguments":` + demo.PaidArgs + `}}'`,
	}, " \\\n  ")
}
