package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/table"
)

var errNeedsServer = errors.New("this needs the running server, because it is about the running config: leave --offline out")

func (c *connection) needsServer(cmd *cobra.Command, _ []string) error {
	if c.Offline {
		return c.report(cmd, errNeedsServer)
	}
	return nil
}

func checkServer(c *connection) *cobra.Command {
	var check ops.ServerCheck
	cmd := &cobra.Command{
		Use: "check <server>", Short: "Asks a server what it offers, and compares that with its price book", Args: exactly("<server>"),
		Long: `Asks a server what it offers, and compares that with its price book.

The running gateway asks through the handlers that follow farebox in its route:
through the same proxy as calls, with the headers that the config sets, and
without a key.
Nothing is charged. It looks for the server at /mcp, /mcp/, / and where clients
call; --path names another place.

Each tool, prompt and resource is priced, free, or hidden: no price names it and
unpriced denies it, or its name cannot be called. A price that matches nothing is
unknown, if the server offers nothing of its name, or shadowed, if other prices
take all that it would. The output also shows what is new, changed or gone since
the last check of this gateway.

The exit status is 1 if a price is unknown or shadowed.`,
		PreRunE: c.needsServer,
	}
	cmd.Flags().StringVar(&check.Path, "path", "", "Where the server answers, as its proxy is asked (default: look for it)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		raw, err := c.Call(cmd.Context(), ops.CheckServer.Method, pathOf(&ops.CheckServer.Operation, args[0]), check)
		if err != nil {
			return err
		}
		view, err := decode[ops.CheckView](raw)
		if err != nil {
			return err
		}
		if c.json {
			err = printJSON(cmd.OutOrStdout(), raw)
		} else {
			err = printCheck(cmd.OutOrStdout(), &view)
		}
		if err == nil && len(view.Prices) > 0 {
			err = fmt.Errorf("the price book does not fit the server: prices that match nothing: %d", len(view.Prices))
		}
		return err
	}
	return cmd
}

// toolsCommand returns the command "server check" by the name that people look for first.
func toolsCommand(c *connection) *cobra.Command {
	cmd := checkServer(c)
	cmd.Use, cmd.Short = "tools <server>", "Shows the tools of a server with their prices: the same as server check"
	return cmd
}

// printServer prints a server and its prices, each with the items that it applied to at
// the last check.
func printServer(w io.Writer, s ops.ServerDetail) {
	checked := "never"
	if s.CheckedAt != nil {
		checked = s.CheckedAt.Format(time.RFC3339)
	}
	table.Fields(w, "server", s.Name, "provider", orDash(s.Provider), "url", orDash(s.URL), "unpriced", s.Unpriced,
		"charge on", orDash(strings.Join(s.ChargeOn, " ")), "charge if", orDash(s.ChargeIf), "free quota", orDash(s.FreeQuota), "fee", orDash(s.Fee), "checked", checked)
	fmt.Fprintln(w)
	_ = table.Print(w, []string{"KIND", "PRICE", "AMOUNT", "ITEMS", "SOURCE"}, s.Prices, func(p ops.PriceView) []any {
		return []any{p.Kind, p.Pattern, priceText(&p, s.Currency), orDash(namesOf(p.Items)), orDash(p.Source)}
	})
	for _, i := range s.NoPrice {
		fmt.Fprintf(w, "%s %q has no price, and is %s\n", i.Kind, i.Name, i.State)
	}
}

func priceText(p *ops.PriceView, currency string) string {
	switch {
	case p.Amount != nil:
		return p.Amount.String() + " " + currency
	case p.Max != nil:
		return "up to " + p.Max.String() + " " + currency
	}
	return "-"
}

// namesOf returns the names of the items. The name of an item with a changed definition
// has a star.
func namesOf(list []ops.KnownItem) string {
	names := make([]string, len(list))
	for i, item := range list {
		if names[i] = item.Name; item.ChangedAt != nil {
			names[i] += "*"
		}
	}
	return strings.Join(names, " ")
}

func printCheck(w io.Writer, v *ops.CheckView) error {
	fmt.Fprintf(w, "%s: %s answers at %s and offers %d items.\n", v.Server, orDash(strings.TrimSpace(v.Name+" "+v.Version)), v.Path, len(v.Items))
	err := table.Print(w, []string{"KIND", "NAME", "STATE", "PRICE", "BY", "SINCE LAST TIME"}, v.Items, func(i ops.OfferedView) []any {
		price := "-"
		if i.Price != nil {
			price = i.Price.String() + " " + v.Currency
			if i.Varies {
				price = "up to " + price
			}
		}
		return []any{i.Kind, i.Name, i.State, price, orDash(i.By), orDash(i.Change)}
	})
	for _, i := range v.Items {
		if i.Reason != "" {
			fmt.Fprintf(w, "%s %q is hidden: %s\n", i.Kind, i.Name, i.Reason)
		}
	}
	for _, p := range v.Prices {
		fmt.Fprintln(w, idlePriceText(p))
	}
	for _, g := range v.Gone {
		fmt.Fprintf(w, "%s %q is gone\n", g.Kind, g.Name)
	}
	if v.Since == nil {
		fmt.Fprintln(w, "This is the first check: the next one reports changes.")
	} else {
		fmt.Fprintf(w, "It was checked before at %s.\n", v.Since.Format(time.RFC3339))
	}
	return err
}

// idlePriceText explains why a price applies to no item.
func idlePriceText(p ops.IdlePrice) string {
	place := ""
	if p.Source != "" {
		place = " (" + p.Source + ")"
	}
	if p.State == ops.PriceShadowed {
		return fmt.Sprintf("price %q%s is shadowed: others take all that it would of what the server offers", p.Price, place)
	}
	return fmt.Sprintf("price %q%s is unknown: the server offers nothing of that name", p.Price, place)
}
