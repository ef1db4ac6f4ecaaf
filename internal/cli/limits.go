package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// addCapFlag adds the flag for spending caps. holder names who spends.
func addCapFlag(cmd *cobra.Command, caps *[]string, holder string) {
	cmd.Flags().StringArrayVar(caps, "cap", nil,
		"The most that "+holder+": call=0.05, day=20.00 or month=100.00 (UTC), or none to take one away, as in day=none; may be repeated")
}

// addRateFlag adds the flag for a key's rate limit.
func addRateFlag(cmd *cobra.Command, rate *string) {
	cmd.Flags().StringVar(rate, "rate", "", `How often it and its successors may ask, as in "60/1m burst 100", or none`)
}

// period is a flag value for a time from now, such as 14d; zero if not given.
type period time.Duration

// Set implements pflag.Value.
func (p *period) Set(text string) error {
	d, err := parseDuration(text)
	if err != nil || d <= 0 {
		return errors.New("want a time from now, such as 14d or 12h")
	}
	*p = period(d)
	return nil
}

// String implements pflag.Value.
func (p *period) String() string { return p.query() }

// Type implements pflag.Value.
func (p *period) Type() string { return "time" }

// query returns the time as the server parses it; empty if not given.
func (p *period) query() string {
	if *p == 0 {
		return ""
	}
	return time.Duration(*p).String()
}

// parseCaps parses caps such as day=20.00. It returns nil for no caps.
func parseCaps(texts []string) (*admin.Caps, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	var caps admin.Caps
	for _, text := range texts {
		period, amount, _ := strings.Cut(text, "=")
		place := map[string]**ledger.Amount{"call": &caps.Call, "day": &caps.Day, "month": &caps.Month}[period]
		var parsed ledger.Amount
		var err error
		if amount != "none" {
			parsed, err = ledger.ParseAmount(amount)
		}
		switch {
		case place == nil || err != nil || parsed < 0 || parsed == 0 && amount != "none":
			return nil, fmt.Errorf("--cap %q cannot be read: want call, day or month, and an amount above zero or none, as in day=20.00", text)
		case *place != nil:
			return nil, fmt.Errorf("--cap: %s is given twice", period)
		}
		*place = &parsed
	}
	return &caps, nil
}

// capsText renders caps on one line.
func capsText(c *admin.Caps) string {
	if c == nil {
		return "-"
	}
	var parts []string
	for _, cap := range [...]struct {
		of     string
		amount *ledger.Amount
	}{{"call", c.Call}, {"day", c.Day}, {"month", c.Month}} {
		if cap.amount != nil {
			parts = append(parts, fmt.Sprintf("%s a %s", *cap.amount, cap.of))
		}
	}
	return strings.Join(parts, ", ")
}

// accountLimits are the flags for an account's credit limit and caps.
type accountLimits struct {
	credit string
	caps   []string
}

func (l *accountLimits) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.credit, "credit-limit", "", "How far below zero the balance may go, as in 10.00 (default: 0.00)")
	addCapFlag(cmd, &l.caps, "all its keys together spend")
}

// change returns the change that the given flags stand for.
func (l *accountLimits) change(cmd *cobra.Command) (change admin.AccountChange, err error) {
	if cmd.Flags().Changed("credit-limit") {
		limit, err := ledger.ParseAmount(l.credit)
		if err != nil {
			return change, fmt.Errorf("--credit-limit: %w", err)
		}
		change.CreditLimit = &limit
	}
	change.Caps, err = parseCaps(l.caps)
	return change, err
}

func createAccount(c *connection) *cobra.Command {
	var limits accountLimits
	cmd := &cobra.Command{
		Use: "create <name>", Short: "Makes an account", Args: exactly("<name>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := limits.change(cmd)
			if err != nil {
				return err
			}
			return do(c, cmd, http.MethodPost, "accounts", admin.NewAccount{Name: args[0], AccountChange: change}, printAccount)
		},
	}
	limits.addFlags(cmd)
	return cmd
}

func updateAccount(c *connection) *cobra.Command {
	var limits accountLimits
	cmd := &cobra.Command{
		Use: "update <account>", Short: "Changes what an account may spend, at once", Args: exactly("<account>"),
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := limits.change(cmd)
			if err != nil {
				return err
			}
			if change == (admin.AccountChange{}) {
				return errors.New("nothing to change: give --credit-limit or --cap")
			}
			return do(c, cmd, http.MethodPatch, "accounts/"+url.PathEscape(args[0]), change, printAccount)
		},
	}
	limits.addFlags(cmd)
	return cmd
}
