package main

import (
	"fmt"
	"io"
	"strings"
)

// demonstration is what happened.
type demonstration struct {
	before, after *account
	key           *key
	call          *paidCall
}

// report prints what happened, and what to try next.
func report(w io.Writer, o options, d *demonstration) {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "  %-9s %s\n", label, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(w, "\nFarebox is up at %s, in front of an MCP server that knows nothing of it.\n", o.endpoint())
	fmt.Fprint(w, "An agent has called a paid tool through it:\n\n")
	line("account", "%s (%s)", d.after.Name, d.after.ID)
	line("call", "%s %s", paidTool, paidArgs)
	line("result", "%s", strings.ReplaceAll(d.call.result, "\n", "\n            "))
	line("charged", "%s %s (%s)", d.call.charge.Amount, d.call.charge.Currency, d.call.charge.ID)
	line("receipt", "%s", shorten(d.call.receipt))
	line("balance", "%s before, %s after (test credits)", d.before.TestBalance, d.after.TestBalance)

	fmt.Fprint(w, "\nGive it to an MCP client (the key is shown only now):\n\n")
	fmt.Fprintf(w, "  claude mcp add --transport http weather %s --header \"Authorization: Bearer %s\"\n", o.endpoint(), d.key.Secret)
	fmt.Fprint(w, "\nOr call it by hand:\n\n")
	fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(curl(o.endpoint(), d.key.Secret), "\n", "\n  "))
	fmt.Fprint(w, "\nSee the books:\n\n")
	address := ""
	if o.admin != "localhost:2019" {
		address = " --address " + o.admin
	}
	fmt.Fprintf(w, "  %s farebox charge list --account %s%s\n", o.farebox, accountName, address)
	fmt.Fprintf(w, "\nThe store and the logs are in %s.", o.data)
	if o.once {
		fmt.Fprintln(w)
		return
	}
	fmt.Fprintln(w, " Ctrl-C ends all of it.")
}

// curl is a command that calls the paid tool; it needs no session first, since
// the weather server keeps none.
func curl(endpoint, secret string) string {
	return strings.Join([]string{
		"curl -sS " + endpoint,
		"-H 'Authorization: Bearer " + secret + "'",
		"-H 'Content-Type: application/json'",
		"-H 'Accept: application/json, text/event-stream'",
		`-d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + paidTool + `","arguments":` + paidArgs + `}}'`,
	}, " \\\n  ")
}

// shorten keeps the ends of a long text.
func shorten(s string) string {
	const ends = 24
	if len(s) <= 2*ends {
		return s
	}
	return fmt.Sprintf("%s...%s (%d bytes)", s[:ends], s[len(s)-ends:], len(s))
}
