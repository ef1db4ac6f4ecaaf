// Package limits has the flags for spending caps, rates and times of the commands.
package limits

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// AddCap adds the flag --cap for spending caps. holder is the subject and the verb
// in the flag's help text, such as "it and its successors spend".
func AddCap(cmd *cobra.Command, caps *[]string, holder string) {
	cmd.Flags().StringArrayVar(caps, "cap", nil, "The most that "+holder+Hint)
}

// Hint is the part of the help text of --cap that says which values it takes.
const Hint = ": call=0.05, day=20.00 or month=100.00 (UTC), or none to take one away, as in day=none; may be repeated"

// AddRate adds the flag for a key's rate limit.
func AddRate(cmd *cobra.Command, rate *string) {
	cmd.Flags().StringVar(rate, "rate", "", `How often it and its successors may ask, as in "60/1m burst 100", or none`)
}

// Period is the value of a flag for a time from now, such as 14d. It is zero if the
// flag is not given.
type Period time.Duration

// Set implements pflag.Value.
func (p *Period) Set(text string) error {
	d, err := clock.ParseDuration(text)
	if err != nil || d <= 0 {
		return errors.New("want a time from now, such as 14d or 12h")
	}
	*p = Period(d)
	return nil
}

// String implements pflag.Value.
func (p *Period) String() string { return p.query() }

// Type implements pflag.Value.
func (p *Period) Type() string { return "time" }

// query returns the period in the syntax that the server parses, or "" if the flag
// is not given.
func (p *Period) query() string {
	if *p == 0 {
		return ""
	}
	return time.Duration(*p).String()
}

// ParseCaps parses caps such as day=20.00. It returns nil if texts is empty.
func ParseCaps(texts []string) (*admin.Caps, error) {
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

// CapsText renders caps on one line.
func CapsText(c *admin.Caps) string {
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
