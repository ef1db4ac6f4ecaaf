package caddymodule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// compileSpending checks the caps, the free quota and the fee of a handler.
func (h *Handler) compileSpending() (err error) {
	if h.Caps != nil {
		if h.caps, err = h.Caps.parse(); err != nil {
			return err
		}
	}
	if h.FreeQuota != "" {
		if h.freeCalls, err = parseQuota(h.FreeQuota); err != nil {
			return err
		}
	}
	_, err = h.Fee.compile(h.Provider)
	return err
}

// compile checks the fee and returns its share. The fee's account must not be the
// provider. A nil Fee is valid and has the share 0.
func (f *Fee) compile(provider string) (ledger.Share, error) {
	if f == nil {
		return 0, nil
	}
	share, err := ledger.ParseShare(f.Share)
	if err != nil {
		return 0, fmt.Errorf("fee: %w", err)
	}
	if err := ledger.ValidName(f.Account); err != nil {
		return 0, fmt.Errorf("fee: %w", err)
	}
	if ledger.FoldName(f.Account) == ledger.FoldName(provider) {
		return 0, errors.New("fee: the account is the provider, which gets all of the charge anyway")
	}
	return share, nil
}

func (c *Caps) parse() (caps ledger.Caps, err error) {
	for _, cap := range [...]struct {
		period ledger.Period
		text   string
		amount *ledger.Amount
	}{{ledger.PerCall, c.Call, &caps.Call}, {ledger.PerDay, c.Day, &caps.Day}, {ledger.PerMonth, c.Month, &caps.Month}} {
		if cap.text == "" {
			continue
		}
		if *cap.amount, err = ledger.ParseAmount(cap.text); err != nil {
			return caps, fmt.Errorf("cap for a %s: %w", cap.period, err)
		}
		if *cap.amount <= 0 {
			return caps, fmt.Errorf("cap for a %s: %s is not above zero; leave the cap out to have none", cap.period, cap.text)
		}
	}
	return caps, nil
}

// warnOfCaps logs a warning for each cap that is probably a mistake. One mistake is a
// cap below a price: no call at that price can ever be paid. Another mistake is a cap
// above the cap of a longer period: such a cap has no effect.
func (h *Handler) warnOfCaps() {
	warn := func(text string, args ...any) {
		h.logger.Warn(text, append([]any{"server", h.Server, "at", h.Source}, args...)...)
	}
	bounds := [...]struct {
		period ledger.Period
		amount ledger.Amount
	}{{ledger.PerCall, h.caps.Call}, {ledger.PerDay, h.caps.Day}, {ledger.PerMonth, h.caps.Month}}
	for i, cap := range bounds {
		if cap.amount == 0 {
			continue
		}
		for _, p := range h.Prices {
			if price, err := ledger.ParseAmount(p.Amount); err == nil && price > cap.amount {
				warn("a price is above a cap of its server, so no account can ever pay it", "price_of", p.Tool, "price", price, "cap_for_a", cap.period, "cap", cap.amount)
			}
		}
		for _, longer := range bounds[i+1:] {
			if longer.amount != 0 && longer.amount < cap.amount {
				warn("a cap is above that of a longer time, so it bounds nothing: they may be exchanged", "cap_for_a", cap.period, "cap", cap.amount, "longer", longer.period, "its_cap", longer.amount)
			}
		}
	}
}

// parseQuota reads a quota such as 100/day.
func parseQuota(text string) (int64, error) {
	calls, per, _ := strings.Cut(text, "/")
	n, err := strconv.ParseInt(calls, 10, 32)
	if err != nil || n < 1 || per != "day" {
		return 0, fmt.Errorf("free_quota %q: want a number of calls a day, as in 100/day", text)
	}
	return n, nil
}

func (h *Handler) parseCap(d *caddyfile.Dispenser) error {
	var period, amount string
	if !d.Args(&period, &amount) || d.NextArg() {
		return d.Err("cap: want call, day or month, and an amount, as in: cap day 20.00")
	}
	if h.Caps == nil {
		h.Caps = new(Caps)
	}
	place := map[string]*string{"call": &h.Caps.Call, "day": &h.Caps.Day, "month": &h.Caps.Month}[period]
	switch {
	case place == nil:
		return d.Errf("cap: unknown period %q; known: call, day, month", period)
	case *place != "":
		return d.Errf("cap: %s is given twice", period)
	}
	*place = amount
	if _, err := h.Caps.parse(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (h *Handler) parseFreeQuota(d *caddyfile.Dispenser) error {
	if err := grammar.Arg(d, &h.FreeQuota); err != nil {
		return err
	}
	if _, err := parseQuota(h.FreeQuota); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// feeArgs reads the arguments of a fee.
func feeArgs(d *caddyfile.Dispenser) (*Fee, error) {
	f := new(Fee)
	if !d.Args(&f.Share, &f.Account) || d.NextArg() {
		return nil, d.Err("fee: want a share and the account that gets it, as in: fee 2.5% operator")
	}
	return f, nil
}

func (h *Handler) parseFee(d *caddyfile.Dispenser) (err error) {
	if h.Fee, err = feeArgs(d); err != nil {
		return err
	}
	if _, err := ledger.ParseShare(h.Fee.Share); err != nil {
		return d.WrapErr(err)
	}
	return nil
}
